"""The language models of a document, and which one answers in the place of which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspy_worker.contract import prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_worker.contract import reader
    from dspy_worker.contract.money import Price

_WHOLE_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a model has failed too often to be asked.

    Attributes:
        failure_percent: Share of failed or of slow calls of late, in percent.
        minimum_calls: With fewer calls of late no share counts.
        open_seconds: How long it gets no calls then; twice as long after each probe that fails.
        slow_seconds: A call that takes longer is slow; None takes any time as good.
    """

    failure_percent: int = 50
    minimum_calls: int = 10
    open_seconds: int = 5
    slow_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One language model behind an OpenAI-compatible endpoint.

    Attributes:
        name: Name inside the app.
        model: The provider's name of the model.
        endpoint: Base URL with its version, without a trailing slash.
        key_secret: Name of the Secret with the API key; None for an endpoint without keys.
        key_entry: Key inside that Secret.
        temperature: Sampling temperature; None leaves it to the provider.
        max_tokens: Most tokens of one answer; None leaves it to the provider.
        timeout_seconds: Longest time of one call.
        max_retries: Further attempts after a failure that may pass.
        fallback: Name of the model that is asked when this one cannot answer.
        breaker: When it gets no calls for a while.
        price: What its tokens cost; None where nobody knows.
    """

    name: str
    model: str
    endpoint: str
    key_secret: str | None = None
    key_entry: str = "api-key"
    temperature: float | None = None
    max_tokens: int | None = None
    timeout_seconds: int = 30
    max_retries: int = 2
    fallback: str | None = None
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    price: Price | None = None


def chain(models: tuple[Model, ...], first: str | None = None) -> tuple[Model, ...]:
    """Return a model, usually the first, and its fallbacks in the order of asking."""
    named = {model.name: model for model in models}
    found = [models[0] if first is None else named[first]]
    while (name := found[-1].fallback) is not None:
        found.append(named[name])
    return tuple(found)


def read(spec: reader.Node) -> tuple[Model, ...]:
    """Return the models of a spec.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    nodes = tuple(spec.nodes("models"))
    models = tuple(_model(node) for node in nodes)
    if not models:
        raise spec.error("needs at least one entry", "models")
    fallbacks: dict[str, str | None] = {}
    for node, model in zip(nodes, models, strict=True):
        if model.name in fallbacks:
            raise node.error(f"model {model.name!r} stands twice", "name")
        fallbacks[model.name] = model.fallback
    for node, model in zip(nodes, models, strict=True):
        _check_fallback(node, model.name, fallbacks)
    return models


def _check_fallback(node: reader.Node, name: str, fallbacks: Mapping[str, str | None]) -> None:
    """Refuse a fallback that is no model, and one from which the way leads back."""
    if fallbacks[name] not in {None, *fallbacks}:
        raise node.error(f"{fallbacks[name]!r} is not the name of a model", "fallback")
    way = [name]
    while (following := fallbacks.get(way[-1])) is not None:
        way.append(following)
        if following == name:
            raise node.error(f"the fallbacks form a circle: {' -> '.join(way)}", "fallback")
        if following in way[:-1]:
            return  # the circle is told where it begins


def _model(node: reader.Node) -> Model:
    key, price = node.optional("keySecretRef"), node.optional("price")
    name, endpoint = node.text("model"), node.url("endpoint")
    return Model(
        name=node.text("name"),
        model=name,
        endpoint=endpoint,
        key_secret=key.text("name") if key else None,
        key_entry=key.text("key", default="api-key") if key else "api-key",
        temperature=node.optional_decimal("temperature"),
        max_tokens=node.optional_number("maxTokens"),
        timeout_seconds=node.number("timeoutSeconds", 30),
        max_retries=node.number("maxRetries", 2, least=0),
        fallback=node.optional_text("fallback"),
        breaker=_breaker(node.node("breaker", default={})),
        price=prices.read(price) if price else prices.find(endpoint, name),
    )


def _breaker(node: reader.Node) -> BreakerPolicy:
    default = BreakerPolicy()
    policy = BreakerPolicy(
        failure_percent=node.number("failurePercent", default.failure_percent),
        minimum_calls=node.number("minimumCalls", default.minimum_calls),
        open_seconds=node.number("openSeconds", default.open_seconds),
        slow_seconds=node.optional_number("slowSeconds"),
    )
    if policy.failure_percent > _WHOLE_PERCENT:
        raise node.error("expected at most 100", "failurePercent")
    return policy
