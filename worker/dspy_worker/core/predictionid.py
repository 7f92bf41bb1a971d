"""Names of predictions: they tell which variant answered, and nobody else can make one up.

    0198c0de-7d1c-7c3a-9f52-0f6a2b1c3d4e.3f9a01c2d4e5.0.7be1c09a52d3f864
    a UUID, sorts by time                variant      |  HMAC-SHA-256, shortened
                                                      epoch

Whoever has the app's key can tell both without looking anything up.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 76
"""Most characters of a name."""
_DIGEST = "sha256"
_MAC_DIGITS = 16
_NAME = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"
    r"\.([0-9a-f]{12})\.(0|[1-9][0-9]{0,8})\.([0-9a-f]{16})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionId:
    """What the name of a prediction says.

    Attributes:
        uuid: The part that no other prediction has.
        variant: Which prompts answered.
        epoch: Which division of the traffic among variants was in force; 0 where there was one
            variant.
    """

    uuid: str
    variant: str
    epoch: int = 0


def key(secret: str, app: str) -> bytes:
    """Return the key of an app's names.

    Args:
        secret: What only the app's pods know. It serves other ends too, so it is never used itself.
        app: NAMESPACE/NAME; apps that share a secret do not accept each other's names.
    """
    return hmac.digest(secret.encode(), f"prediction ids of {app}".encode(), _DIGEST)


def write(found: PredictionId, secret_key: bytes) -> str:
    """Return the name of a prediction."""
    told = f"{found.uuid}.{found.variant}.{found.epoch}"
    return f"{told}.{_mac(told, secret_key)}"


def read(name: str, secret_keys: Iterable[bytes]) -> PredictionId | None:
    """Return what a name says; None unless it was made with one of these keys."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        return None
    told = name[: parts.end(3)]
    # All keys are tried and all digits compared, so that the time tells nothing.
    right = [hmac.compare_digest(_mac(told, one), parts[4]) for one in secret_keys]
    if not any(right):
        return None
    return PredictionId(uuid=parts[1], variant=parts[2], epoch=int(parts[3]))


def _mac(told: str, secret_key: bytes) -> str:
    return hmac.digest(secret_key, told.encode(), _DIGEST).hex()[:_MAC_DIGITS]
