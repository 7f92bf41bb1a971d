"""`python -m bench [NAME ...]`: the benchmarks; without a name, all.

Each is a module whose `run` measures and returns its tables in Markdown. They are printed, and kept
in `.state/bench`.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from bench.machine import ROOT, CannotMeasureError

BENCHMARKS = {
    "worker": "bench.worker",
    "cache": "bench.cache",
    "soak": "bench.soak",
    "operator": "bench.operator_load",
    "scale": "bench.operator_scale",
    "endurance": "bench.operator_endurance",
    "gitops": "bench.gitops",
}


def main() -> None:
    """Run the named benchmarks."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" or ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose {' or '.join(BENCHMARKS)}")
    for name in names:
        try:
            text = str(importlib.import_module(BENCHMARKS[name]).run())
        except CannotMeasureError as error:
            sys.exit(f"bench: {error}")
        kept = ROOT / ".state" / "bench" / f"{name}.md"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text + "\n", encoding="utf-8")
        print(f"\n{text}\n\nkept in {kept.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
