"""The journal on a real disk: what was appended is read, whatever happened in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dspy_worker.core import notes
from dspy_worker.store import berth, journal
from dspy_worker.store.journal import Journal
from tests.store_records import RECORD, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST = (100, 1 << 20)
ROOM = 1 << 20


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "journal", ROOM)
    found.open()
    yield found
    found.close()


def everything(found: Journal) -> list[str]:
    """Return the names of all predictions in closed segments."""
    names = []
    for segment in found.closed():
        chunk = journal.read(segment, 0, (10_000, 1 << 30))
        names += [note.id for note in chunk.found if not isinstance(note, notes.Erasure)]
    return names


def test_what_is_appended_is_read_in_chunks_and_dropped(opened: Journal) -> None:
    lines = [notes.write(record(n)) for n in range(7)]
    assert all(opened.append(line) for line in lines)
    assert opened.size == sum(map(len, lines))
    assert opened.closed() == (), "what is still written to is not read"

    opened.seal()
    (segment,) = opened.closed()
    first = journal.read(segment, 0, (4, 1 << 20))
    second = journal.read(segment, first.end, (4, 1 << 20))

    assert [len(first.found), len(second.found)] == [4, 3]
    assert [first.last, second.last] == [False, True]
    opened.drop(segment)
    assert opened.size == 0
    assert not segment.exists()


def test_bytes_end_a_chunk_too_and_a_chunk_has_at_least_a_line(opened: Journal) -> None:
    for n in range(3):
        opened.append(notes.write(record(n)))
    opened.seal()

    chunk = journal.read(opened.closed()[0], 0, (100, 1))

    assert len(chunk.found) == 1
    assert not chunk.last


def test_a_segment_is_closed_when_it_is_large(tmp_path: Path) -> None:
    found = Journal(tmp_path, 8 * len(notes.write(RECORD)))
    found.open()

    assert all(found.append(notes.write(RECORD)) for _ in range(4))

    assert len(found.closed()) == 2
    found.close()


def test_a_torn_line_is_counted_and_costs_no_other(opened: Journal) -> None:
    opened.append(notes.write(record(1)))
    opened.append(notes.write(record(2)))
    opened.seal()
    segment = opened.closed()[0]
    torn = segment.read_bytes()[:-20]
    segment.write_bytes(torn)

    chunk = journal.read(segment, 0, MOST)

    assert [n.id for n in chunk.found if not isinstance(n, notes.Erasure)] == ["p-1"]
    assert chunk.broken == 1
    assert chunk.last


def test_a_full_journal_takes_nothing_until_there_is_room(tmp_path: Path) -> None:
    line = notes.write(RECORD)
    found = Journal(tmp_path, 3 * len(line))
    found.open()

    assert [found.append(line) for _ in range(4)] == [True, True, True, False]
    assert found.trouble == "The journal is full."
    found.seal()
    found.drop(found.closed()[0])
    assert found.append(line)
    assert found.trouble == ""
    found.close()


def test_a_disk_that_is_full_takes_back_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take the part of a write for which there is room."""
    now = [0.0]
    found = Journal(tmp_path / "journal", ROOM, clock=lambda: now[0])
    found.open()
    line, write = notes.write(RECORD), os.write
    assert found.append(line)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:30]))
        assert not found.append(line)
    assert found.trouble == "The journal cannot be written: no space left on device."
    assert not found.append(line), "the disk is left alone for a moment"

    now[0] += journal.REST_SECONDS
    assert found.append(line)
    found.seal()

    chunk = journal.read(found.closed()[0], 0, MOST)
    assert (len(chunk.found), chunk.broken) == (2, 0)
    assert found.size == 2 * len(line)
    found.close()


def test_a_folder_that_cannot_be_made_is_trouble_and_tried_again(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "journal").write_text("a file")
    found = Journal(tmp_path / "journal", ROOM, clock=lambda: now[0])

    found.open()
    assert "cannot be written: " in found.trouble
    assert not found.append(notes.write(RECORD))

    (tmp_path / "journal").unlink()
    now[0] += journal.REST_SECONDS
    assert found.append(notes.write(RECORD))
    found.close()


def test_two_workers_on_one_folder_do_not_see_each_other(tmp_path: Path) -> None:
    one, other = Journal(tmp_path, ROOM), Journal(tmp_path, ROOM)
    one.open()
    one.append(notes.write(record(1)))
    other.open()
    other.append(notes.write(record(2)))
    one.adopt()
    other.adopt()
    one.seal()
    other.seal()

    assert everything(one) == ["p-1"]
    assert everything(other) == ["p-2"]
    one.close()
    other.adopt()
    assert everything(other) == ["p-2", "p-1"], "who has ended is adopted"
    assert other.size == 2 * len(notes.write(record(1)))
    other.close()


WRITER = """
import sys
from pathlib import Path
from dspy_worker.core import notes
from dspy_worker.store.journal import Journal
from tests.store_records import record
journal = Journal(Path(sys.argv[1]), 1 << 30)
journal.open()
number = 0
while True:
    assert journal.append(notes.write(record(number)))
    print(number, flush=True)
    number += 1
"""


def test_a_killed_worker_loses_nothing_that_it_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(500)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()

    found = Journal(tmp_path, ROOM)
    found.open()

    assert set(everything(found)) >= {f"p-{line.strip()}" for line in told if line.endswith("\n")}
    assert len(told) >= 500
    found.close()


def test_a_lock_ends_with_its_file(tmp_path: Path) -> None:
    """Two adopt the same folder: the second must not lock what the first has removed."""
    first = berth.claim(tmp_path / "0")
    assert first is not None
    assert berth.claim(tmp_path / "0") is None
    first.leave(remove=True)
    assert not (tmp_path / "0").exists()

    second = berth.claim(tmp_path / "0")
    assert second is not None
    assert berth.claim(tmp_path / "0") is None
    second.leave()
