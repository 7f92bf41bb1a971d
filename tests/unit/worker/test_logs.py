"""What the log must not say: texts of errors, which may quote a request or an answer."""

from __future__ import annotations

import asyncio
import json
import logging

from dspy_worker.edge import logs


def test_a_librarys_error_is_logged_with_its_place_and_without_its_text() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(logs._JSONLines().format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)

    async def forget() -> None:
        async def fail() -> None:
            raise ValueError("a secret question")

        task = asyncio.create_task(fail())
        await asyncio.wait({task})

    asyncio.run(forget())
    logger.removeHandler(handler)

    line = json.loads(lines[0])
    assert (line["event"], line["error"]) == ("Task exception was never retrieved", "ValueError")
    assert "test_logs.py" in line["frames"]
    assert "secret question" not in line["event"] + line["error"]


def test_dspys_errors_are_not_heard_because_they_quote_inputs() -> None:
    assert logs.QUIET["dspy"] > logging.ERROR
