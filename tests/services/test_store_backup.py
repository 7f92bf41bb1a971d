"""Backups and data sets: out of one database, into another of either kind."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dspy_worker.core import notes
from dspy_worker.core.notes import Erasure
from dspy_worker.store.database import Batch
from dspy_worker.store.postgres import Postgres as PostgresDatabase
from dspy_worker.store.sqlite import SQLite
from tests import worker_process
from tests.store_records import NOON_MS, feedback, record

if TYPE_CHECKING:
    from dspy_worker.store.database import Database
    from tests.postgres_process import Postgres

pytestmark = pytest.mark.services

PAIRS = [("postgres", "postgres"), ("postgres", "sqlite"), ("sqlite", "postgres")]
ERASURE = Erasure(subject_sha256=notes.subject_sha256("gone"), tenant="acme", unix_ms=NOON_MS)
ROWS = Batch(
    predictions=(
        *(record(n, inputs={"text": f"text {n}, \u00e4\n\t"}) for n in range(1200)),
        record(2000, prediction=None, error="LMUnavailable", cost_nanos=None),
    ),
    feedback=(
        feedback(1, 1, correction={"label": "account"}, label="wrong"),
        feedback(2, 1, correction={"label": "bug"}, unix_ms=NOON_MS + 5000, label="worse"),
        feedback(3, 2, correction=None, comment=None, score=None, label=None),
        feedback(4, 2000, correction={"label": "billing"}),
    ),
    erasures=(ERASURE,),
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [*worker_process.COMMAND, "store", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


class Places:
    """Empty databases of both kinds, by their URLs."""

    def __init__(self, folder: Path, server: Postgres) -> None:
        self._folder, self._server, self._made = folder, server, 0

    def url(self, kind: str) -> str:
        self._made += 1
        if kind == "postgres":
            return self._server.new_database()
        return f"sqlite:{self._folder}/{self._made}.sqlite"


@pytest.fixture
def places(tmp_path: Path, postgres: Postgres) -> Places:
    return Places(tmp_path, postgres)


async def database(url: str) -> Database:
    kind, _, path = url.partition(":")
    found: Database = SQLite(Path(path)) if kind == "sqlite" else PostgresDatabase(url)
    await found.open()
    return found


async def fill(url: str, batch: Batch) -> None:
    found = await database(url)
    await found.write(batch)
    await found.close()


async def dumped(url: str) -> list[notes.Note]:
    found = await database(url)
    rows = [note async for note in found.dump()]
    await found.close()
    return rows


@pytest.mark.parametrize(("origin", "target"), PAIRS)
async def test_a_backup_restored_into_an_empty_database_is_the_same(
    places: Places, tmp_path: Path, origin: str, target: str
) -> None:
    source, other, file = places.url(origin), places.url(target), tmp_path / "store.gz"
    await fill(source, ROWS)

    told = run("backup", file, "--url", source)
    first = run("restore", file, "--url", other)
    again = run("restore", file, "--url", other)

    manifest = json.loads(told.stdout)
    assert (manifest["predictions"], manifest["feedback"], manifest["erasures"]) == (1201, 4, 1)
    assert json.loads(first.stdout) == {"predictions": 1201, "feedback": 4}
    assert json.loads(again.stdout)["predictions"] == 0
    rows = await dumped(source)
    assert len(rows) == 1206
    assert await dumped(other) == rows
    assert file.stat().st_mode & 0o077 == 0
    assert [path for path in tmp_path.iterdir() if path.suffix == ".part"] == []


async def test_what_was_erased_does_not_come_back_from_a_backup(
    places: Places, tmp_path: Path
) -> None:
    url, file = places.url("postgres"), tmp_path / "store.gz"
    await fill(url, Batch(predictions=(record(1), record(2, subject="customer-8"))))
    run("backup", file, "--url", url)

    erased = run("erase", "--url", url, "--subject", "customer-7")
    restored = run("restore", file, "--url", url)

    assert json.loads(erased.stdout) == {"predictions": 1, "feedback": 0}
    assert json.loads(restored.stdout) == {"predictions": 0, "feedback": 0}
    assert "customer-7" not in repr(await dumped(url))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda lines: lines[:-1], "has no manifest at its end"),
        (lambda lines: [*lines[:2], *lines[3:]], "does not hold what its manifest says"),
        (lambda lines: [lines[0].replace(b"text", b"test"), *lines[1:]], "fit its checksum"),
    ],
    ids=["cut", "a line is missing", "a line was changed"],
)
async def test_a_damaged_backup_is_refused_and_nothing_of_it_is_written(
    places: Places, tmp_path: Path, damage: object, says: str
) -> None:
    source, other, file = places.url("sqlite"), places.url("sqlite"), tmp_path / "store.gz"
    await fill(source, Batch(predictions=tuple(record(n) for n in range(5))))
    run("backup", file, "--url", source)
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    file.write_bytes(gzip.compress(b"".join(damage(lines))))  # type: ignore[operator]

    refused = run("restore", file, "--url", other)

    assert refused.returncode == 78
    assert says in refused.stderr
    assert await dumped(other) == []


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"x")[:-4]])
def test_a_file_that_is_no_backup_is_refused(
    places: Places, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "store.gz"
    file.write_bytes(content)

    refused = run("restore", file, "--url", places.url("sqlite"))

    assert refused.returncode == 78
    assert refused.stderr.startswith(f"dspy-worker: {file} ")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_a_data_set_has_all_pages_and_the_last_correction_wins(
    places: Places, kind: str
) -> None:
    url = places.url(kind)
    await fill(url, ROWS)

    told = run("export", "--url", url)
    good = run("export", "--url", url, "--least-score", "0.5")

    rows = {row["metadata"]["id"]: row for row in map(json.loads, told.stdout.splitlines())}
    assert len(rows) == 1201
    assert rows["p-0"]["outputs"] == {"label": "billing", "parts": ["a", {"b": None}]}
    assert rows["p-1"]["outputs"] == {"label": "bug", "parts": ["a", {"b": None}]}
    assert rows["p-1"]["metadata"] == {
        "id": "p-1",
        "unixMs": NOON_MS + 1000,
        "app": "default/tickets",
        "variant": "0123456789ab",
        "score": 0.5,
        "label": "worse",
        "corrected": True,
        "degraded": [],
    }
    assert rows["p-2"]["metadata"]["corrected"] is False
    assert rows["p-2000"]["outputs"] == {"label": "billing"}, "only the correction is an output"
    assert "customer-7" not in told.stdout
    found = [json.loads(line)["metadata"]["id"] for line in good.stdout.splitlines()]
    assert found == ["p-2000", "p-1"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search"], "give APP, or --url, or DSPY_URL_POSTGRES"),
        (["erase", "--url", "sqlite:x"], "--subject is needed"),
        (["search", "nothing.yaml"], "there is no file nothing.yaml"),
        (["search", "examples/tickets/app.yaml"], "has no spec.store"),
        (["search", "--url", "postgresql://u:s3cret@127.0.0.1:1/x"], "Nothing listens"),
        (["search", "--url", "mysql://u:s3cret@h/x"], "is not like postgresql://"),
        (["search", "--url", "sqlite:{tmp}/a", "--field", "x=[1]"], "can only be text"),
        (["search", "--url", "sqlite:{tmp}/a", "--cursor", "eHk="], "is no cursor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_command_is_told_in_one_sentence(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    refused = run(*(argument.format(tmp=tmp_path) for argument in arguments))

    assert refused.returncode == 78
    assert says in refused.stderr
    assert "s3cret" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
