"""The journal: what was noted and is in no database yet, as lines in segment files.

One write puts a whole line into the kernel's hands before the answer is sent: it survives the
process, whatever ends it. It does not survive the node, for nothing waits for the disk. Segments
are read back only when they are closed, and go when all their lines are committed elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.core import notes
from dspy_worker.store import berth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspy_worker.core.notes import Note

SEGMENT_BYTES = 8 << 20
REST_SECONDS = 1.0
"""How long a disk that refused a line is left alone."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some lines of a segment.

    Attributes:
        found: What they say.
        broken: How many could not be read.
        end: Where the next chunk begins.
        last: Whether there is none.
    """

    found: tuple[Note, ...]
    broken: int
    end: int
    last: bool


class Journal:
    """Segments in a folder of their own; used from one thread, the event loop's.

    Attributes:
        size: Bytes in all segments.
        trouble: Why the last line could not be written, in words; empty if it was.
    """

    def __init__(self, root: Path, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Touch nothing yet.

        Args:
            root: Folder that several workers may share.
            limit: Most bytes in all segments.
            clock: Seconds from some moment.
        """
        self.size = 0
        self.trouble = ""
        self._root, self._limit, self._clock = root, limit, clock
        self._segment_bytes = min(SEGMENT_BYTES, limit // 4)
        self._berth: berth.Berth | None = None
        self._closed: list[tuple[Path, int]] = []
        self._file = -1
        self._path: Path | None = None
        self._written = 0
        self._rests_until = float("-inf")

    def open(self) -> None:
        """Take a folder and what dead workers left; a disk that refuses is tried again later."""
        try:
            self._berth = self._berth or berth.take(self._root)
            self._berth.adopt()
            self._take_over(self._berth.segments())
        except OSError as error:
            self._rest(error)

    def adopt(self) -> None:
        """Take over what has been left by workers that died since."""
        if self._berth is not None:
            with contextlib.suppress(OSError):
                self._berth.adopt()
                self._take_over(self._berth.segments())

    def append(self, line: bytes) -> bool:
        """Write a line; return False where there is no room or the disk refuses."""
        if self._clock() < self._rests_until:
            return False
        if self.size + len(line) > self._limit:
            self.trouble = "The journal is full."
            return False
        try:
            written = os.write(self._descriptor(), line)
        except OSError as error:
            self._rest(error)
            return False
        self._written += written
        self.size += written
        if written != len(line):
            self._take_back(written)
            return False
        self.trouble = ""
        if self._written >= self._segment_bytes:
            self.seal()
        return True

    def seal(self) -> None:
        """Close the open segment, so that it can be read."""
        if self._path is None:
            return
        os.close(self._file)
        if self._written:
            self._closed.append((self._path, self._written))
        else:
            self._path.unlink(missing_ok=True)
        self._path, self._file = None, -1

    def closed(self) -> tuple[Path, ...]:
        """Return the segments that can be read, the oldest first."""
        return tuple(path for path, _ in self._closed)

    def drop(self, segment: Path) -> None:
        """Delete a segment: all of it is committed."""
        sizes = dict(self._closed)
        segment.unlink(missing_ok=True)
        self.size -= sizes[segment]
        self._closed = [entry for entry in self._closed if entry[0] != segment]

    def close(self) -> None:
        """Leave the folder; what is in it waits for the next worker."""
        self.seal()
        if self._berth is not None:
            self._berth.leave(remove=not self._closed)
            self._berth = None

    def _descriptor(self) -> int:
        if self._path is None:
            self._berth = self._berth or berth.take(self._root)
            path = berth.fresh(self._berth.path)
            self._file = os.open(path, _FLAGS, 0o600)
            self._path, self._written = path, 0
        return self._file

    def _take_over(self, segments: list[Path]) -> None:
        known = {path for path, _ in self._closed} | {self._path}
        for path in segments:
            if path not in known:
                size = path.stat().st_size
                self._closed.append((path, size))
                self.size += size

    def _take_back(self, written: int) -> None:
        """Remove the part of a line for which there was room."""
        self._rest(OSError(28, "No space left on device"))
        try:
            os.ftruncate(self._file, self._written - written)
        except OSError:
            self.seal()  # its torn end will be skipped
        else:
            self._written -= written
            self.size -= written

    def _rest(self, error: OSError) -> None:
        why = (error.strerror or type(error).__name__).lower()
        self.trouble = f"The journal cannot be written: {why}."
        self._rests_until = self._clock() + REST_SECONDS


def read(segment: Path, begin: int, most: tuple[int, int]) -> Chunk:
    """Return the notes of a closed segment from a place on.

    Args:
        segment: The file.
        begin: Where to begin.
        most: Lines and bytes after which enough is read.

    Raises:
        OSError: It cannot be read.
    """
    found: list[Note] = []
    broken, end = 0, begin
    with segment.open("rb") as file:
        file.seek(begin)
        for line in file:
            end += len(line)
            note = notes.read(line)
            if note is None:
                broken += 1
            else:
                found.append(note)
            if len(found) + broken >= most[0] or end - begin >= most[1]:
                break
        last = not file.peek(1)
    return Chunk(found=tuple(found), broken=broken, end=end, last=last)
