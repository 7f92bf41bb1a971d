"""Lua that runs inside Redis, from the files beside this module."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

Call: TypeAlias = "tuple[Sequence[str], Sequence[object]]"
"""Keys and arguments of one call."""


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

    async def run_all(self, client: Any, calls: Sequence[Call]) -> list[Any]:  # noqa: ANN401 - redis-py's client
        """Return the answers to many calls that go to Redis together.

        Raises:
            redis.RedisError: One of them failed; others may have been done.
        """
        async with client.pipeline(transaction=False) as pipe:
            for keys, arguments in calls:
                pipe.evalsha(self._hash, len(keys), *keys, *arguments)
            found = await pipe.execute(raise_on_error=False)
        for place, answer in enumerate(found):
            if isinstance(answer, NoScriptError):
                found[place] = await self.run(client, *calls[place])
            elif isinstance(answer, Exception):
                raise answer
        return list(found)

    def run_blocking(self, client: Any, keys: Sequence[str], arguments: Sequence[object]) -> Any:  # noqa: ANN401 - redis-py's client and answer
        """Return the script's answer to a thread."""
        try:
            return client.evalsha(self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self._text, len(keys), *keys, *arguments)
