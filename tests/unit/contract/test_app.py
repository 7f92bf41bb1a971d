"""The DSPyApp document as frozen values."""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.contract import app, store
from dspy_worker.contract.typeexpr import Choice, ListOf, Named

TICKETS: dict[str, Any] = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": "tickets", "labels": {"team": "support"}},
    "spec": {
        "program": {
            "signature": {
                "instructions": "Sort a ticket.",
                "types": [{"name": "Person", "fields": [{"name": "first_name"}]}],
                "inputs": [{"name": "text"}],
                "outputs": [
                    {"name": "label", "type": "Literal['bug', 'billing']"},
                    {"name": "people", "type": "list[Person]"},
                ],
            },
            "demos": [{"text": "I was charged twice", "label": "billing", "people": []}],
        },
        "models": [{"name": "main", "model": "m", "endpoint": "http://lm.example/v1/"}],
    },
}
STORE: dict[str, Any] = {"postgres": {"urlSecretRef": {"name": "db"}}}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return TICKETS with one field set; `None` removes it."""
    document = copy.deepcopy(TICKETS)
    *parents, last = path.split(".")
    target: Any = document
    for key in parents:
        target = target[int(key)] if key.isdigit() else target.setdefault(key, {})
    if value is None:
        target.pop(last)
    else:
        target[int(last) if last.isdigit() else last] = value
    return document


def test_a_document_becomes_frozen_values() -> None:
    loaded = app.load(TICKETS)

    signature = loaded.program.signature
    assert signature is not None
    assert signature.outputs[0].type == Choice(values=("bug", "billing"))
    assert signature.outputs[1].type == ListOf(item=Named(name="Person"))
    assert loaded.models[0].endpoint == "http://lm.example/v1"
    assert loaded.namespace == "default"
    assert loaded.serving == app.Serving()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("kind", "Deployment", "expected kind DSPyApp of dspy-operator.io/v1alpha1"),
        ("metadata", None, "metadata: is missing"),
        ("spec.program.signature", None, "needs exactly one of signature and python"),
        ("spec.program.python", {"entrypoint": "a:b"}, "exactly one of signature and python"),
        ("spec.program.signature.outputs.0.type", "Litteral['a']", "outputs[0].type:"),
        ("spec.program.signature.outputs.0.type", "list[Human]", "type 'Human' is unknown"),
        ("spec.program.signature.inputs.0.name", "label", "'label' stands in inputs and"),
        ("spec.program.signature.inputs.0.name", "Text", "must be lower-case letters"),
        ("spec.program.signature.inputs", [], "inputs needs at least one field"),
        ("spec.program.signature.inputs", "text", "inputs: expected a list, got a string"),
        ("spec.program.module", {"type": "ReAct"}, "tools belong to type ReAct"),
        ("spec.program.module", {"type": "Refine"}, "'Refine' is not one of Predict, Chain"),
        ("spec.program.demos.0", {"txt": "x"}, "demos[0]: 'txt' is no field of the signature"),
        ("spec.models", [], "spec.models: needs at least one entry"),
        ("spec.models.0.endpoint", "lm.example/v1", "is not an http or https URL"),
        ("spec.models.0.endpoint", "http://[", "is not an http or https URL"),
        ("spec.models.0.endpoint", "http://lm:port/v1", "is not an http or https URL"),
        ("spec.models.0.temperature", "warm", "is not a decimal string such as '0.7'"),
        ("spec.models.0.temperature", "NaN", "is not a decimal string such as '0.7'"),
        ("spec.models.0.fallback", "other", "spec.models[0].fallback: 'other' is not the name of"),
        ("spec.models.0.fallback", "main", "models[0].fallback: the fallbacks form a circle: main"),
        ("spec.models.0.fallback", 7, "spec.models[0].fallback: expected a string"),
        ("spec.models.0.breaker", {"failurePercent": 101}, "failurePercent: expected at most 100"),
        ("spec.models.0.breaker", {"openSeconds": 0}, "breaker.openSeconds: expected an integer"),
        ("spec.models.0.breaker", [], "spec.models[0].breaker: expected an object"),
        ("spec.store", {}, "spec.store.postgres: is missing"),
        ("spec.store", {"postgres": {}}, "spec.store.postgres.urlSecretRef: is missing"),
        ("spec.store", STORE | {"retentionDays": -1}, "retentionDays: expected an integer of at"),
        ("spec.store", STORE | {"spoolBytes": 7}, "spec.store.spoolBytes: expected an integer"),
        ("spec.cache", [], "spec.cache: expected an object"),
        ("spec.cache", {"ttlSeconds": 0}, "spec.cache.ttlSeconds: expected an integer of at least"),
        ("spec.cache", {"memoryBytes": 9}, "spec.cache.memoryBytes: expected an integer of at"),
        ("spec.cache", {"diskBytes": 9}, "cache.diskBytes: expected 0 or at least 1048576, got 9"),
        ("spec.cache", {"scope": "All"}, "spec.cache.scope: 'All' is not one of Tenant, App"),
        ("spec.redis", {}, "spec.redis.urlSecretRef: is missing"),
        ("spec.serving.concurrency", "64", "spec.serving.concurrency: expected an integer"),
        ("spec.serving.concurrency", 0, "concurrency: expected an integer of at least 1, got 0"),
        ("spec.serving.threads", 0, "spec.serving.threads: expected an integer of at least 1"),
        ("spec.serving.concurrency", True, "spec.serving.concurrency: expected an integer"),
        ("spec.serving.drainSeconds", 5, "drainSeconds must be at least timeoutSeconds"),
    ],
)
def test_a_wrong_document_names_the_path_and_the_trouble(
    path: str, value: object, says: str
) -> None:
    with pytest.raises(app.DocumentError) as caught:
        app.load(changed(path, value))

    assert says in str(caught.value)


def test_the_output_name_reasoning_is_taken_by_chain_of_thought() -> None:
    document = changed("spec.program.module", {"type": "ChainOfThought"})
    document["spec"]["program"]["signature"]["outputs"][0]["name"] = "reasoning"
    document["spec"]["program"]["demos"] = []

    with pytest.raises(app.DocumentError, match="'reasoning' is taken by module type"):
        app.load(document)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Predict", "config"), ("Predict", "demos"), ("ChainOfThought", "reasoning")],
)
def test_an_input_that_dspy_would_take_for_an_argument_is_refused(kind: str, name: str) -> None:
    """DSPy's modules get their inputs and arguments of their own as one set of keywords."""
    document = changed("spec.program.module", {"type": kind})
    document["spec"]["program"]["signature"]["inputs"][0]["name"] = name
    document["spec"]["program"]["demos"] = []

    with pytest.raises(app.DocumentError, match=f"the input name '{name}' is taken by DSPy"):
        app.load(document)


