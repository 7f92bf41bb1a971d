"""What the operator gets at the plan's moment, and that it gets it once."""

import json
from dataclasses import dataclass, field

import pytest

from faults.injector import Answer, CutError, Exchange, Injector, Then
from faults.plans import Kind, Plan, Point
from faults.trace import Line, Request, Target

WRITE = "patch services a"
LINE = "services MODIFIED a"
RAW = b'{"type":"MODIFIED","object":{}}'


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeLevers:
    """Remembers what was pulled; `there` tells whether another writer finds the object."""

    there: bool = True
    pulled: list[str] = field(default_factory=list)

    async def crash(self) -> None:
        self.pulled.append("crash")

    async def touch(self, request: Request) -> bool:
        self.pulled.append("touch")
        return self.there

    def end_streams(self, *, broken: bool) -> None:
        self.pulled.append("break" if broken else "end")


@dataclass
class World:
    injector: Injector
    levers: FakeLevers
    clock: Clock
    forwarded: list[str]

    async def ask(self) -> int:
        """Write once; return the status, 0 for a broken connection."""
        asked = Request(n=1, step="create", verb="patch", target=Target("services", "t", "a"))

        async def forward() -> Answer:
            self.forwarded.append("operator")
            return Answer(status=200, body=b"{}", headers={})

        async def again() -> Answer:
            self.forwarded.append("rival")
            return Answer(status=200, body=b"{}", headers={})

        try:
            exchange = Exchange(request=asked, forward=forward, again=again)
            return (await self.injector.request(exchange)).status
        except CutError:
            return 0

    def hear(self, name: str = "a") -> tuple[bytes, Then]:
        line = Line(
            n=1, step="create", stream="services", type="MODIFIED", name=name, uid="u", version="1"
        )
        sent = self.injector.line(line, RAW)
        return sent.data, sent.then


def world(kind: Kind | None, what: str = WRITE, *, there: bool = True) -> World:
    levers, clock = FakeLevers(there=there), Clock()
    plan = None if kind is None else Plan("s", kind, Point("create", what))
    return World(Injector(plan, levers, clock), levers, clock, [])


@pytest.mark.parametrize(
    ("kind", "status", "forwarded", "pulled"),
    [
        (Kind.CRASH_BEFORE, 0, [], ["crash"]),
        (Kind.CRASH_AFTER, 0, ["operator"], ["crash"]),
        (Kind.LOST_REPLY, 0, ["operator"], []),
        (Kind.TIMEOUT, 504, ["operator"], []),
        (Kind.RACE, 200, ["operator"], ["touch"]),
        (Kind.CONFLICT, 409, [], []),
        (Kind.THROTTLE, 429, [], []),
        (Kind.ERROR, 500, [], []),
        (Kind.FORBIDDEN, 403, [], ["end"]),
    ],
)
async def test_a_write_is_disturbed(
    kind: Kind, status: int, forwarded: list[str], pulled: list[str]
) -> None:
    made = world(kind)

    assert await made.ask() == status
    assert (made.forwarded, made.levers.pulled) == (forwarded, pulled)
    assert made.injector.fired


@pytest.mark.parametrize("kind", [Kind.CRASH_AFTER, Kind.CONFLICT, Kind.THROTTLE, Kind.ERROR])
async def test_a_fault_happens_once(kind: Kind) -> None:
    made = world(kind)
    await made.ask()

    assert await made.ask() == 200


async def test_only_the_write_that_is_meant_is_disturbed() -> None:
    second = world(Kind.CONFLICT)
    second.injector._plan = Plan("s", Kind.CONFLICT, Point("create", WRITE, 2))

    assert [await second.ask() for _ in range(3)] == [200, 409, 200]


async def test_a_rival_creates_what_is_not_there_yet() -> None:
    made = world(Kind.RACE, there=False)

    assert await made.ask() == 200
    assert made.forwarded == ["rival", "operator"]


async def test_rights_are_gone_for_four_seconds() -> None:
    made = world(Kind.FORBIDDEN)
    await made.ask()
    made.clock.now += 3.9
    assert await made.ask() == 403
    assert made.injector.refuse_stream() is not None

    made.clock.now += 0.2
    assert await made.ask() == 200
    assert made.injector.refuse_stream() is None


async def test_an_outage_breaks_everything_for_four_seconds() -> None:
    made = world(Kind.OUTAGE, "start")
    made.injector.begin_step(Point("other", "start"))
    assert await made.ask() == 200

    made.injector.begin_step(Point("create", "start"))
    assert (await made.ask(), made.levers.pulled) == (0, ["break"])
    with pytest.raises(CutError):
        made.injector.refuse_stream()
    made.clock.now += 4.1
    assert await made.ask() == 200


@pytest.mark.parametrize(
    ("kind", "data", "then"),
    [
        (None, RAW + b"\n", Then.GO_ON),
        (Kind.HIDE, b"", Then.GO_ON),
        (Kind.BROKEN_LINE, RAW[: len(RAW) // 2], Then.BREAK),
        (Kind.SILENT, b"", Then.SILENCE),
        (Kind.LAG, RAW + b"\n", Then.GO_ON),
    ],
)
def test_a_line_is_disturbed_and_the_next_is_not(
    kind: Kind | None, data: bytes, then: Then
) -> None:
    made = world(kind, LINE)

    assert made.hear() == (data, then)
    assert made.hear() == (RAW + b"\n", Then.GO_ON)


@pytest.mark.parametrize(("kind", "code"), [(Kind.GONE, 410), (Kind.ERROR_LINE, 500)])
def test_an_error_line_ends_a_stream(kind: Kind, code: int) -> None:
    data, then = world(kind, LINE).hear()

    assert then is Then.END
    assert json.loads(data)["object"]["code"] == code


def test_only_the_stream_that_lags_is_held() -> None:
    made = world(Kind.LAG, LINE)
    made.hear()

    assert made.injector.held_seconds("services") == pytest.approx(3)
    assert made.injector.held_seconds("pods") == 0
    made.clock.now += 3.1
    assert made.injector.held_seconds("services") == 0


def test_the_past_is_over_after_five_seconds() -> None:
    made = world(Kind.STALE, "start")
    assert made.injector.travels("create")
    assert made.injector.stale_version == ""

    made.injector.go_back("42")
    assert (made.injector.stale_version, made.injector.held_seconds("pods")) == ("42", 5)
    made.clock.now += 5.1
    assert made.injector.stale_version == ""
