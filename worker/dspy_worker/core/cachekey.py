"""Which questions are the same one: the names under which answers are kept.

The key is the SHA-256 of canonical JSON: what shapes an answer, the tenant, the inputs. What only
decides whether there is an answer (keys, timeouts, circuits) is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_worker.contract.app import AppDocument

FORMAT = 1
"""Version of what is hashed and of how answers are written; another one finds nothing."""
_TENANT_DIGITS = 12


class KeyMaker:
    """Makes the keys of one program.

    Attributes:
        variant: Which prompts answer.
    """

    def __init__(self, document: AppDocument, *, variant: str, dspy_version: str) -> None:
        """Hash what all keys have in common once.

        Args:
            document: The app.
            variant: Which prompts answer: the program and its Python files.
            dspy_version: Version of the library that writes the prompts.
        """
        self.variant = variant
        self._is_shared = document.cache is not None and document.cache.scope == "App"
        common = {
            "format": FORMAT,
            "dspy": dspy_version,
            "app": f"{document.namespace}/{document.name}",
            "variant": variant,
            "reasoning": document.serving.include_reasoning,
            "models": [
                [m.name, m.model, m.endpoint, m.temperature, m.max_tokens] for m in document.chain()
            ],
        }
        self._common = hashlib.sha256(b"[" + canonical(common) + b",")

    def tenant(self, name: str) -> str:
        """Return whose answers somebody gets: nobody's in particular where tenants share them."""
        return "" if self._is_shared else name

    def key(self, tenant: str, inputs: Mapping[str, Any]) -> str:
        """Return the key of a question: 64 hex digits.

        Args:
            tenant: What `tenant` returned.
            inputs: JSON values by input field.
        """
        summed = self._common.copy()
        summed.update(canonical(tenant) + b"," + canonical(inputs) + b"]")
        return summed.hexdigest()


def tenant_tag(tenant: str) -> str:
    """Return a short name of a tenant that does not tell who it is; "-" for nobody."""
    if not tenant:
        return "-"
    return hashlib.sha256(tenant.encode()).hexdigest()[:_TENANT_DIGITS]


def canonical(value: Any) -> bytes:  # noqa: ANN401 - JSON
    """Return JSON text that is the same for equal values, and another for others.

    orjson is quick, but it writes NaN and the infinities as null and takes neither large integers
    nor half surrogates. Equal values go the same of the two ways; and since each text can be read
    as one value only, no two values meet.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        text = b"null"
    if b"null" not in text:
        return text
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
