"""Lua that runs inside Redis, from the files beside this module."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Script:
    """One script, asked for by its hash; Redis gets the text when it does not know it."""

    def __init__(self, name: str) -> None:
        """Read `NAME.lua`, and `account.lua` before it."""
        files = [Path(__file__).with_name(f"{part}.lua") for part in ("account", name)]
        self._text = "\n".join(file.read_text(encoding="utf-8") for file in files)
        self._hash = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324 - Redis' own choice

    async def run(self, client: Any, keys: Sequence[str], arguments: Sequence[object]) -> Any:  # noqa: ANN401 - redis-py's client and answer
        """Return the script's answer to the event loop."""
        try:
            return await client.evalsha(self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.eval(self._text, len(keys), *keys, *arguments)

    def run_blocking(self, client: Any, keys: Sequence[str], arguments: Sequence[object]) -> Any:  # noqa: ANN401 - redis-py's client and answer
        """Return the script's answer to a thread."""
        try:
            return client.evalsha(self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self._text, len(keys), *keys, *arguments)
