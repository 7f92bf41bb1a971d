"""An executor that runs a few known-cheap steps of DSPy on the spot instead of in a thread.

DSPy's `acall` sends two steps of every LM call through `asyncio.to_thread`: they take microseconds,
the hop to a thread takes more than they do. The event loop's default executor is a public seam, so
these steps, and only these, run inline; whatever is not listed still gets a real thread, and a step
that DSPy renames goes back to one.

The result of such a step is a future of the loop, which the loop takes as it is: one of threads
would have to wake the loop up, and that costs more than the step.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

CHEAP = frozenset(
    {
        ("dspy.clients.execution", "prepare"),
        ("dspy.clients.execution", "_price_result"),
        ("dspy.clients.capabilities", "capabilities"),
    }
)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class InlineExecutor(ThreadPoolExecutor):
    """A thread pool that does not use a thread for `CHEAP`."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Any:  # noqa: ANN401 - either kind of future
        """Run the function now if it is cheap, else in a thread; the running loop calls this."""
        if not _is_cheap(fn):
            return super().submit(fn, *args, **kwargs)
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - a future carries whatever was raised
            future.set_exception(error)
        return future


def _is_cheap(fn: object) -> bool:
    # `asyncio.to_thread` hands over functools.partial(context.run, function, ...).
    step = next(iter(getattr(fn, "args", ())), None)
    return (getattr(step, "__module__", ""), getattr(step, "__name__", "")) in CHEAP
