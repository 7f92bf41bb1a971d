"""MLflow's model server: the tutorial's program, logged with MLflow's DSPy flavor.

`mlflow models serve` runs one uvicorn process, whose requests go to the threads of asyncio's
default pool: four more than the machine has cores. There is no option for more.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.environments import Environment
from bench.machine import CannotMeasureError
from bench.servers import base
from bench.servers.base import PROGRAMS, QUIET, Server, Site, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENVIRONMENT = Environment(
    name=".venv-bench-mlflow", packages=("mlflow==3.17.2", "dspy==3.4.1", "litellm==1.106.2")
)
LOG_SECONDS = 180


@contextlib.contextmanager
def start(site: Site) -> Iterator[Subject]:
    """Log the model and serve it."""
    environ = {
        **QUIET,
        "LM_URL": site.lm_url,
        "OPENAI_API_KEY": "practice",  # a logged model keeps no key
        "DSPY_CACHEDIR": str(site.folder / "cache"),
        # It starts uvicorn by its name.
        "PATH": f"{ENVIRONMENT.bin}:{os.environ['PATH']}",
    }
    model = _log(site.folder, environ)
    options = ["--host", "127.0.0.1", "--port", str(site.port)]
    local = ["--env-manager", "local", "--workers", "1"]
    command: list[str | Path] = [
        ENVIRONMENT.bin / "mlflow",
        "models",
        "serve",
        "-m",
        model,
        *options,
        *local,
    ]
    target = base.loopback(site, "/invocations", '{"inputs": {"question": "%s"}}')
    with base.over_http(command, target, environ) as subject:
        yield subject


def _log(folder: Path, environ: Mapping[str, str]) -> Path:
    """Log the model into a folder, where MLflow makes its database too; return where it lies."""
    done = subprocess.run(
        [ENVIRONMENT.bin / "python", PROGRAMS / "log_model.py"],
        cwd=folder,
        env={**os.environ, **environ},
        check=False,
        capture_output=True,
        text=True,
        timeout=LOG_SECONDS,
    )
    if done.returncode:
        raise CannotMeasureError(f"the model was not logged: {done.stderr.splitlines()[-1]}")
    return Path(done.stdout.splitlines()[-1])


MLFLOW = Server(name="MLflow's model server", start=start, environment=ENVIRONMENT)
