"""JSON logs on standard output: ids, times and reasons; never inputs, answers or keys."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import orjson
import structlog

QUIET = {
    "dspy": logging.CRITICAL,  # its errors quote the inputs of `dspy.Parallel`
    "uvicorn": logging.ERROR,
    "httpx": logging.ERROR,
    "asyncio": logging.ERROR,
    "psycopg": logging.CRITICAL,  # the addresses of servers
}
"""Loggers of libraries, and from where on they are heard: below, they quote prompts or answers."""


class _JSONLines(logging.Formatter):
    """What libraries log, in the form of our own lines; texts of errors may quote a request."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "event": record.getMessage().partition("\n")[0],
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["frames"] = "".join(traceback.format_tb(record.exc_info[2]))
        return orjson.dumps(line).decode()


def configure() -> None:
    """Send our lines and those of libraries to standard output."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JSONLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name, level in QUIET.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(level)
        logger.propagate = True


def silence() -> None:
    """Log nothing: a command line speaks for itself."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def get() -> Any:  # noqa: ANN401 - structlog's loggers have no common type
    """Return a logger; bind nothing to it that a client has sent except ids."""
    return structlog.get_logger()


def _dumps(line: Any, **_: Any) -> bytes:  # noqa: ANN401 - structlog's signature
    return orjson.dumps(line, default=str)
