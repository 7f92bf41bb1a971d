"""Which questions are the same, how answers are written, and how good they are at their age."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.contract import app
from dspy_worker.core import cachekey, envelope, generation, pressure
from dspy_worker.core.cachekey import KeyMaker
from dspy_worker.core.envelope import Envelope, Unreadable
from dspy_worker.core.generation import Generations
from dspy_worker.core.pressure import Reading
from dspy_worker.core.shelflife import Found, ShelfLife

DOCUMENT: dict[str, Any] = {
    "apiVersion": app.API_VERSION,
    "kind": app.KIND,
    "metadata": {"name": "qa"},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "a"}], "outputs": [{"name": "b"}]}},
        "models": [
            {"name": "main", "model": "m", "endpoint": "http://lm/v1", "fallback": "spare"},
            {"name": "spare", "model": "s", "endpoint": "http://spare/v1"},
        ],
        "serving": {},
        "cache": {},
    },
}
INPUTS = {"a": "x"}


def key(
    path: str = "", value: object = None, *, variant: str = "v", dspy: str = "3", tenant: str = ""
) -> str:
    """Return the key of a question to the app with one field changed."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = path.split(".")
    target: Any = document["spec"]
    for step in parents:
        target = target[int(step)] if step.isdigit() else target[step]
    if path:
        target[last] = value
    maker = KeyMaker(app.load(document), variant=variant, dspy_version=dspy)
    return maker.key(maker.tenant(tenant), INPUTS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.0.model", "other"),
        ("models.0.endpoint", "http://other/v1"),
        ("models.0.temperature", "0.7"),
        ("models.0.maxTokens", 7),
        ("models.0.fallback", None),
        ("models.1.temperature", "0.1"),
        ("serving.includeReasoning", True),
    ],
)
def test_what_shapes_an_answer_is_part_of_the_key(path: str, value: object) -> None:
    assert key(path, value) != key()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.0.keySecretRef", {"name": "lm"}),
        ("models.0.timeoutSeconds", 7),
        ("models.0.maxRetries", 0),
        ("models.0.breaker", {"minimumCalls": 3}),
        ("serving.concurrency", 7),
        ("cache.ttlSeconds", 7),
        ("redis", {"urlSecretRef": {"name": "redis"}}),
    ],
)
def test_what_decides_only_whether_there_is_an_answer_is_not(path: str, value: object) -> None:
    assert key(path, value) == key()


def test_variant_library_and_tenant_are_part_of_the_key() -> None:
    found = {key(), key(variant="w"), key(dspy="4"), key(tenant="a"), key(tenant="b")}

    assert len(found) == 5


def test_tenants_share_keys_where_the_app_says_so() -> None:
    assert key("cache.scope", "App", tenant="a") == key("cache.scope", "App", tenant="b")


def test_the_order_of_fields_does_not_matter() -> None:
    assert cachekey.canonical({"a": 1, "b": [2]}) == cachekey.canonical({"b": [2], "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (float("nan"), None),
        (float("inf"), float("-inf")),
        (float("inf"), None),
        (1, 1.0),
        (1, True),
        (0, -0.0),
        ("null", None),
        (2**64, 2**64 + 1),
        ("\ud800", "\udfff"),
        ("\u00e9", "e\u0301"),
        ([], {}),
        ("1", 1),
    ],
)
def test_different_values_never_have_the_same_text(one: object, other: object) -> None:
    assert cachekey.canonical([one]) != cachekey.canonical([other])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(json_values)
def test_a_text_can_be_read_as_the_value_it_was_made_of(value: object) -> None:
    """So that no two values meet in one text."""
    found = json.loads(cachekey.canonical(value))

    assert repr(_sorted(found)) == repr(_sorted(value))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def test_a_tag_does_not_tell_the_tenant() -> None:
    assert cachekey.tenant_tag("") == "-"
    assert "acme" not in cachekey.tenant_tag("acme")
    assert cachekey.tenant_tag("acme") != cachekey.tenant_tag("acme2")


SEALED = envelope.seal("k", Envelope(body=b'{"b":1}', made_ms=5, ttl_ms=6, keep_ms=7))


