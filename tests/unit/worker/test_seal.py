"""Where the secret behind prediction ids comes from, and what happens when it changes."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dspy_worker.edge import keys
from dspy_worker.serve import seal
from dspy_worker.serve.predict import Label
from dspy_worker.serve.seal import Seal

if TYPE_CHECKING:
    from pathlib import Path

LABEL = Label(app="demo/tickets", variant="3f9a01c2d4e5")


class Pod:
    """A pod with a clock of its own for its look at the token."""

    def __init__(self, token: Path, label: Label = LABEL) -> None:
        self.now = 0.0
        self.seal = Seal(label, keys.FileKey(token, lambda: self.now), None)

    def wait(self) -> None:
        self.now += keys.LOOK_SECONDS


def replace(token: Path, text: str) -> None:
    token.with_suffix(".new").write_text(text)
    token.with_suffix(".new").rename(token)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def test_any_pod_of_an_app_reads_the_names_of_the_others(token: Path) -> None:
    other = Pod(token, Label(app=LABEL.app, variant="0" * 12))

    found = other.seal.read(Pod(token).seal.name())

    assert found is not None
    assert (found.variant, found.epoch) == (LABEL.variant, 0)


def test_names_of_an_app_with_the_same_token_are_foreign(token: Path) -> None:
    other = Pod(token, Label(app="demo/mail", variant=LABEL.variant))

    assert other.seal.read(Pod(token).seal.name()) is None


def test_a_replaced_token_makes_new_names_and_old_ones_stay_good(token: Path) -> None:
    pod, other = Pod(token), Pod(token)
    old = pod.seal.name()
    replace(token, "second")
    pod.wait()
    other.wait()

    new = pod.seal.name()

    assert other.seal.read(new)
    assert other.seal.read(old)
    assert Pod(token).seal.read(new)
    assert Pod(token).seal.read(old) is None


def test_a_token_that_is_gone_for_a_while_changes_nothing(token: Path) -> None:
    pod = Pod(token)
    old = pod.seal.name()
    token.unlink()
    pod.wait()

    meanwhile = pod.seal.name()
    replace(token, "first")

    assert Pod(token).seal.read(meanwhile)
    assert pod.seal.read(old)


def test_a_token_that_comes_late_is_used_from_then_on(tmp_path: Path) -> None:
    pod = Pod(tmp_path / "token")
    early = pod.seal.name()
    replace(tmp_path / "token", "first")
    pod.wait()

    assert Pod(tmp_path / "token").seal.read(pod.seal.name())
    assert pod.seal.read(early)


def test_without_a_token_a_restart_knows_the_names_of_yesterday(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "demo-tickets"
    yesterday = Seal(LABEL, keys.find_token(None), folder).name()

    assert Seal(LABEL, keys.find_token(None), folder).read(yesterday)


def test_the_kept_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    secret = seal.kept(tmp_path / "data")

    (path,) = (tmp_path / "data").iterdir()
    assert path.read_text() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_workers_that_start_at_once_keep_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: seal.kept(tmp_path), range(64)))

    assert len(found) == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damaged", [b"", b"0a1b", b"\xff\xfe", b"x" * 64])
def test_a_file_that_was_cut_short_is_replaced(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / seal.KEPT_FILE).write_bytes(damaged)

    assert seal.kept(tmp_path) == seal.kept(tmp_path)


def test_where_nothing_can_be_kept_the_secret_lives_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    first, second = (seal.kept(tmp_path / "file" / "data") for _ in range(2))

    assert len(first) == len(second) == 64
    assert first != second
