"""Drift: every desired field is there; whatever else is there belongs to others."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.core import match, quantity

names = st.sampled_from(["a", "b", "c", "d"])
scalars = st.one_of(st.integers(), st.booleans(), st.text(min_size=1, max_size=5))
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.dictionaries(names, inner, max_size=4), st.lists(inner, max_size=3)),
    max_leaves=12,
)
objects = st.dictionaries(names, documents, min_size=1, max_size=4)


def with_additions(value: object) -> object:
    """Return a copy in which every mapping has a field more."""
    if isinstance(value, dict):
        return {**{k: with_additions(v) for k, v in value.items()}, "of-others": 1}
    return [with_additions(v) for v in value] if isinstance(value, list) else value


@given(objects)
def test_an_object_has_all_of_itself(document: dict[str, Any]) -> None:
    assert not match.differs(document, copy.deepcopy(document))


@given(objects, objects)
def test_the_quick_answer_is_that_of_the_list_of_differences(
    desired: dict[str, Any], live: dict[str, Any]
) -> None:
    for other in (live, {**live, **desired}):
        assert match.differs(desired, other) == bool(list(match.differences(desired, other)))


@given(objects)
def test_additions_of_others_are_no_drift(document: dict[str, Any]) -> None:
    assert not match.differs(document, with_additions(document))


@given(objects, names)
def test_a_lost_field_is_drift_unless_it_was_empty(document: dict[str, Any], name: str) -> None:
    lost = {k: v for k, v in document.items() if k != name}

    empty = document.get(name, "") in ("", [], {})
    assert match.differs(document, lost) is (name in document and not empty)


@given(objects, scalars)
def test_a_changed_scalar_is_drift(document: dict[str, Any], value: object) -> None:
    changed = {name: ["something", "else", "altogether", value] for name in document}

    assert match.differs(document, changed)


@pytest.mark.parametrize(
    ("desired", "live", "drifted"),
    [
        pytest.param({"limits": {"cpu": "0.1"}}, {"limits": {"cpu": "100m"}}, False, id="same cpu"),
        pytest.param({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, False,
                     id="same memory"),
        pytest.param({"requests": {"cpu": 1}}, {"requests": {"cpu": "1"}}, False, id="a number"),
        pytest.param({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, True, id="other cpu"),
        pytest.param({"limits": {"cpu": "1"}}, {"limits": {}}, True, id="a lost limit"),
        pytest.param({"sizeLimit": "256Mi"}, {"sizeLimit": "268435456"}, False, id="size limit"),
        pytest.param({"containers": [{"name": "worker", "image": "a"}]},
                     {"containers": [{"name": "mesh"}, {"name": "worker", "image": "a"}]}, False,
                     id="a sidecar"),
        pytest.param({"containers": [{"name": "worker"}]}, {"containers": [{"name": "mesh"}]}, True,
                     id="our container is gone"),
        pytest.param({"args": ["a", "b"]}, {"args": ["b", "a"]}, True, id="order of arguments"),
        pytest.param({"args": ["a"]}, {"args": ["a", "b"]}, True, id="an argument more"),
        pytest.param({"ports": [{"port": 80, "protocol": "TCP"}]},
                     {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}, False,
                     id="a node port given by the cluster"),
        pytest.param({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}, False,
                     id="an empty value is dropped by the API server"),
        pytest.param({"automount": False}, {}, True, id="false is not absent"),
        pytest.param({"replicas": 0}, {}, True, id="zero is not absent"),
        pytest.param({"a": {"b": 1}}, {"a": None}, True, id="a mapping became null"),
    ],
)  # fmt: skip
def test_differs(desired: object, live: object, *, drifted: bool) -> None:
    assert match.differs(desired, live) is drifted


@given(st.integers(min_value=0, max_value=10**9))
def test_a_quantity_in_thousandths_is_the_same_amount(number: int) -> None:
    assert quantity.same(f"{number}", f"{number}000m")
    assert quantity.same(number, f"{number}e0")


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1Q", ".", "-"])
def test_what_is_no_quantity_equals_nothing(text: str) -> None:
    assert not quantity.same(text, text)
