"""The memory level against a model, and what it reads of the machine's limits."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dspy_worker.cache import memory as level
from dspy_worker.cache.memory import Memory
from dspy_worker.cache.pressure import Gauges
from dspy_worker.core.pressure import Reading
from dspy_worker.core.shelflife import Found

if TYPE_CHECKING:
    from pathlib import Path

BUDGET, STALE = 5000, 20.0
KEYS = st.sampled_from("abcdefg")


class MemoryBesideAModel(RuleBasedStateMachine):
    """Every step is done to the level and to a plain ordered list of (size, made, ttl, body)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.memory = Memory(BUDGET, STALE, lambda: self.now)
        self.model: OrderedDict[str, tuple[float, float, bytes]] = OrderedDict()
        self.allowed = BUDGET

    @rule(key=KEYS, size=st.integers(0, 6000), age=st.floats(0, 5), ttl=st.floats(0, 30))
    def put(self, key: str, size: int, age: float, ttl: float) -> None:
        body = key.encode() * size
        kept = self.memory.put(key, Found(level="x", body=body, age_seconds=age, ttl_seconds=ttl))
        self.model.pop(key, None)
        assert kept == (size + level._OWN_BYTES <= self.allowed)
        if kept:
            self.model[key] = (self.now - age, ttl, body)
            self._trim()

    @rule(key=KEYS, size=st.integers(0, 6000), age=st.floats(0, 5), ttl=st.floats(0, 30))
    def fill(self, key: str, size: int, age: float, ttl: float) -> None:
        body = key.encode() * size
        kept = self.memory.fill(key, Found(level="x", body=body, age_seconds=age, ttl_seconds=ttl))
        fits = self._bytes() + size + level._OWN_BYTES <= self.allowed
        assert kept == (key not in self.model and fits)
        if kept:
            self.model[key] = (self.now - age, ttl, body)
            self.model.move_to_end(key, last=False)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        found = self.memory.get(key)
        made, ttl, body = self.model.get(key, (float("-inf"), 0.0, b""))
        if self.now - made >= ttl + STALE:
            self.model.pop(key, None)
            assert found is None
            return
        self.model.move_to_end(key)
        assert found is not None
        assert (found.body, found.ttl_seconds) == (body, ttl)
        assert found.age_seconds == pytest.approx(self.now - made)
        assert found.is_fresh == (self.now - made < ttl)

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        self.memory.drop(key)
        self.model.pop(key, None)

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(allowed=st.integers(-10, 2 * BUDGET))
    def limit(self, allowed: int) -> None:
        self.memory.limit(allowed)
        self.allowed = max(0, min(allowed, BUDGET))
        self._trim()

    @rule()
    def sweep(self) -> None:
        self.memory.sweep()
        over = [k for k, (made, ttl, _) in self.model.items() if self.now - made >= ttl + STALE]
        for key in over:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.memory.clear()
        self.model.clear()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.memory.bytes == self._bytes()
        assert list(self.memory._entries) == list(self.model)
        assert self.memory.bytes <= self.memory.allowed

    def _bytes(self) -> int:
        return sum(len(body) + level._OWN_BYTES for _, _, body in self.model.values())

    def _trim(self) -> None:
        while self._bytes() > self.allowed:
            self.model.popitem(last=False)


TestMemory = MemoryBesideAModel.TestCase


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def gauges(tmp_path: Path, lines: str) -> Gauges:
    write(tmp_path / "proc" / "self", cgroup=lines)
    return Gauges(tmp_path / "cgroup", tmp_path / "proc")


@pytest.mark.parametrize("place", ["", "kubepods/pod"], ids=["in a container", "on a host"])
def test_control_groups_of_version_2_are_read(tmp_path: Path, place: str) -> None:
    """In a container its own group is the root, whatever its path is outside."""
    write(
        tmp_path / "cgroup" / place,
        memory__max="1000\n",
        memory__current="700\n",
        memory__stat="anon 5\ninactive_file 200\n",
    )

    found = gauges(tmp_path, "0::/kubepods/pod\n").readings()

    assert Reading(used=500, limit=1000) in found


def test_control_groups_of_version_1_are_read(tmp_path: Path) -> None:
    write(
        tmp_path / "cgroup" / "memory" / "kubepods",
        memory__limit_in_bytes="1000\n",
        memory__usage_in_bytes="900\n",
        memory__stat="inactive_file 1\ntotal_inactive_file 100\n",
    )

    found = gauges(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/kubepods\n").readings()

    assert Reading(used=800, limit=1000) in found


@pytest.mark.parametrize("limit", ["max\n", "much\n", ""])
def test_a_group_without_a_limit_limits_nothing(tmp_path: Path, limit: str) -> None:
    write(tmp_path / "cgroup", memory__max=limit, memory__current="7", memory__stat="")

    assert gauges(tmp_path, "0::/\n").readings() == []


def test_a_machine_without_control_groups_limits_nothing(tmp_path: Path) -> None:
    assert Gauges(tmp_path / "none", tmp_path / "none").readings() == []
