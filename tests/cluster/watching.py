"""Every version of some objects, as a watch sees them: no state in between is missed."""

import json
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devcluster.access import Access


class Watch:
    """`kubectl get --watch` into a file; a context manager.

    Polling would miss what lasts for a moment, and moments are what is asked about.
    """

    def __init__(self, access: Access, file: Path, *what: str) -> None:
        self._file = file
        self._command = [
            *("setpriv", "--pdeathsig", "KILL"),
            *(str(access.kubectl_path), f"--kubeconfig={access.kubeconfig}", "get", *what),
            *("--watch", "--output-watch-events", "--output=json"),
        ]

    def __enter__(self) -> Self:
        with self._file.open("wb") as output:
            self._process = subprocess.Popen(self._command, stdout=output)
        time.sleep(1)  # an empty list is answered by silence
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def events(self) -> list[dict[str, Any]]:
        """Return the complete events so far: `type` and `object`."""
        assert self._process.poll() is None, "the watch has ended"
        return parse(self._file.read_text(encoding="utf-8"))

    def objects(self) -> list[dict[str, Any]]:
        """Return the versions so far, in order, those of several objects among each other."""
        return [event["object"] for event in self.events()]


def parse(text: str) -> list[dict[str, Any]]:
    """Split documents that follow each other; the last one may be cut off."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        found.append(document)
    return found