@pytest.mark.parametrize("nothing", [None, [], "text", 7])
def test_a_document_that_is_no_object_is_refused(nothing: object) -> None:
    with pytest.raises(app.DocumentError, match="the document: expected an object"):
        app.load(nothing)


def test_only_what_the_worker_reads_changes_the_digest() -> None:
    """A change of replicas or labels must not roll the pods."""
    scaled = changed("spec.serving.replicas", 5)
    scaled["metadata"]["labels"] = {"team": "other"}

    assert app.load(scaled).digest == app.load(TICKETS).digest
    assert app.load(changed("spec.serving.port", 8081)).digest != app.load(TICKETS).digest


def test_the_worker_document_loads_to_the_same_values() -> None:
    projected = json.loads(app.canonical(app.worker_document(TICKETS)))

    assert app.load(projected) == app.load(TICKETS)


def linked(**fallbacks: str | None) -> dict[str, Any]:
    """Return TICKETS with these models, each with the name of its fallback."""
    models = [
        {"name": name, "model": "m", "endpoint": "http://lm/v1", "fallback": fallback}
        for name, fallback in fallbacks.items()
    ]
    return changed("spec.models", models)


def test_fallbacks_form_a_chain() -> None:
    loaded = app.load(linked(main="near", far=None, near="far", unused="far"))

    assert [model.name for model in loaded.chain()] == ["main", "near", "far"]


