"""What our engines tell DSPy that a model can do."""

from __future__ import annotations


class Abilities:
    """The base of all engines; DSPy looks at these attributes before it asks."""

    supports_function_calling = True
    supports_reasoning = False
    supports_response_schema = False
    supported_params = frozenset({"temperature", "max_tokens", "top_p", "stop", "seed", "tools"})
