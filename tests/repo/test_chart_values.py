"""Values of the chart: each is described, checked by the schema, and read by a template."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests import charts

README = (charts.CHART / "README.md").read_text()
DOCUMENTED = re.findall(r"^\| `([\w.]+)` \|", README, re.MULTILINE)


def described(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Return the paths of values in the schema: the first on each branch with a description."""
    for name, child in node["properties"].items():
        if "description" in child:
            yield f"{path}{name}"
        else:
            assert child["additionalProperties"] is False, f"{path}{name} takes any name"
            yield from described(child, f"{path}{name}.")


@charts.needs_helm
def test_what_is_written_from_other_files_is_current() -> None:
    """The chart's README, its schema's descriptions, the plain manifests, the API's reference."""
    command = [sys.executable, "tools/reference.py", "--check"]
    done = subprocess.run(command, cwd=charts.ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, f"{done.stdout}{done.stderr}run: make reference"


def test_the_schema_knows_the_values_that_are_documented_and_no_other() -> None:
    schema = json.loads((charts.CHART / "values.schema.json").read_text())

    assert len(DOCUMENTED) > 60
    assert set(described(schema)) - {"global"} == set(DOCUMENTED)


@pytest.mark.parametrize("path", DOCUMENTED)
def test_a_template_reads_every_value(path: str) -> None:
    """Templates walk into groups of values, so the last name is looked for."""
    texts = [f.read_text() for f in (charts.CHART / "templates").rglob("*.*")]

    assert any(re.search(rf"\.{path.rpartition('.')[2]}\b", text) for text in texts)