def test_what_was_written_is_read() -> None:
    assert envelope.unseal("k", SEALED) == Envelope(body=b'{"b":1}', made_ms=5, ttl_ms=6, keep_ms=7)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= change

    with pytest.raises(Unreadable):
        envelope.unseal("k", bytes(changed))


@given(st.binary(max_size=80))
def test_anything_else_is_unreadable(text: bytes) -> None:
    with pytest.raises(Unreadable):
        envelope.unseal("k", text)


def test_an_answer_to_another_question_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        envelope.unseal("other", SEALED)


@pytest.mark.parametrize("body", [b"[1]", b"1", b"{", b"", b"\xff"])
def test_a_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(Unreadable):
        envelope.prediction(body)


@given(st.floats(0, 1))
def test_times_are_spread_over_a_tenth_in_both_directions(chance: float) -> None:
    assert 90 - 1e-9 <= ShelfLife(ttl_seconds=100, stale_seconds=0).spread(chance) <= 110 + 1e-9


def found(age: float, *, ttl: float = 100) -> Found | None:
    life = ShelfLife(ttl_seconds=ttl, stale_seconds=50)
    return life.found("disk", Envelope(body=b"{}", made_ms=0, ttl_ms=100_000, keep_ms=1), age)


def test_an_answer_is_good_then_stale_then_gone() -> None:
    fresh, stale = found(99), found(149)

    assert fresh is not None
    assert fresh.is_fresh
    assert stale is not None
    assert not stale.is_fresh
    assert stale.kept().is_stale
    assert found(150) is None


def test_a_shorter_time_holds_for_what_is_kept_too() -> None:
    stale = found(30, ttl=10)

    assert stale is not None
    assert not stale.is_fresh
    assert found(99, ttl=10) is None


def test_an_answer_from_the_future_is_new() -> None:
    young = found(-5)

    assert young is not None
    assert young.age_seconds == 0


def test_marks_concern_the_answers_that_they_name() -> None:
    generations = Generations()
    places = [("v", "t"), ("v", "u"), ("w", "t"), ("w", "u")]

    def hit_by(name: str, mark: str) -> set[tuple[str, str]]:
        before = {place: generations.of(*place) for place in places}
        assert generations.learn({name: mark}) == [name]
        return {place for place in places if generations.of(*place) != before[place]}

    assert hit_by(generation.field("v"), "1") == {("v", "t"), ("v", "u")}
    assert hit_by(generation.field(tag="t"), "1") == {("v", "t"), ("w", "t")}
    assert hit_by(generation.field("w", "u"), "1") == {("w", "u")}
    assert hit_by(generation.field(), "1") == set(places)
    assert generation.parts(generation.field("v", "t")) == ("v", "t")
    assert generation.parts(generation.field()) == ("", "")


def test_a_mark_that_is_lost_or_older_changes_nothing() -> None:
    generations = Generations()
    generations.learn({"*/*": "2"})
    before = generations.of("v", "t")

    assert generations.learn({}) == []
    assert generations.learn({"*/*": "1"}) == []
    assert generations.of("v", "t") == before
    assert generations.unknown_to({"*/*": "1"}) == {"*/*": "2"}
    assert generations.unknown_to({"*/*": "2"}) == {}


def test_a_new_mark_is_greater_even_if_the_clock_went_back() -> None:
    first = generation.mark(1_000_000, "ff")

    assert generation.mark(5, "00", first) > first
    assert generation.mark(2_000_000, "00", first) > first


@pytest.mark.parametrize(
    ("used", "allowed", "room"),
    [
        pytest.param(50, 1000, 1000, id="calm: all of it"),
        pytest.param(50, 100, 200, id="calm again: a tenth more"),
        pytest.param(80, 500, 500, id="between: as it was"),
        pytest.param(85, 1000, 400, id="short: half of what is there"),
        pytest.param(95, 1000, 0, id="critical: nothing"),
    ],
)
def test_answers_make_room_when_memory_runs_short(used: int, allowed: int, room: int) -> None:
    readings = [Reading(used=1, limit=1000), Reading(used=used, limit=100)]

    assert pressure.room(readings, allowed=allowed, present=800, budget=1000) == room


def test_without_a_limit_there_is_room() -> None:
    assert pressure.room([], allowed=1000, present=800, budget=1000) == 1000
    assert pressure.room([Reading(used=5, limit=0)], allowed=9, present=9, budget=9) == 9
