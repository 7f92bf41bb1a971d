"""Have checkov look at the chart and at what the operator makes, with every check on: `make scan`.

Three installs are looked at, as the chart comes, highly available and namespaced, and six apps.
Images are pinned by digest, as a release pins them. The pod of `helm test` is left out: it is no
part of an install, and has no probes since it ends by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import chart
import children
import yaml

from devcluster.layout import Layout
from devcluster.progress import Progress
from devcluster.target import find_helm

PINNED = f"image.digest=sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What checkov says of one install.

    Attributes:
        passed: Number of checks that passed.
        failed: The others: number and name of the check, and the object.
    """

    passed: int
    failed: tuple[str, ...]


def scan(checkov: Path, manifests: str) -> Verdict:
    """Return what checkov says of a stream of manifests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifests.yaml"
        file.write_text(manifests)
        flags = ("--framework", "kubernetes", "--skip-download", "--output", "json", "--soft-fail")
        command = [str(checkov), "--file", str(file), *flags]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    failed = [
        f"{c['check_id']} {c['check_name']}: {c['resource']}"
        for c in found["results"]["failed_checks"]
    ]
    if found["summary"]["parsing_errors"] or not found["summary"]["passed"]:
        failed.append("checkov could not read the manifests")
    return Verdict(passed=found["summary"]["passed"], failed=tuple(failed))


def main(checkov: Path) -> int:
    """Print a table; return 1 when anything failed."""
    helm = find_helm(Layout.of_checkout(), Progress(quiet=True))
    bad = 0
    print(f"{'values':<24} {'passed':>7} {'failed':>7}")
    for values in sorted((chart.CHART / "ci").glob("*-values.yaml")):
        objects = chart.render(helm, "--values", str(values), "--set", PINNED)
        kept = [d for d in objects if d["kind"] != "CustomResourceDefinition"]
        bad += show(values.name, scan(checkov, yaml.safe_dump_all(kept)))
    for name in children.SETS:
        text = yaml.safe_dump_all(children.rendered(name))
        bad += show(f"app: {name}", scan(checkov, text))
    return 1 if bad else 0


def show(name: str, verdict: Verdict) -> int:
    """Print one line, and one for each failure; return the number of failures."""
    print(f"{name:<24} {verdict.passed:>7} {len(verdict.failed):>7}")
    for line in verdict.failed:
        print(f"  {line}")
    return len(verdict.failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
