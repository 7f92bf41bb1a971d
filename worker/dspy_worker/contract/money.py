"""Money in whole billionths of a US dollar; decimal strings only where it comes in or goes out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

NANOS = 1_000_000_000
"""Billionths in a dollar."""
MILLION = 1_000_000
_LARGEST = 1_000_000 * NANOS
"""Redis' scripts count in doubles, which are exact up to nine times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's provider takes: nanos per million tokens.

    Attributes:
        input: For the tokens of prompts.
        output: For the tokens of answers.
        cached: For those tokens of prompts that the provider had in its cache.
    """

    input: int
    output: int
    cached: int

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        """Return the price of one answer in nanos, rounded up.

        Args:
            input_tokens: Tokens of the prompt, the cached ones among them.
            output_tokens: Tokens of the answer.
            cached_tokens: Tokens of the prompt that cost less.
        """
        cached = min(cached_tokens, input_tokens)
        parts = (input_tokens - cached) * self.input + cached * self.cached
        return -(-(parts + output_tokens * self.output) // MILLION)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens may cost, in nanos."""
        dearest = max(self.input, self.cached)
        return -(-(input_tokens * dearest + output_tokens * self.output) // MILLION)


def nanos(text: str) -> int:
    """Return an amount that is written in dollars.

    Raises:
        ValueError: It is no decimal number, negative, above a million or finer than a billionth.
    """
    try:
        amount = Decimal(text) * NANOS
    except ArithmeticError:
        amount = Decimal("NaN")
    if (
        not amount.is_finite()
        or not 0 <= amount <= _LARGEST
        or amount != amount.to_integral_value()
    ):
        raise ValueError(f"{text!r} is not an amount in US dollars such as '12.50'")
    return int(amount)


def dollars(amount: int) -> str:
    """Return an amount of nanos in dollars, without zeros at the end."""
    whole, rest = divmod(amount, NANOS)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
