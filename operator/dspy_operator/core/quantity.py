"""Kubernetes quantities: "0.1" and "100m" are the same amount, and the API server rewrites them."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([+-]?[0-9.]+)(?:[eE]([+-]?[0-9]+)|(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|n|u))?")
_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def amount(value: object) -> Decimal | None:
    """Return the amount that a quantity stands for; None for what is no quantity."""
    found = _FORM.fullmatch(str(value))
    if found is None or found[1].count(".") > 1 or found[1].strip("+-.") == "":
        return None
    number = Decimal(found[1]).scaleb(int(found[2] or 0))
    return number * _FACTORS.get(found[3] or "", Decimal(1))


def same(one: object, other: object) -> bool:
    """Return whether two quantities are the same amount."""
    amounts = amount(one), amount(other)
    return None not in amounts and amounts[0] == amounts[1]
