"""How much an app may spend, for how long, and what happens then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspy_worker.contract import reader
    from dspy_worker.contract.models import Model

Period: TypeAlias = Literal["Day", "Month"]
Per: TypeAlias = Literal["App", "Tenant"]
Mode: TypeAlias = Literal["Enforce", "Shadow"]
WhenUnavailable: TypeAlias = Literal["Allow", "Deny"]

_LARGEST_SHARE = 99
_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit of what a period may cost.

    Attributes:
        name: Name inside the app.
        limit: Most nanos of one period.
        period: Which days share a limit; they begin at midnight UTC.
        per: Whether all requests share it or those of one tenant.
        soft_percent: From this share of the limit on `cheaper_model` is asked first; None never.
        cheaper_model: Name of that model.
        mode: Whether requests are refused, or only counted that would have been.
        when_unavailable: What happens while nobody knows what other pods spend.
    """

    name: str
    limit: int
    period: Period = "Day"
    per: Per = "App"
    soft_percent: int | None = None
    cheaper_model: str | None = None
    mode: Mode = "Enforce"
    when_unavailable: WhenUnavailable = "Allow"

    @property
    def enforced(self) -> bool:
        """Whether it refuses requests."""
        return self.mode == "Enforce"

    @property
    def soft(self) -> int | None:
        """Nanos from which on the cheaper model is asked first."""
        return None if self.soft_percent is None else self.limit * self.soft_percent // _PERCENT


def read(spec: reader.Node, models: tuple[Model, ...]) -> tuple[Budget, ...]:
    """Return the budgets of a spec.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    found: list[Budget] = []
    for node in spec.nodes("budgets"):
        budget = _budget(node)
        if any(other.name == budget.name for other in found):
            raise node.error(f"budget {budget.name!r} stands twice", "name")
        _check_cheaper(node, budget, models)
        found.append(budget)
    return tuple(found)


def check_known_cost(
    spec: reader.Node, budgets: tuple[Budget, ...], asked: Iterable[Model]
) -> None:
    """Refuse budgets over models of which nobody knows what a call may cost.

    Raises:
        DocumentError: The message names the model and what to add.
    """
    enforced = [budget.name for budget in budgets if budget.enforced]
    if not enforced:
        return
    for model in asked:
        missing = [
            name
            for name, value in (("price", model.price), ("maxTokens", model.max_tokens))
            if value is None
        ]
        if missing:
            raise spec.error(
                f"budget {enforced[0]!r} needs to know what a call of model {model.name!r} may "
                f"cost: set {' and '.join(missing)} of that model, or mode: Shadow",
                "budgets",
            )


def _budget(node: reader.Node) -> Budget:
    default = Budget(name="", limit=1)
    budget = Budget(
        name=node.text("name"),
        limit=node.money("limit"),
        period=cast("Period", node.choice("period", ("Day", "Month"), default=default.period)),
        per=cast("Per", node.choice("per", ("App", "Tenant"), default=default.per)),
        soft_percent=node.optional_number("softPercent"),
        cheaper_model=node.optional_text("cheaperModel"),
        mode=cast("Mode", node.choice("mode", ("Enforce", "Shadow"), default=default.mode)),
        when_unavailable=cast(
            "WhenUnavailable",
            node.choice("whenUnavailable", ("Allow", "Deny"), default=default.when_unavailable),
        ),
    )
    if not budget.limit:
        raise node.error("expected more than 0 US dollars", "limit")
    return budget


def _check_cheaper(node: reader.Node, budget: Budget, models: tuple[Model, ...]) -> None:
    if (budget.soft_percent is None) != (budget.cheaper_model is None):
        raise node.error("softPercent and cheaperModel go together: set both or none")
    if budget.soft_percent is not None and budget.soft_percent > _LARGEST_SHARE:
        raise node.error(f"expected at most {_LARGEST_SHARE}", "softPercent")
    if budget.cheaper_model is None:
        return
    if budget.cheaper_model not in {model.name for model in models}:
        raise node.error(f"{budget.cheaper_model!r} is not the name of a model", "cheaperModel")
    if budget.cheaper_model == models[0].name:
        raise node.error("the first model is asked anyway: name another one", "cheaperModel")
