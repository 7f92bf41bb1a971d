"""DSPy's adapters, made cheaper and bounded.

*Cheaper*: system message and demos depend on signature and demos only, so they are rendered once
and reused. The bytes are those of the stock adapter; what cannot be done identically (chat history,
images and other types that DSPy expands itself) goes to the stock code.

*Bounded*: a stock ChatAdapter answers unreadable output with a second, different prompt
(JSONAdapter's). Here the same prompt is asked again, once, and then the request fails.

The classes keep the stock names because DSPy's streaming recognizes adapters by name.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, get_args

import dspy
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER
from dspy.adapters.utils import format_field_value
from dspy.utils.exceptions import AdapterParseError

if TYPE_CHECKING:
    from collections.abc import Callable

    Messages = list[dict[str, Any]]
    Signature = type[dspy.Signature]

REASKS = 1
"""How often a prompt is asked again after an unreadable answer."""
MAX_PREFIXES = 256
_AS_WRITTEN = (str, int, bool)
"""Types whose values the stock adapter writes as `str` does."""


class _Prefix:
    """The part of the messages that stays; keeps its objects alive, so that ids stay theirs."""

    __slots__ = ("demos", "fields", "messages", "requirements", "signature")

    def __init__(self, adapter: Any, signature: Signature, demos: list[Any]) -> None:  # noqa: ANN401 - a mixin
        self.signature, self.demos = signature, list(demos)
        system = {"role": "system", "content": adapter.format_system_message(signature)}
        self.messages: Messages = [system, *adapter.format_demos(signature, demos)]
        self.requirements: str = adapter.user_message_output_requirements(signature)
        self.fields = tuple(signature.input_fields.items())

    def with_inputs(self, inputs: dict[str, Any]) -> Messages | None:
        """Return all messages, or None where DSPy would expand a value itself."""
        parts = [
            f"[[ ## {name} ## ]]\n{_written(info, inputs[name])}"
            for name, info in self.fields
            if name in inputs
        ]
        content = "\n\n".join([*parts, self.requirements]).strip()
        if CUSTOM_TYPE_START_IDENTIFIER in content:
            return None
        return [*self.messages, {"role": "user", "content": content}]


class _Lean:
    """The mixin that makes an adapter of DSPy lean; must stand before it among the bases."""

    def __init__(self, *, on_reask: Callable[[], None], **kwargs: Any) -> None:  # noqa: ANN401 - the stock arguments
        super().__init__(**kwargs)
        self._on_reask = on_reask
        self._prefixes: dict[tuple[int, ...], _Prefix] = {}
        self._lock = threading.Lock()

    def format(self, signature: Signature, demos: list[Any], inputs: dict[str, Any]) -> Messages:
        """Return the same messages as the stock adapter."""
        prefix = self._prefix(signature, demos)
        messages = prefix.with_inputs(inputs) if prefix else None
        if messages is None:
            stock: Messages = super().format(signature, demos, inputs)  # type: ignore[misc]
            return stock
        return messages

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the stock arguments
        """Ask; ask once more if the answer cannot be read."""
        for _ in range(REASKS):
            try:
                return super().__call__(*args, **kwargs)  # type: ignore[misc]
            except AdapterParseError:
                self._on_reask()
        return super().__call__(*args, **kwargs)  # type: ignore[misc]

    async def acall(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the stock arguments
        """Ask; ask once more if the answer cannot be read."""
        for _ in range(REASKS):
            try:
                return await super().acall(*args, **kwargs)  # type: ignore[misc]
            except AdapterParseError:
                self._on_reask()
        return await super().acall(*args, **kwargs)  # type: ignore[misc]

    def _prefix(self, signature: Signature, demos: list[Any]) -> _Prefix | None:
        key = (id(signature), *map(id, demos))
        try:
            return self._prefixes[key]
        except KeyError:
            return self._render(key, signature, demos)

    def _render(
        self, key: tuple[int, ...], signature: Signature, demos: list[Any]
    ) -> _Prefix | None:
        if not _is_plain(signature):
            return None
        prefix = _Prefix(self, signature, demos)
        if any(CUSTOM_TYPE_START_IDENTIFIER in message["content"] for message in prefix.messages):
            return None
        with self._lock:
            while len(self._prefixes) >= MAX_PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
            self._prefixes[key] = prefix
        return prefix


class ChatAdapter(_Lean, dspy.ChatAdapter):  # type: ignore[misc]
    """DSPy's ChatAdapter with rendered prefixes and without the detour over JSON."""


class JSONAdapter(_Lean, dspy.JSONAdapter):  # type: ignore[misc]
    """DSPy's JSONAdapter with rendered prefixes."""


def make(name: str, on_reask: Callable[[], None] = lambda: None) -> dspy.Adapter:
    """Return a new adapter.

    Args:
        name: "Chat" or "JSON".
        on_reask: Called whenever a prompt is asked again.
    """
    if name == "JSON":
        return JSONAdapter(on_reask=on_reask)
    return ChatAdapter(on_reask=on_reask, use_json_adapter_fallback=False)


def _written(info: Any, value: Any) -> Any:  # noqa: ANN401 - pydantic's FieldInfo and any value
    return str(value) if type(value) in _AS_WRITTEN else format_field_value(info, value)


def _is_plain(signature: Signature) -> bool:
    return not any(_is_special(info.annotation) for info in signature.fields.values())


def _is_special(annotation: Any) -> bool:  # noqa: ANN401 - any type
    if isinstance(annotation, type) and issubclass(annotation, dspy.Type | dspy.History):
        return True
    return any(_is_special(argument) for argument in get_args(annotation))