@pytest.mark.parametrize(
    ("fallbacks", "says"),
    [
        ({"a": "b", "b": "a"}, "spec.models[0].fallback: the fallbacks form a circle: a -> b -> a"),
        ({"a": "b", "b": "c", "c": "b"}, "spec.models[1].fallback: .* circle: b -> c -> b"),
    ],
)
def test_fallbacks_that_lead_back_are_refused(fallbacks: dict[str, str], says: str) -> None:
    with pytest.raises(app.DocumentError, match=says.replace("[", r"\[")):
        app.load(linked(**fallbacks))


def test_a_model_that_stands_twice_is_refused() -> None:
    document = linked(main=None)
    document["spec"]["models"] *= 2

    with pytest.raises(app.DocumentError, match="model 'main' stands twice"):
        app.load(document)


def test_the_breaker_is_read_and_has_defaults() -> None:
    given = {"failurePercent": 20, "minimumCalls": 3, "openSeconds": 1, "slowSeconds": 9}

    loaded = app.load(changed("spec.models.0.breaker", given)).models[0].breaker

    assert app.load(TICKETS).models[0].breaker == app.BreakerPolicy()
    assert loaded == app.BreakerPolicy(
        failure_percent=20, minimum_calls=3, open_seconds=1, slow_seconds=9
    )


def test_the_store_is_read_and_has_the_defaults_of_the_crd() -> None:
    loaded = app.load(changed("spec.store", STORE))

    postgres = app.Connection(name="postgres", secret="db", entry="url")
    assert loaded.store == app.StorePolicy(
        postgres=postgres, retention_days=30, spool_bytes=268_435_456
    )
    assert loaded.connections() == (postgres,)
    assert loaded.data_bytes() > 268_435_456
    assert app.load(TICKETS).store is None
    assert app.load(TICKETS).data_bytes() == 0
    assert loaded.digest != app.load(TICKETS).digest


def test_defaults_of_the_reader_are_those_of_the_crd() -> None:
    text = (Path(__file__).parents[3] / "crds/dspyapps.yaml").read_text()
    schema = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = schema["properties"]["spec"]["properties"]["store"]["properties"]
    loaded = app.load(changed("spec.store", STORE)).store

    assert loaded is not None
    assert fields["retentionDays"]["default"] == loaded.retention_days
    assert fields["spoolBytes"]["default"] == loaded.spool_bytes
    assert fields["spoolBytes"]["minimum"] == store.LEAST_SPOOL_BYTES
    reference = fields["postgres"]["properties"]["urlSecretRef"]["properties"]
    assert reference["key"]["default"] == loaded.postgres.entry


def test_the_cache_is_read_and_has_defaults() -> None:
    given = {
        "ttlSeconds": 60,
        "staleSeconds": 0,
        "memoryBytes": 2_097_152,
        "diskBytes": 1_048_576,
        "scope": "App",
    }

    loaded = app.load(changed("spec.cache", given))

    assert app.load(TICKETS).cache is None
    assert app.load(TICKETS).data_bytes() == 0
    assert app.load(changed("spec.cache", {})).cache == app.CachePolicy()
    assert loaded.data_bytes() == 1_048_576
    assert loaded.cache == app.CachePolicy(
        ttl_seconds=60,
        stale_seconds=0,
        memory_bytes=2_097_152,
        disk_bytes=1_048_576,
        scope="App",
    )


PRICED = {
    "name": "main",
    "model": "m",
    "endpoint": "http://lm/v1",
    "maxTokens": 100,
    "price": {"inputPerMillion": "0.15", "outputPerMillion": "0.6"},
}


def spending(*models: dict[str, Any], **budget: object) -> dict[str, Any]:
    """Return TICKETS with these models, or a priced one, and a budget."""
    document = changed("spec.models", list(models or (PRICED,)))
    document["spec"]["budgets"] = [{"name": "day", "limit": "12.50", **budget}]
    return document


def test_a_budget_is_read_and_has_defaults() -> None:
    spare = {**PRICED, "name": "spare"}
    given = {"period": "Month", "per": "Tenant", "mode": "Shadow", "whenUnavailable": "Deny"}
    soft = {"softPercent": 80, "cheaperModel": "spare"}

    assert app.load(spending()).budgets == (app.Budget(name="day", limit=12_500_000_000),)
    assert app.load(spending(PRICED, spare, **given, **soft)).budgets == (
        app.Budget(
            name="day",
            limit=12_500_000_000,
            period="Month",
            per="Tenant",
            soft_percent=80,
            cheaper_model="spare",
            mode="Shadow",
            when_unavailable="Deny",
        ),
    )


