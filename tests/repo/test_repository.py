"""Rules that the repository keeps about itself."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import dspy_operator.edge.telemetry
import dspy_worker.cache.metrics
import dspy_worker.edge.costs
import dspy_worker.edge.telemetry
import dspy_worker.serve.feedback
import dspy_worker.store.telemetry

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT / "operator/dspy_operator",
    ROOT / "worker/dspy_worker",
    ROOT / "devcluster",
    ROOT / "faults",
]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
CRD = ROOT / "crds/dspyapps.yaml"


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in names.splitlines() if (ROOT / name).is_file()]


def test_operator_and_worker_are_folders_and_never_packages() -> None:
    """An `__init__.py` there would break every Python started in the repository root."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "worker" / "__init__.py").exists()


def test_python_starts_in_the_repository_root() -> None:
    subprocess.run([sys.executable, "-c", "import collections"], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_lives_in_it_and_stays_small(path: Path) -> None:
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text)), "a module starts with its docstring"
    assert len(text.splitlines()) <= 400, "a module has at most 400 lines: look for the seam"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_function_is_longer_than_fifty_lines(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 50] == []


def test_no_file_names_a_package_index() -> None:
    """Locks hold versions and hashes; which index serves them is the reader's business."""
    address = re.compile(rb"--(extra-)?index-url|--find-links|\"resolved\": *\"https?://")
    itself = Path(__file__)

    assert [p for p in tracked() if p != itself and address.search(p.read_bytes())] == []


def test_neither_image_installs_litellm_or_diskcache() -> None:
    for lock in tracked("requirements/*.txt"):
        assert not re.search(r"^(litellm|diskcache)\b", lock.read_text(), re.MULTILINE), lock


def test_the_charts_crds_are_the_repositorys() -> None:
    chart = ROOT / "charts/dspy-operator"
    copies = {p.name: p.read_text() for p in chart.rglob("crds/*.yaml")}

    assert copies == {p.name: p.read_text() for p in (ROOT / "crds").glob("*.yaml")}


def schema_nodes(node: dict[str, object], path: str) -> Iterator[tuple[str, dict[str, object]]]:
    yield path, node
    for name, child in dict(node.get("properties", {})).items():  # type: ignore[call-overload]
        yield from schema_nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        child = node.get(key)
        if isinstance(child, dict):
            yield from schema_nodes(child, f"{path}[]")


def crd_nodes() -> list[tuple[str, dict[str, object]]]:
    crd = yaml.safe_load(CRD.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return list(schema_nodes(schema, "DSPyApp"))


def test_every_field_of_the_api_is_described() -> None:
    kubernetes_own = "DSPyApp.metadata"  # the API server allows no description of ours there
    undescribed = [path for path, node in crd_nodes() if not node.get("description")]

    assert undescribed == [kubernetes_own]


def test_every_string_list_and_map_of_the_spec_is_bounded() -> None:
    """Bounds keep objects small and the cost of CEL rules known."""
    bounds = {"string": "maxLength", "array": "maxItems"}
    open_ends = [
        path
        for path, node in crd_nodes()
        if path.startswith("DSPyApp.spec")
        and node.get("type") in bounds
        and "enum" not in node
        and bounds[str(node["type"])] not in node
    ]

    assert open_ends == []


def test_the_api_has_no_floats_and_conventional_enums() -> None:
    assert [path for path, node in crd_nodes() if node.get("type") == "number"] == []
    for path, node in crd_nodes():
        assert all(str(v)[:1].isupper() for v in node.get("enum", [])), path  # type: ignore[attr-defined]


def test_a_crd_can_be_applied_client_side() -> None:
    """The manifest is kept by kubectl in an annotation of at most 262,144 bytes."""
    assert CRD.stat().st_size < 200_000


def test_every_field_of_the_api_stands_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/dspyapp.md").read_text()
    fields = [path for path, _ in crd_nodes() if path.startswith("DSPyApp.spec.")]
    missing = [p for p in fields if f"`{p.removeprefix('DSPyApp.')}`" not in reference]

    assert missing == [], "run: make reference"


def test_ci_calls_the_command_that_the_readme_names() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make demo" in (ROOT / "README.md").read_text()


def test_every_condition_reason_stands_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/conditions.md").read_text()
    sources = [*(ROOT / "operator/dspy_operator/core").rglob("*.py")]
    sources.append(ROOT / "operator/dspy_operator/errors.py")
    text = "\n".join(path.read_text() for path in sources)
    reasons = set(re.findall(r'\breason(?:: str)? ?= ?"([A-Z]\w+)"', text))

    assert reasons
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in reference] == []


def test_every_metric_stands_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    worker = dspy_worker.edge.telemetry.Metrics("app").registry
    dspy_worker.serve.feedback.Tally("app", worker)
    dspy_worker.store.telemetry.StoreMetrics(worker)
    dspy_worker.cache.metrics.CacheMetrics(worker)
    dspy_worker.edge.costs.Costs(worker, "app")
    operator = dspy_operator.edge.telemetry.Telemetry().registry
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for registry in (worker, operator)
        for family in registry.collect()
        if family.name.startswith("dspy")
    }

    assert len(names) > 20
    assert [name for name in sorted(names) if f"`{name}`" not in reference] == []
