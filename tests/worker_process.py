"""Real `dspy-worker serve` processes for tests, with their files in a folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from dspy_worker import contract
from dspy_worker.contract import app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = [str(Path(sys.executable).parent / "dspy-worker")]
TOKEN = "ops-token"
STOP_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A running worker.

    Attributes:
        url: Address of the public port.
        ops: Address of the ops port.
        folder: Its files: app.json, keys/, connections/, data/, token and the user's Python.
        process: The process.
        log: File with its output.
    """

    url: str
    ops: str
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path

    def predict(self, *, headers: dict[str, str] | None = None, **inputs: object) -> httpx.Response:
        """Ask for one prediction."""
        body = {"inputs": inputs}
        return httpx.post(f"{self.url}/v1/predict", json=body, headers=headers, timeout=60)

    def state(self) -> dict[str, Any]:
        """Return what the operator would read."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return dict(httpx.get(self.ops + contract.STATE_PATH, headers=headers).json())

    def ready(self) -> httpx.Response:
        """Ask the readiness probe."""
        return httpx.get(self.ops + contract.READY_PATH)

    def set_key(self, key: str, model: str = "main") -> None:
        """Replace the key's file as the kubelet does: by renaming."""
        _replace(self.folder / "keys" / model / contract.KEY_FILE, key)

    def set_url(self, url: str, connection: str) -> None:
        """Replace the file with the URL of a connection."""
        set_url(self.folder, connection, url)

    def health(self) -> dict[str, tuple[str, str]]:
        """Return state and detail of each component."""
        found = httpx.get(f"{self.url}/v1/health").json()["components"]
        return {part["name"]: (part["state"], part["detail"]) for part in found}

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a series; 0 where there is none."""
        for line in httpx.get(self.ops + contract.METRICS_PATH).text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                return float(found[2])
        return 0.0


def set_url(folder: Path, name: str, url: str) -> None:
    """Write or replace the URL of a worker's connection."""
    _replace(folder / "connections" / name / contract.URL_FILE, url)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def document(
    lm_url: str, program: dict[str, Any], *, model: dict[str, Any] | None = None, **serving: object
) -> dict[str, Any]:
    """Return an app that asks the LM at `lm_url`."""
    described = {"name": "main", "model": "practice", "endpoint": lm_url, **(model or {})}
    return {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "tickets"},
        "spec": {"program": program, "models": [described], "serving": serving},
    }


def command(folder: Path, described: dict[str, Any], token: str = TOKEN) -> list[str]:
    """Write the files of a worker and return the command that serves them on free ports."""
    (folder / "app.json").write_text(json.dumps(described))
    (folder / "token").write_text(token)
    options = ["--host", "127.0.0.1", "--port", "0", "--ops-port", "0"]
    files = ["--keys-dir", f"{folder}/keys", "--ops-token-file", f"{folder}/token"]
    files += ["--data-dir", f"{folder}/data"]
    if (folder / "connections").is_dir():
        files += ["--connections-dir", f"{folder}/connections"]
    return [*COMMAND, "serve", f"{folder}/app.json", *options, *files]


@contextmanager
def running(
    folder: Path,
    described: dict[str, Any],
    *,
    grace_seconds: float = 0.2,
    token: str = TOKEN,
    before: Sequence[str] = (),
    **environ: str,
) -> Iterator[Worker]:
    """Run a worker until the end of the block, and end it if it is still there then.

    Args:
        folder: Where its files are.
        described: The app.
        grace_seconds: How long it goes on accepting when it is told to stop.
        token: Its ops token.
        before: A command that runs the worker's, with what the worker needs around it.
        environ: More variables of its environment.
    """
    log = folder / "worker.log"
    environment = {
        **os.environ,
        "DSPY_WORKER_DRAIN_GRACE_SECONDS": str(grace_seconds),
        **environ,
    }
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            [*before, *command(folder, described, token)],
            stdout=sink,
            stderr=sink,
            env=environment,
        ) as process,
    ):
        try:
            yield _worker(process, folder, log)
        finally:
            process.kill()
            process.wait(STOP_SECONDS)


def _worker(process: subprocess.Popen[bytes], folder: Path, log: Path) -> Worker:
    while True:
        for line in log.read_text().splitlines():
            if '"event":"serving"' in line:
                told = json.loads(line)
                return Worker(
                    url=f"http://127.0.0.1:{told['port']}",
                    ops=f"http://127.0.0.1:{told['ops_port']}",
                    folder=folder,
                    process=process,
                    log=log,
                )
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the worker has ended: {log.read_text()}")
