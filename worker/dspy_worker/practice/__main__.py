"""`python -m dspy_worker.practice`: serve the practice LM."""

from __future__ import annotations

import argparse
from pathlib import Path

from dspy_worker.practice import server


def options(arguments: list[str] | None = None) -> server.Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="dspy_worker.practice", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--fixed", action="store_true", help="constant answers, for benchmarks")
    parser.add_argument("--require-key", type=Path, metavar="KEYFILE", help="others get 401")
    return server.Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    server.run(options())
