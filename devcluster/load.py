"""A steady, bounded load on one URL; the standard library only, so that it runs in any pod.

    python3 load.py URL BODY --rate 40 --seconds 30

It starts a request every 1/rate seconds, whether or not the earlier ones have been answered (an
open loop: a slow server does not slow the load down), each on a connection of its own. A line of
JSON a second tells how far it is, the last line is the summary. SIGTERM ends it early, with the
summary. It never retries: what fails is counted as failed, and so is a stream of events that ends
without its result.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_RATE = 2000
MAX_SECONDS = 600
RESULT = b"event: result\ndata: "


@dataclass(slots=True)
class Tally:
    """What happened so far; times in seconds."""

    sent: int = 0
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    bodies: collections.Counter[str] = field(default_factory=collections.Counter)
    times: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Return the figures as one JSON object."""
        times = sorted(self.times)
        return {
            "sent": self.sent,
            "ok": self.codes["200"],
            "failed": self.sent - self.codes["200"],
            "codes": dict(self.codes),
            "errors": dict(self.errors),
            "answers": dict(self.bodies.most_common(5)),
            "p50_ms": round(_quantile(times, 0.5) * 1000, 1),
            "p99_ms": round(_quantile(times, 0.99) * 1000, 1),
        }


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def request_bytes(url: str, body: bytes) -> bytes:
    """Return one POST request that asks the server to close the connection."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


async def ask(url: str, request: bytes, tally: Tally, timeout: float) -> None:  # noqa: ASYNC109
    """Send one request and count how it ended."""
    started = time.monotonic()
    tally.sent += 1
    try:
        async with asyncio.timeout(timeout):
            status, body = await _exchange(url, request)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
        tally.errors[f"{type(error).__name__}: {error}"[:120]] += 1
        return
    tally.codes[status] += 1
    tally.times.append(time.monotonic() - started)
    if status != "200":
        tally.errors[body[:200].decode(errors="replace")] += 1
    else:
        tally.bodies[_prediction(body)] += 1


async def _exchange(url: str, request: bytes) -> tuple[str, bytes]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        raise ValueError("the connection was closed without an answer")
    if b"text/event-stream" in head:
        body = _result(body)
    return head.split(b" ", 2)[1].decode(), body


def _result(events: bytes) -> bytes:
    """Return the document of the event that ends a whole stream, out of its chunks."""
    chunk = next((part for part in events.split(b"\r\n") if RESULT in part), None)
    if chunk is None:
        raise ValueError(f"the stream ended without a result: {events[-200:].decode()!r}")
    return chunk.partition(RESULT)[2].strip()


def _prediction(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body).get("prediction"), sort_keys=True)[:80]
    except (ValueError, AttributeError):
        return "no JSON object"


async def run(url: str, body: bytes, *, rate: float, seconds: float, timeout: float) -> Tally:  # noqa: ASYNC109
    """Load `url` for a bounded time.

    Args:
        url: An http URL.
        body: JSON body of each request.
        rate: Requests started in a second, at most `MAX_RATE`.
        seconds: How long, at most `MAX_SECONDS`.
        timeout: Seconds after which a request counts as failed.
    """
    tally, running, stop = Tally(), set[asyncio.Task[None]](), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    request = request_bytes(url, body)
    started, told = time.monotonic(), 0
    total = int(min(rate, MAX_RATE) * min(seconds, MAX_SECONDS))
    for number in range(total):
        wait = started + number / rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        if stop.is_set():
            break
        task = asyncio.create_task(ask(url, request, tally, timeout))
        running.add(task)
        task.add_done_callback(running.discard)
        if int(time.monotonic() - started) > told:
            told = int(time.monotonic() - started)
            _tell({"second": told, "sent": tally.sent, "ok": tally.codes["200"]})
    await asyncio.gather(*running)
    return tally


def _tell(figures: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line, load, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("body")
    parser.add_argument("--rate", type=float, default=40)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--timeout", type=float, default=30)
    args = parser.parse_args()
    load = run(
        args.url, args.body.encode(), rate=args.rate, seconds=args.seconds, timeout=args.timeout
    )
    _tell(asyncio.run(load).summary())


if __name__ == "__main__":
    main()
