"""Write what follows from other files: `make reference`; with `--check` only tell what is stale.

From the CRD: docs/reference/dspyapp.md. From the chart: its README, the descriptions in the schema
of its values, and the plain manifests in deploy/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import chart
import yaml

from devcluster.layout import Layout
from devcluster.progress import Progress
from devcluster.target import find_helm

ROOT = Path(__file__).parents[1]

HEAD = """# DSPyApp

`dspy-operator.io/v1alpha1`, short name `dapp`, category `dspy`. Written from
`crds/dspyapps.yaml` by `make reference`; `kubectl explain dapp.spec` shows the same.
"""


def bounds(node: dict[str, Any]) -> str:
    """Return the limits of a field as a person writes them."""
    words = {
        "minimum": "at least",
        "maximum": "at most",
        "maxLength": "characters at most",
        "maxItems": "entries at most",
        "maxProperties": "entries at most",
    }
    parts = [f"{words[k]} {node[k]}" for k in words if k in node]
    if "enum" in node:
        parts.append("one of " + ", ".join(f"`{v}`" for v in node["enum"]))
    if "pattern" in node:
        parts.append(f"pattern `{node['pattern']}`".replace("|", "\\|"))
    return "; ".join(parts)


def rows(node: dict[str, Any], path: str) -> list[str]:
    """Return the table rows of a schema node's fields, depth first."""
    found = []
    required = node.get("required", [])
    for name, child in node.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        kind = child.get("type") or "integer or string"
        default = f"`{child['default']}`" if child.get("default") not in (None, {}) else ""
        default = "required" if name in required else default
        text = " ".join(child.get("description", "").split()).replace("|", "\\|")
        found.append(f"| `{where}` | {kind} | {default} | {text} {bounds(child)} |")
        found += rows(child, where)
        for inner in (child.get("items"), child.get("additionalProperties")):
            if isinstance(inner, dict):
                found += element(inner, f"{where}[]")
    return found


def element(node: dict[str, Any], where: str) -> list[str]:
    """Return the rows of a list's or map's element."""
    text = " ".join(node.get("description", "").split())
    first = f"| `{where}` | {node.get('type', 'integer or string')} |  | {text} {bounds(node)} |"
    return [first, *rows(node, where)]


def rules(node: dict[str, Any], path: str) -> list[str]:
    """Return the messages of all CEL rules below a node."""
    own = [
        f"* `{path or 'DSPyApp'}`: {r['message']}" for r in node.get("x-kubernetes-validations", [])
    ]
    for name, child in node.get("properties", {}).items():
        own += rules(child, f"{path}.{name}".lstrip("."))
    if isinstance(node.get("items"), dict):
        own += rules(node["items"], f"{path}[]")
    return own


def page() -> str:
    """Return the whole page."""
    crd = yaml.safe_load((ROOT / "crds/dspyapps.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    head = "| field | type | default | meaning |\n|---|---|---|---|\n"
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    return "\n".join(
        [
            HEAD,
            "## Spec\n",
            head + "\n".join(rows(spec, "spec")),
            "\n## Rules that admission checks\n",
            "\n".join(rules(schema, "")),
            "\n## Status\n",
            head + "\n".join(rows(status, "status")),
            "",
        ]
    )


def outputs() -> dict[Path, str]:
    """Return what has to be in each file."""
    helm = find_helm(Layout.of_checkout(), Progress(quiet=True))
    return {
        ROOT / "docs/reference/dspyapp.md": page(),
        chart.CHART / "README.md": chart.readme(),
        chart.CHART / "values.schema.json": chart.schema(),
        ROOT / "deploy/dspy-operator.yaml": chart.plain(helm),
    }


def main(arguments: list[str]) -> int:
    """Write every file that differs, or name them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args(arguments).check
    wanted = outputs()
    stale = [p for p in wanted if not p.exists() or p.read_text() != wanted[p]]
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
