"""The program under test as a process: started, killed, and started again as a kubelet would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

_STOP_SECONDS = 40
_BACK_OFF_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Operator:
    """One `dspy-operator` for one namespace.

    Attributes:
        kubeconfig: Where it finds its API server.
        namespace: The only one that it serves, so that many can run side by side.
        log: File that takes its output.
        exits: Codes with which it ended by itself.
    """

    kubeconfig: Path
    namespace: str
    log: Path
    exits: list[int] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it; the kernel ends it with us (`setpriv`), whatever happens to us."""
        program = Path(sys.executable).parent / "dspy-operator"
        command = [str(program), f"--namespaces={self.namespace}", "--metrics-port=0"]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    *command,
                    "--worker-image=example.com/worker:1",
                ),
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._watch = asyncio.create_task(self._restart(self._process))

    async def kill(self) -> None:
        """Kill it, as a node does that loses its power."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it politely and return its exit code; kill it when it does not listen."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._watch is not None:
            self._watch.cancel()
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    async def _restart(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self.exits.append(code)
        await asyncio.sleep(_BACK_OFF_SECONDS)
        await self.start()


def write_kubeconfig(path: Path, server: str) -> Path:
    """Write a kubeconfig for a server that asks for no credentials: the proxy has its own."""
    name = "faults"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.write_text(json.dumps(content))
    return path
