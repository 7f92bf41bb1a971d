"""Clients of several pods that go on asking whatever happens, and remember what they were told."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = {
    "signature": {
        "instructions": "Label it and read its number.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text"}],
        "outputs": [
            {"name": "label", "type": "Literal['animal', 'tool']"},
            {"name": "number", "type": "int"},
        ],
    }
}
CLIENTS = 9
PAUSE_SECONDS = 0.03
REPEATED = 10
"""Questions that are asked again and again; no multiple of the pods, so that each pod gets all."""
REPEATED_EVERY, FEEDBACK_EVERY = 4, 5
LOOK_SECONDS = 0.1
WAIT_SECONDS = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question whose right answer is known; the number in it tells one from the other."""

    number: int
    repeated: bool

    @property
    def text(self) -> str:
        return f"A {'saw' if self.number % 2 else 'zebra'} with the number {self.number}."

    @property
    def answer(self) -> dict[str, Any]:
        return {"label": "tool" if self.number % 2 else "animal", "number": self.number}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of one request."""

    request_id: str
    question: Question
    pod: int
    began: float
    ended: float
    status: int
    body: dict[str, Any]

    @property
    def is_answer(self) -> bool:
        return self.status == 200

    def overlaps(self, began: float, ended: float) -> bool:
        return self.began <= ended and began <= self.ended


def question(turn: int) -> Question:
    """Return what is asked as the nth: mostly something new."""
    if turn % REPEATED_EVERY:
        return Question(number=1000 + turn, repeated=False)
    return Question(number=turn // REPEATED_EVERY % REPEATED, repeated=True)


class Load:
    """What clients ask of pods in turns, and what they say about some of the answers."""

    def __init__(self, pods: Sequence[str]) -> None:
        """Ask nothing yet; `pods` are the addresses of public ports."""
        self._pods = pods
        self._turns = itertools.count()
        self._stopped = False
        self.told: list[Told] = []
        self.opinions: dict[str, tuple[str, float]] = {}
        """Prediction and score by the name of each piece of feedback that was accepted."""
        self.refused_opinions: list[str] = []

    async def run(self) -> None:
        """Ask until `stop`."""
        async with httpx.AsyncClient(timeout=60) as client, asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._go_on(client))

    def stop(self) -> None:
        """Let each client finish what it does."""
        self._stopped = True

    def is_warm(self) -> bool:
        """Whether each pod has answered each question that comes again and again."""
        found = {(t.pod, t.question) for t in self.told if t.question.repeated and t.is_answer}
        return len(found) == REPEATED * len(self._pods)

    async def _go_on(self, client: httpx.AsyncClient) -> None:
        while not self._stopped:
            turn = next(self._turns)
            told = await self._ask(client, turn)
            self.told.append(told)
            if told.is_answer and turn % FEEDBACK_EVERY == 0:
                await self._judge(client, told)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, client: httpx.AsyncClient, turn: int) -> Told:
        asked, pod, name = question(turn), turn % len(self._pods), f"turn-{turn}"
        began = time.monotonic()
        response = await client.post(
            f"{self._pods[pod]}/v1/predict",
            json={"inputs": {"text": asked.text}},
            headers={"X-Request-Id": name},
        )
        return Told(
            request_id=name,
            question=asked,
            pod=pod,
            began=began,
            ended=time.monotonic(),
            status=response.status_code,
            body=response.json(),
        )

    async def _judge(self, client: httpx.AsyncClient, told: Told) -> None:
        """Tell another pod what the answer was worth."""
        score = told.question.number % 5 / 4
        url = self._pods[(told.pod + 1) % len(self._pods)]
        body = {"predictionId": told.body["id"], "score": score, "source": "campaign"}
        response = await client.post(f"{url}/v1/feedback", json=body)
        if response.status_code == 200:
            self.opinions[response.json()["id"]] = (told.body["id"], score)
        else:
            self.refused_opinions.append(response.text)


class Watch:
    """Looks at readiness and health of pods all the time."""

    def __init__(self, pods: Sequence[tuple[str, str]]) -> None:
        """Look at nothing yet; each pod is its public and its ops address."""
        self._pods = pods
        self.failing: list[frozenset[str]] = [frozenset()] * len(pods)
        """What each pod has last named as failing."""
        self.unready: list[str] = []

    async def run(self) -> None:
        """Look until cancelled."""
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                for number, (public, ops) in enumerate(self._pods):
                    ready = await client.get(f"{ops}/readyz")
                    if ready.status_code != 200:
                        self.unready.append(ready.text)
                    self.failing[number] = await _failing(client, public)
                await asyncio.sleep(LOOK_SECONDS)

    def all_name(self, parts: frozenset[str]) -> bool:
        """Whether each pod names at least these parts."""
        return all(parts <= failing for failing in self.failing)

    def is_well(self) -> bool:
        """Whether no pod names anything."""
        return not any(self.failing)


async def _failing(client: httpx.AsyncClient, public: str) -> frozenset[str]:
    health = (await client.get(f"{public}/v1/health")).json()
    found = frozenset(c["name"] for c in health["components"] if c["state"] == "failing")
    assert (health["status"] == "degraded") == bool(found)
    return found


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something is so; the limit only ends a test that hangs."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < give_up, what
        await asyncio.sleep(LOOK_SECONDS)
