"""Ports for servers of tests."""

from __future__ import annotations

import socket


def free() -> int:
    """Return a loopback port that nobody uses at present."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
