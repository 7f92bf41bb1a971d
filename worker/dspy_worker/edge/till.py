"""Takes the money for the attempts of one model: before the call the most, afterwards the real.

What is spent for an attempt that did not end well, so that it is never less than the bill:

| how it ended                                             | what is spent               |
|----------------------------------------------------------|-----------------------------|
| refused by the server: 4xx, 429                          | nothing                     |
| never sent: no connection, circuit open, unusable        | nothing                     |
| the server says that it failed: 5xx but 502 and 504      | the prompt, at most         |
| 502, 504, timeout, broken connection, cancelled          | all that was set aside      |
| an answer without counts of tokens                       | all that was set aside      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dspy import lm15

from dspy_worker.edge import bound
from dspy_worker.edge.ledger import Claim, Wish
from dspy_worker.errors import BudgetExhausted

if TYPE_CHECKING:
    from dspy_worker.contract.app import Model
    from dspy_worker.contract.budgets import Budget
    from dspy_worker.edge.call import Call
    from dspy_worker.edge.costs import Costs
    from dspy_worker.edge.ledger import Hold, Ledger, Verdict

MARGIN_SECONDS: Final = 30
"""How much longer than two calls may take money is set aside for one."""
RETRY_SECONDS: Final = 3600.0
"""Longest time after which a client is told to come back: budgets may be raised."""
_GATEWAY: Final = frozenset({502, 504})
_REFUSED: Final = range(400, 500)
_FAILED: Final = range(500, 600)
_UNSENT: Final = frozenset({"ConnectError", "ConnectTimeout"})
"""Names of lm15's errors below `TransportError` that tell of a connection never made."""
_LOCAL: Final = (lm15.ConfigurationError, lm15.CapabilityError)


class CheaperWanted(Exception):  # noqa: N818 - a turn and no fault
    """A budget is so far spent that its cheaper model is to be asked first.

    Attributes:
        budget: Name of the budget.
    """

    def __init__(self, budget: str) -> None:
        """Keep the name."""
        super().__init__(budget)
        self.budget = budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Money that is set aside for one attempt; `prompt` is the part of it for the prompt."""

    hold: Hold
    prompt: int


class Till:
    """Prices of one model, and the budgets that its calls are charged to."""

    def __init__(
        self, model: Model, costs: Costs, ledger: Ledger | None, budgets: tuple[Budget, ...] = ()
    ) -> None:
        """Keep what is needed; without a ledger nothing is set aside."""
        self._model = model
        self._costs = costs
        self._ledger = ledger
        self._budgets = budgets if model.price else ()

    async def take(self, request: lm15.Request, call: Call, *, heed_soft: bool) -> Deposit | None:
        """Set aside what an attempt may cost; for the event loop.

        Raises:
            BudgetExhausted: It does not fit into a budget.
            BudgetUnavailable: Nobody knows whether it fits.
            CheaperWanted: Another model is to be asked first; only with `heed_soft`.
        """
        wish = self._wish(request, call, heed_soft=heed_soft)
        if wish is None or self._ledger is None:
            return None
        return self._deposit(await self._ledger.reserve(wish), request)

    def take_in_thread(
        self, request: lm15.Request, call: Call, *, heed_soft: bool
    ) -> Deposit | None:
        """Set aside what an attempt may cost; for threads. Raises what `take` raises."""
        wish = self._wish(request, call, heed_soft=heed_soft)
        if wish is None or self._ledger is None:
            return None
        return self._deposit(self._ledger.reserve_in_thread(wish), request)

    def settle(
        self, deposit: Deposit | None, error: BaseException | None, usage: lm15.Usage | None
    ) -> None:
        """Spend what an attempt cost, or may have cost."""
        if deposit is None or self._ledger is None:
            return
        if usage is None:
            spent = _spent(deposit, error)
        else:
            cost = self.cost(usage)
            spent = deposit.hold.amount if cost is None else cost
            # Without a limit in the model there is none to overrun: only a Shadow allows that.
            if spent > deposit.hold.amount and self._model.max_tokens is not None:
                self._costs.overrun(self._model.name)
        self._ledger.settle(deposit.hold, spent)

    def answered(self, usage: lm15.Usage) -> int | None:
        """Count an answer and return what it cost in nanos; None where nobody knows."""
        cost = self.cost(usage)
        self._costs.answer(self._model.name, cost)
        return cost

    def cost(self, usage: lm15.Usage) -> int | None:
        """Return what an answer cost in nanos; None where nobody knows."""
        price = self._model.price
        given, made = usage.input_tokens, usage.output_tokens
        if price is None or given is None or made is None or usage.cache_write_tokens:
            return None
        # Some servers leave reasoning out of the answer's tokens, but not out of the total.
        made = max(made, (usage.total_tokens or 0) - given)
        return price.cost(given, made, usage.cache_read_tokens or 0)

    def _wish(self, request: lm15.Request, call: Call, *, heed_soft: bool) -> Wish | None:
        amount = self._most(request)
        if not amount:
            return None
        tenant = call.origin.tenant
        return Wish(
            amount=amount,
            milliseconds=1000 * (2 * self._model.timeout_seconds + MARGIN_SECONDS),
            claims=tuple(
                Claim(budget=budget, who=tenant if budget.per == "Tenant" else "")
                for budget in self._budgets
            ),
            heed_soft=heed_soft,
        )

    def _most(self, request: lm15.Request) -> int:
        price = self._model.price
        if price is None or not self._budgets:
            return 0
        return price.most(bound.input_tokens(request), bound.output_tokens(request))

    def _deposit(self, verdict: Verdict, request: lm15.Request) -> Deposit:
        for budget in verdict.shadows:
            self._costs.would_refuse(budget)
        for budget in verdict.softened:
            self._costs.soft(budget)
        if verdict.soft is not None:
            self._costs.soft(verdict.soft)
            raise CheaperWanted(verdict.soft.name)
        if verdict.refused is not None:
            self._costs.refused(verdict.refused)
            raise BudgetExhausted(
                f"The budget {verdict.refused.name!r} has no room for this request.",
                budget=verdict.refused.name,
                retry_after=min(RETRY_SECONDS, verdict.waits_ms / 1000),
            )
        price, hold = self._model.price, verdict.hold
        if price is None or hold is None:
            raise RuntimeError("a ledger neither granted nor refused")
        return Deposit(hold=hold, prompt=price.most(bound.input_tokens(request), 0))


def _spent(deposit: Deposit, error: BaseException | None) -> int:
    """Return what an attempt without an answer may have cost."""
    status = getattr(error, "status", None) or 0
    cause = None if error is None else error.__cause__
    if isinstance(error, _LOCAL) or type(cause).__name__ in _UNSENT:
        return 0
    if isinstance(error, lm15.TimeoutError) or status in _GATEWAY:
        return deposit.hold.amount
    if isinstance(error, lm15.ProviderError) and status in _REFUSED:
        return 0
    if isinstance(error, lm15.ServerError) and status in _FAILED:
        return deposit.prompt
    return deposit.hold.amount
