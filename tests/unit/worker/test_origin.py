"""What the headers of requests and answers say: who asks and how, and how good the answer is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from dspy_worker.edge.call import Origin
from dspy_worker.errors import HeaderInvalid
from dspy_worker.serve import app, origin, predict


def read(**headers: str) -> Origin:
    raw = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return origin.read(Request({"type": "http", "headers": raw, "request_id": "r-1"}))


def test_without_headers_nobody_in_particular_asks() -> None:
    assert read() == Origin(request_id="r-1")


def test_tenant_and_subject_are_taken_as_they_are() -> None:
    found = read(x_tenant="acme.example+eu", x_subject="user:7@mail")

    assert (found.tenant, found.subject) == ("acme.example+eu", "user:7@mail")


@pytest.mark.parametrize(
    ("control", "fresh", "keep"),
    [
        pytest.param("no-cache", True, True, id="another answer"),
        pytest.param("no-store", True, False, id="nothing is kept"),
        pytest.param("No-Store", True, False, id="in any case of letters"),
        pytest.param("max-age=0, no-cache", True, True, id="among others"),
        pytest.param("no-cache ,no-store", True, False, id="both"),
        pytest.param("max-age=0", False, True, id="what we do not know"),
        pytest.param("no-cachet", False, True, id="a word that begins like it"),
        pytest.param("", False, True, id="nothing"),
    ],
)
def test_cache_control(control: str, fresh: bool, keep: bool) -> None:  # noqa: FBT001 - a table
    found = read(cache_control=control)

    assert (found.fresh, found.keep) == (fresh, keep)


@pytest.mark.parametrize("header", ["x_tenant", "x_subject"])
@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 129, "a\n", "ä", '"', " "])
def test_a_name_that_cannot_be_one_is_refused(header: str, name: str) -> None:
    with pytest.raises(HeaderInvalid, match=header.replace("_", "-").title()):
        read(**{header: name})


@given(st.text(st.characters(max_codepoint=255), max_size=140))
def test_any_header_is_a_name_or_refused(text: str) -> None:
    try:
        found = read(x_tenant=text)
    except HeaderInvalid:
        return
    assert found.tenant == text
    assert found.tenant.isascii()
    assert len(text) <= 128


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([], []),
        (["fallback:a", "fallback:b"], ["fallback"]),
        (["fallback:a", "stale", "fallback:b", "stale"], ["fallback", "stale"]),
    ],
)
def test_each_kind_of_degradation_is_named_once(reasons: list[str], expected: list[str]) -> None:
    assert predict.kinds(reasons) == expected


def test_the_header_lists_the_kinds_and_is_absent_without_any() -> None:
    reasons = ["fallback:a", "stale", "fallback:b"]

    assert app._degraded(reasons) == {"X-Degraded": "fallback, stale"}
    assert app._degraded([]) == {}
