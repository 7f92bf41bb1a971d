"""So many tasks that `acall` one DSPy program, as fast as it answers; no server.

Reads lines "CLIENTS SECONDS" and answers each with a line of JSON, as the load generator does.
With an app's document as its argument it takes program and LM as `dspy-worker serve` makes them;
without one, DSPy's own with its defaults.
"""

# ruff: noqa: PLC0415 - the two environments do not have the same packages
from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = secrets.token_hex(4)
NUMBERS = itertools.count()


def plain() -> tuple[Any, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the tutorial's program, and what makes an event loop."""
    import dspy

    dspy.configure(
        lm=dspy.LM("openai/gpt-4o-mini", api_base=os.environ["LM_URL"], api_key="practice")
    )
    return dspy.ChainOfThought("question -> answer"), asyncio.new_event_loop


def own(app: Path) -> tuple[Any, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the worker's program and what makes its event loop."""
    import uvloop

    from dspy_worker.contract import app as documents
    from dspy_worker.serve import runtime

    document = documents.load(json.loads(app.read_text()))
    return runtime.assemble(document, runtime.Folders()).program.module, uvloop.new_event_loop


async def load(program: Any, clients: int, seconds: float) -> dict[str, float]:  # noqa: ANN401 - DSPy has no types
    """Ask questions that nobody has asked before; each client asks one at least."""
    taken: list[float] = []
    failed = 0
    start = time.perf_counter()

    async def client() -> None:
        nonlocal failed
        while True:
            asked = time.perf_counter()
            question = f"What is the number {RUN}-{next(NUMBERS)} good for?"
            try:
                await program.acall(question=question)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is counted
                print(repr(error), file=sys.stderr)
                failed += 1
            ended = time.perf_counter()
            taken.append(1000 * (ended - asked))
            if ended - start >= seconds:
                return

    await asyncio.gather(*(client() for _ in range(clients)))
    taken.sort()
    return {
        "completed": len(taken) - failed,
        "failed": failed,
        "seconds": time.perf_counter() - start,
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[len(taken) * 99 // 100],
    }


def main() -> None:
    """Do what the lines say."""
    program, loop_factory = own(Path(sys.argv[1])) if len(sys.argv) > 1 else plain()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        for line in sys.stdin:
            clients, seconds = line.split()
            print(json.dumps(runner.run(load(program, int(clients), float(seconds)))), flush=True)


if __name__ == "__main__":
    main()
