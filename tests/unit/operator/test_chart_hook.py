"""The script of `helm test`, against a server that answers like an operator, or does not."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.charts import CHART

SCRIPT = (CHART / "files/test.py").read_text()
GOOD = {"/readyz": (200, "ok\n"), "/metrics": (200, '# HELP\ndspy_operator_build_info{a="b"} 1\n')}


@contextmanager
def server(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            return

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


def ask(url: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a single attempt."""
    script = SCRIPT.replace("ATTEMPTS = 20", "ATTEMPTS = 1")
    assert script != SCRIPT
    command = [sys.executable, "-c", script, url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_ready_operator_with_metrics_passes() -> None:
    with server(GOOD) as url:
        assert ask(url).returncode == 0


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/readyz", (503, "not listed: Pod\n"), "503"),
        ("/readyz", (200, "<html>broken</html>"), "broken"),
        ("/metrics", (200, "up 1\n"), "dspy_operator_build_info"),
    ],
)
def test_anything_else_fails_and_says_what_came(
    path: str, answer: tuple[int, str], said: str
) -> None:
    with server({**GOOD, path: answer}) as url:
        done = ask(url)

    assert done.returncode == 1
    assert said in done.stdout


def test_nobody_at_the_address_fails() -> None:
    done = ask("http://127.0.0.1:9")

    assert done.returncode == 1
    assert "refused" in done.stdout
