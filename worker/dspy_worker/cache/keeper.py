"""The shelf: gives answers that are kept, and keeps those that are made.

memory -- good ---------------------------------------------------------------> answer
  | no
  an equal question is under way? wait for it --------------------------------> answer
  | no: lead
  Redis -- good --------------------------------------------------------------> answer
  | no, and the question's lock is ours; or another pod's: wait for it -------> answer
  disk -- good ---------------------------------------------------------------> answer
  | no
  ask -- good: keep it in all levels -----------------------------------------> answer
    | the language model cannot answer: a stale answer, if there is one ------> answer
    v
  error
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from dspy_worker.cache import disk as disk_level
from dspy_worker.cache import told
from dspy_worker.cache.flight import Flight
from dspy_worker.cache.place import Place
from dspy_worker.cache.shared import NOTHING
from dspy_worker.core import cachekey, envelope
from dspy_worker.core.answer import Answer, Kept
from dspy_worker.core.shelflife import Found
from dspy_worker.errors import (
    DeadlineExceeded,
    LMCircuitOpen,
    LMCredentialsMissing,
    LMUnavailable,
    WorkerError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from dspy_worker.cache.disk import Disk
    from dspy_worker.cache.memory import Memory
    from dspy_worker.cache.metrics import CacheMetrics
    from dspy_worker.cache.shared import Lease, Shared
    from dspy_worker.core.answer import Record
    from dspy_worker.core.cachekey import KeyMaker
    from dspy_worker.core.generation import Generations
    from dspy_worker.core.shelflife import ShelfLife
    from dspy_worker.edge.call import Call

STALE: Final = "stale"
"""Why an answer is degraded: it is older than answers should be."""
_WORSE_THAN_OLD = (LMUnavailable, LMCircuitOpen, LMCredentialsMissing, DeadlineExceeded)
_SPARE_SECONDS: Final = 0.1
"""How long before its deadline a request turns to a stale answer; a tenth of what is left, if that
is less."""
_LONGEST_PATIENCE: Final = 60.0
_WRITES: Final = 256
"""Answers that may wait to be written to Redis and the disk; more are not written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Where answers are kept; None for a level that an app does not have."""

    memory: Memory
    shared: Shared | None = None
    disk: Disk | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    place: Place
    call: Call
    ask: Callable[[], Awaitable[Mapping[str, Any]]]


class Keeper:
    """Keeps answers of one program; used from one event loop."""

    def __init__(
        self,
        maker: KeyMaker,
        levels: Levels,
        life: ShelfLife,
        generations: Generations,
        metrics: CacheMetrics,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Begin with nothing under way."""
        self._maker, self._levels, self._life = maker, levels, life
        self._generations, self._metrics, self._chance = generations, metrics, chance
        self._flights: dict[str, Flight] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def answer(
        self,
        inputs: Callable[[], Mapping[str, Any]],
        call: Call,
        ask: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> Answer:
        """Return an answer that is kept, or what `ask` returns; see `Shelf.answer`."""
        question = _Question(self._place(inputs(), call), call, ask)
        if call.origin.fresh:
            return await self._anew(question)
        found = self._remembered(question.place)
        if found is not None and found.is_fresh:
            return self._given(found, call)
        return await self._together(question, found)

    def recall(self, inputs: Callable[[], Mapping[str, Any]], call: Call) -> Answer | None:
        """Return a good answer of the memory; whoever finds none goes on to `answer`."""
        if call.origin.fresh:
            return None
        began = time.perf_counter()
        found = self._levels.memory.get(self._place(inputs(), call).name)
        if found is None or not found.is_fresh:
            return None
        self._count(began, hit=True)
        return self._given(found, call)

    def holds(self, inputs: Callable[[], Mapping[str, Any]], call: Call) -> bool:
        """Return whether this pod remembers an answer, good or stale."""
        if call.origin.fresh:
            return False
        return self._levels.memory.get(self._place(inputs(), call).name) is not None

    def warm(self, record: Record, age_seconds: float) -> bool:
        """Remember an answer that was kept before this worker began; return whether it did.

        Only a record whose question still has its name is used: the settings of the models, DSPy,
        the marks of clearing or the inputs, where a database could not hold them, may be others by
        now. Redis and the disk are left alone; they outlive workers by themselves.

        Args:
            record: A stored prediction of this variant.
            age_seconds: Time since it was made.
        """
        place = self._named(record.inputs, record.tenant)
        if record.prediction is None or place.digest != record.question:
            return False
        found = self._made(record.prediction, age_seconds)
        if found is None or not found.is_fresh:
            return False
        if not self._levels.memory.fill(place.name, found):
            return False
        self._metrics.warmed.inc()
        return True

    @property
    def is_half_full(self) -> bool:
        """Whether half of the memory is taken."""
        memory = self._levels.memory
        return 2 * memory.bytes >= memory.allowed

    async def finish(self, seconds: float) -> None:
        """Wait for answers that are being written."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=seconds)

    async def _anew(self, question: _Question) -> Answer:
        """Ask, whatever is kept."""
        self._metrics.bypassed.inc()
        prediction = await question.ask()
        found = self._made(prediction) if self._may_keep(question.call) else None
        if found:
            self._keep(question.place, found, None)
        told.asked(question.call, "request", stored=found is not None)
        return Answer(prediction=prediction, question=question.place.digest if found else "")

    async def _together(self, question: _Question, old: Found | None) -> Answer:
        """Lead, or follow whoever asks the same at this moment."""
        name = question.place.name
        while (flight := self._flights.get(name)) is not None:
            answer = await self._follow(question, flight) or self._instead(question, flight)
            if answer is not None:
                return answer
        flight = self._flights[name] = Flight(old)
        try:
            answer = await self._lead(question, flight)
        except BaseException as error:
            flight.fail(error)
            if isinstance(error, WorkerError):
                return self._rescue(error, question.call, flight.old)
            raise
        else:
            flight.land(answer, question.call.degraded)
            return answer
        finally:
            del self._flights[name]

    async def _follow(self, question: _Question, flight: Flight) -> Answer | None:
        """Return the leader's answer, or None where the leader's failure is its own."""
        call, began = question.call, time.monotonic()
        try:
            await asyncio.wait({flight.landed}, timeout=_patience(call))
        finally:
            call.waited += time.monotonic() - began
        if not flight.landed.done():
            late = DeadlineExceeded("An equal request was not answered in time either.")
            return self._rescue(late, call, flight.old)
        if (error := flight.error()) is not None:
            return self._rescue(error, call, flight.old)
        if flight.answer is None:
            return None
        self._metrics.in_pod.inc()
        for how in flight.degraded:
            call.degrade(how)
        told.collapsed(call)
        return Answer(
            prediction=flight.answer.prediction, kept=flight.answer.kept or Kept(level="flight")
        )

    def _instead(self, question: _Question, flight: Flight) -> Answer | None:
        """Return what makes it needless to lead after a leader's failure: another was quicker."""
        found = self._levels.memory.get(question.place.name)
        if found is not None and found.is_fresh:
            return self._given(found, question.call)
        if flight.old is not None and question.call.remaining() <= _SPARE_SECONDS:
            late = DeadlineExceeded("There is no time left to ask.")
            return self._rescue(late, question.call, flight.old)
        return None

    async def _lead(self, question: _Question, flight: Flight) -> Answer:
        """Look further down, then ask."""
        place = question.place
        found, lease = await self._search(question, flight)
        if found is not None:
            return self._given(found, question.call)
        try:
            prediction = await self._asked(question, flight)
        except BaseException:
            self._release(lease)
            raise
        made = self._made(prediction) if self._may_keep(question.call) else None
        if made:
            self._keep(place, made, lease)
        else:
            self._release(lease)
        told.asked(question.call, "stale" if flight.old else "miss", stored=made is not None)
        return Answer(prediction=prediction, question=place.digest if made else "")

    async def _search(
        self, question: _Question, flight: Flight
    ) -> tuple[Found | None, Lease | None]:
        """Return a good answer of the lower levels, or else the question's lock, if it is ours."""
        place, shared, disk = question.place, self._levels.shared, self._levels.disk
        look = await shared.look(place) if shared else NOTHING
        try:
            found = look.found
            flight.offer(found)
            if look.is_asked and not (found and found.is_fresh):
                found = await self._other_pods(question)
            if disk and not (found and found.is_fresh):
                found = await disk.get(place)
                flight.offer(found)
        except BaseException:
            self._release(look.lease)
            raise
        if found is None or not found.is_fresh:
            return None, look.lease
        self._levels.memory.put(place.name, found)
        if found.level == disk_level.LEVEL:
            self._later(self._share(place, found, look.lease), look.lease)
        else:
            self._release(look.lease)
        return found, None

    async def _other_pods(self, question: _Question) -> Found | None:
        """Wait for the answer that another pod asks for; half of the time is left for asking."""
        if self._levels.shared is None:
            return None
        began = time.monotonic()
        patience = min(_LONGEST_PATIENCE, question.call.remaining() / 2)
        try:
            found = await self._levels.shared.follow(question.place, patience)
        finally:
            question.call.waited += time.monotonic() - began
        if found:
            self._metrics.across.inc()
        return found

    async def _asked(self, question: _Question, flight: Flight) -> Mapping[str, Any]:
        """Ask; with a stale answer at hand, not quite until the deadline."""
        limit = _patience(question.call) if flight.old else None
        try:
            async with asyncio.timeout(limit) as scope:
                return await question.ask()
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceeded("The request was not answered in time.") from None

    def _rescue(self, error: WorkerError, call: Call, old: Found | None) -> Answer:
        """Return a stale answer in the place of an error that it is better than."""
        if old is None or not isinstance(error, _WORSE_THAN_OLD):
            raise error
        self._metrics.stale.inc()
        call.degrade(STALE)
        return self._given(old, call)

    def _remembered(self, place: Place) -> Found | None:
        began = time.perf_counter()
        found = self._levels.memory.get(place.name)
        self._count(began, hit=found is not None and found.is_fresh)
        return found

    def _count(self, began: float, *, hit: bool) -> None:
        self._metrics.seconds["memory"].observe(time.perf_counter() - began)
        (self._metrics.hits if hit else self._metrics.misses)["memory"].inc()

    def _given(self, found: Found, call: Call) -> Answer:
        kept = found.kept()
        told.kept(call, kept)
        return Answer(prediction=envelope.prediction(found.body), kept=kept)

    def _may_keep(self, call: Call) -> bool:
        return call.origin.keep and not call.degraded

    def _made(self, prediction: Mapping[str, Any], age_seconds: float = 0.0) -> Found | None:
        """Return an answer as it is kept; None if it is none that JSON can hold as it is."""
        try:
            body = orjson.dumps(prediction)
        except TypeError:
            return None
        ttl = self._life.spread(self._chance())
        return Found(level="memory", body=body, age_seconds=age_seconds, ttl_seconds=ttl)

    def _keep(self, place: Place, found: Found, lease: Lease | None) -> None:
        """Keep an answer in all levels; then others may ask."""
        if self._levels.memory.put(place.name, found):
            self._metrics.stores["memory"].inc()
        if self._levels.shared or self._levels.disk:
            self._later(self._write(place, found, lease), lease)

    async def _write(self, place: Place, found: Found, lease: Lease | None) -> None:
        await self._share(place, found, lease)
        if self._levels.disk:
            await self._levels.disk.put(place, found)

    async def _share(self, place: Place, found: Found, lease: Lease | None) -> None:
        """Write to Redis, and only then let other pods ask."""
        try:
            if self._levels.shared:
                await self._levels.shared.put(place, found)
        finally:
            if lease:
                await lease.release()

    def _release(self, lease: Lease | None) -> None:
        if lease:
            self._start(lease.release())

    def _later(self, work: Coroutine[Any, Any, None], lease: Lease | None) -> None:
        """Write what no request waits for; with too much to write, only let others ask."""
        if len(self._writes) < _WRITES:
            self._start(work)
        else:
            work.close()
            self._release(lease)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def _place(self, inputs: Mapping[str, Any], call: Call) -> Place:
        return self._named(inputs, call.origin.tenant)

    def _named(self, inputs: Mapping[str, Any], tenant: str) -> Place:
        whose = self._maker.tenant(tenant)
        tag, variant = cachekey.tenant_tag(whose), self._maker.variant
        generation = self._generations.of(variant, tag)
        return Place(variant, tag, generation, self._maker.key(whose, inputs))


def _patience(call: Call) -> float | None:
    """Return how long a request may wait before it has to turn to something else."""
    left = call.remaining()
    if left == float("inf"):
        return None
    return left - min(_SPARE_SECONDS, left / 10)
