"""What is written from the chart: its README, the schema's descriptions, plain manifests.

`make reference` calls this. Comments in values.yaml that begin with `# -- ` are the one source of
what a value means, in the way of helm-docs; the README's template is one for helm-docs too, of
which only the table of values is filled in here.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/dspy-operator"
NAMESPACE = "dspy-system"
TABLE = '{{ template "chart.valuesTable" . }}'
MARK = "# -- "
_HELMS_OWN = ("helm.sh/chart", "app.kubernetes.io/managed-by", "helm.sh/resource-policy")
_HEAD = """# The operator without Helm: `kubectl apply --server-side -f deploy/dspy-operator.yaml`.
# Written from charts/dspy-operator by `make reference`; do not edit.
"""
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One documented value.

    Attributes:
        path: Names from the top, as `--set` takes them.
        default: What it is when nobody sets it.
        text: Its comment, in one line.
    """

    path: tuple[str, ...]
    default: object
    text: str


def values(text: str) -> list[Value]:
    """Return the documented values of a values.yaml, in their order.

    Raises:
        ValueError: A value has no comment of its own and is part of none that has one.
    """
    top = yaml.compose(text)
    if not isinstance(top, yaml.MappingNode):
        raise ValueError("values.yaml holds no mapping")  # noqa: TRY004 - it is the file's content
    return list(_walk(top, yaml.safe_load(text), text.splitlines(), ()))


def _walk(
    node: yaml.MappingNode, content: dict[str, Any], lines: list[str], above: tuple[str, ...]
) -> Iterator[Value]:
    for key, child in node.value:
        path = (*above, key.value)
        value = content[key.value]
        comment = _comment(lines, key.start_mark.line)
        if comment:
            yield Value(path=path, default=value, text=comment)
        elif isinstance(child, yaml.MappingNode) and child.value:
            yield from _walk(child, value, lines, path)
        else:
            raise ValueError(f"{'.'.join(path)} has no comment that begins with {MARK!r}")


def _comment(lines: list[str], line: int) -> str:
    """Return the documenting comment right above a line, or ""."""
    first = line
    while first > 0 and lines[first - 1].strip().startswith("#"):
        first -= 1
        if lines[first].strip().startswith(MARK):
            words = [each.strip().lstrip("#").strip() for each in lines[first:line]]
            return " ".join(words).removeprefix("--").strip()
    return ""


def readme() -> str:
    """Return the chart's README."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values((CHART / "values.yaml").read_text()):
        default = json.dumps(value.default)
        text = value.text.replace("|", "\\|").replace("<", "&lt;")
        rows.append(f"| `{'.'.join(value.path)}` | `{default}` | {text} |")
    return (CHART / "README.md.gotmpl").read_text().replace(TABLE, "\n".join(rows))


def schema() -> str:
    """Return the schema of the values with descriptions from the comments.

    Raises:
        ValueError: The schema does not know a value.
    """
    found = json.loads((CHART / "values.schema.json").read_text())
    for value in values((CHART / "values.yaml").read_text()):
        node = found
        for name in value.path:
            if name not in node.get("properties", {}):
                raise ValueError(f"values.schema.json does not know {'.'.join(value.path)}")
            node = node["properties"][name]
        kept = {k: v for k, v in node.items() if k != "description"}
        node.clear()
        node.update({"description": value.text, **kept})
    return json.dumps(found, indent=2) + "\n"


def render(helm: Path, *arguments: str) -> list[dict[str, Any]]:
    """Return what a release named dspy-operator consists of, without its tests."""
    command = [str(helm), "template", "dspy-operator", str(CHART), f"--namespace={NAMESPACE}"]
    done = subprocess.run(
        [*command, "--skip-tests", *arguments], check=True, capture_output=True, text=True
    )
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def plain(helm: Path) -> str:
    """Return the manifests of `deploy/`: the default release, and nothing that speaks of Helm."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": _RESTRICTED},
    }
    objects = [namespace, *(_without_helm(each) for each in render(helm))]
    return _HEAD + "---\n" + yaml.safe_dump_all(objects, sort_keys=False, width=100)


def _without_helm(node: Any) -> Any:  # noqa: ANN401 - whatever YAML may hold
    if isinstance(node, dict):
        kept = {k: _without_helm(v) for k, v in node.items() if k not in _HELMS_OWN}
        if kept.get("annotations") == {}:
            del kept["annotations"]
        return kept
    return [_without_helm(each) for each in node] if isinstance(node, list) else node
