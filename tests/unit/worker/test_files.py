"""The app document as a file, and the word that a failed start leaves."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from dspy_worker.errors import LoadError
from dspy_worker.serve import files, lifecycle

if TYPE_CHECKING:
    from pathlib import Path

APP = """
apiVersion: dspy-operator.io/v1alpha1
kind: DSPyApp
metadata: {name: tickets}
spec:
  program:
    signature: {inputs: [{name: text}], outputs: [{name: label}]}
  models: [{name: main, model: m, endpoint: "http://lm.example.com/v1"}]
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: lm}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "app.yaml"
    path.write_text(text)
    return path


def test_an_app_is_found_among_other_manifests(tmp_path: Path) -> None:
    path = written(tmp_path, f"{SECRET}---\n{APP}---\n")

    assert files.document(path).name == "tickets"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML: .* in line 2|is not valid YAML: .* in line 1"),
        (f"{APP}---\n{APP}", "must hold exactly one DSPyApp, it has 2"),
        ("", "must hold exactly one DSPyApp, it has 0"),
        (APP.replace("name: text", "nam: text"), r"spec.program.signature.inputs\[0\].name"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(LoadError, match=message) as caught:
        files.document(path)

    assert str(path) in str(caught.value)


def test_a_date_is_the_text_that_is_written_as_for_kubectl(tmp_path: Path) -> None:
    demos = "    demos: [{text: 2026-01-31, label: dated}]\n"
    path = written(tmp_path, APP.replace("  models:", f"{demos}  models:"))

    assert files.document(path).program.demos[0]["text"] == "2026-01-31"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="there is no file"):
        files.document(tmp_path / "none.yaml")


def test_the_kubelet_finds_the_reason_and_it_fits(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()

    files.leave_word("\u00e4" * 10_000, log)

    assert len(log.read_bytes()) <= 4096
    assert json.loads(log.read_text())["reason"] == "ProgramFailed"


def test_on_a_laptop_no_word_is_left(tmp_path: Path) -> None:
    files.leave_word("broken", tmp_path / "termination-log")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"), [(None, 5.0), ("", 5.0), ("0.5", 0.5), ("-1", 0.0), ("900", 10.0)]
)
def test_the_grace_leaves_half_of_the_drain_for_answers(text: str | None, expected: float) -> None:
    assert lifecycle.grace_seconds(20, text) == expected


def test_a_grace_that_is_no_number_is_refused() -> None:
    with pytest.raises(LoadError, match="DSPY_WORKER_DRAIN_GRACE_SECONDS must be a number"):
        lifecycle.grace_seconds(20, "soon")


def test_an_endpoint_can_be_another_one_on_a_laptop(tmp_path: Path) -> None:
    found = files.document(written(tmp_path, APP))

    moved = files.with_endpoints(found, ["main=http://127.0.0.1:1/v1/"])

    assert moved.models[0].endpoint == "http://127.0.0.1:1/v1"
    assert moved.digest == found.digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://127.0.0.1/v1", "must be MODEL=URL"),
        ("main=127.0.0.1/v1", "must be MODEL=URL"),
        ("judge=http://127.0.0.1/v1", "the app has no model 'judge', only ['main']"),
    ],
)
def test_a_wrong_endpoint_says_what_would_be_right(tmp_path: Path, text: str, says: str) -> None:
    found = files.document(written(tmp_path, APP))

    with pytest.raises(LoadError, match=re.escape(says)):
        files.with_endpoints(found, [text])