def test_the_defaults_of_a_budget_are_those_of_the_crd() -> None:
    crd = yaml.safe_load((Path(__file__).parents[3] / "crds/dspyapps.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = spec["properties"]["budgets"]["items"]["properties"]
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}

    assert app.load(spending(**defaults)).budgets == app.load(spending()).budgets
    assert set(defaults) == {"period", "per", "mode", "whenUnavailable"}


def test_a_price_of_the_document_goes_before_that_of_the_table() -> None:
    known = {"name": "main", "model": "gpt-4o-mini", "endpoint": "https://api.openai.com/v1"}
    own = {**known, "price": {"inputPerMillion": "1", "outputPerMillion": "2"}}

    table = app.load(changed("spec.models", [known])).models[0].price
    given = app.load(changed("spec.models", [own])).models[0].price

    assert table is not None
    assert table.cached < table.input < 10**9
    assert given is not None
    assert (given.input, given.output, given.cached) == (10**9, 2 * 10**9, 10**9)
    assert app.load(TICKETS).models[0].price is None


def test_what_the_program_may_ask_is_the_chain_and_the_cheaper_models() -> None:
    spare, small, last = ({**PRICED, "name": n} for n in ("spare", "small", "last"))
    unused = {"name": "unused", "model": "m", "endpoint": "http://lm/v1"}
    models = ({**PRICED, "fallback": "spare"}, spare, {**small, "fallback": "last"}, last, unused)

    loaded = app.load(spending(*models, softPercent=50, cheaperModel="small"))

    assert [model.name for model in loaded.asked()] == ["main", "spare", "small", "last"]


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("price", "model 'main' may cost: set price of that model, or mode: Shadow"),
        ("maxTokens", "model 'main' may cost: set maxTokens of that model"),
    ],
)
def test_a_budget_needs_to_know_what_a_call_may_cost(missing: str, says: str) -> None:
    model = {key: value for key, value in PRICED.items() if key != missing}

    with pytest.raises(app.DocumentError, match=says):
        app.load(spending(model))
    assert app.load(spending(model, mode="Shadow")).budgets


def test_a_cheaper_model_needs_a_price_too() -> None:
    small = {"name": "small", "model": "m", "endpoint": "http://lm/v1"}

    with pytest.raises(app.DocumentError, match="'small' may cost: set price and maxTokens"):
        app.load(spending(PRICED, small, softPercent=50, cheaperModel="small"))


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"limit": "0"}, "budgets[0].limit: expected more than 0 US dollars"),
        ({"limit": "-1"}, "budgets[0].limit: '-1' is not an amount in US dollars"),
        ({"limit": 5}, "budgets[0].limit: expected a string"),
        ({"period": "Week"}, "budgets[0].period: 'Week' is not one of Day, Month"),
        ({"softPercent": 50}, "softPercent and cheaperModel go together"),
        ({"softPercent": 100, "cheaperModel": "main"}, "softPercent: expected at most 99"),
        ({"softPercent": 50, "cheaperModel": "x"}, "cheaperModel: 'x' is not the name of a"),
        ({"softPercent": 50, "cheaperModel": "main"}, "the first model is asked anyway"),
    ],
)
def test_a_wrong_budget_is_refused(budget: dict[str, object], says: str) -> None:
    with pytest.raises(app.DocumentError) as caught:
        app.load(spending(**budget))

    assert says in str(caught.value)


def test_a_budget_that_stands_twice_is_refused() -> None:
    document = spending()
    document["spec"]["budgets"] *= 2

    with pytest.raises(app.DocumentError, match="budget 'day' stands twice"):
        app.load(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


PARTS = ["program", "models", "serving", "budgets", "store", "cache", "redis"]


@given(st.sampled_from(PARTS), json_values)
def test_any_spec_is_values_or_a_document_error(part: str, value: object) -> None:
    document = copy.deepcopy(TICKETS)
    document["spec"][part] = value
    with contextlib.suppress(app.DocumentError):
        app.load(document)
