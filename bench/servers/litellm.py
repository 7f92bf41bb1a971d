"""LiteLLM's proxy: no DSPy server, but what many put before their LM.

It passes on a plain chat completion with the very prompt that the program makes of a question, so
it does less than the others: no adapter, no typed answer.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import dspy

from bench.environments import Environment
from bench.servers import base
from bench.servers.base import LM, QUIET, Server, Site, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Pinned, and never a range: 1.82.7 and 1.82.8 (24 March 2026) stole credentials from the machines
# that installed them. Releases from 1.83.0 on were built anew; this one had been out for more than
# a month, and the DSPy environments have it too.
ENVIRONMENT = Environment(name=".venv-bench-litellm", packages=("litellm[proxy]==1.106.2",))


@contextlib.contextmanager
def start(site: Site) -> Iterator[Subject]:
    """Run the proxy with one model and one worker process."""
    config = site.folder / "config.yaml"
    config.write_text(json.dumps(_config(site.lm_url)), encoding="utf-8")
    options = ["--host", "127.0.0.1", "--port", str(site.port), "--num_workers", "1"]
    command: list[str | Path] = [ENVIRONMENT.bin / "litellm", "--config", config, *options]
    environ = {
        **QUIET,
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # Without a key it would not start. It is spared the check, as the others are.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    target = base.loopback(site, "/v1/chat/completions", body())
    with base.over_http(command, target, environ) as subject:
        yield subject


def _config(lm_url: str) -> dict[str, object]:
    """Return the configuration; JSON is YAML."""
    asked = {"model": f"openai/{LM}", "api_base": lm_url, "api_key": "practice"}
    return {"model_list": [{"model_name": LM, "litellm_params": asked}]}


def body() -> str:
    """Return a chat completion with the program's prompt, and `%s` for the question."""
    signature = dspy.ChainOfThought("question -> answer").predict.signature
    messages = dspy.ChatAdapter().format(signature, demos=[], inputs={"question": "%s"})
    return json.dumps({"model": LM, "messages": messages})


LITELLM = Server(
    name="LiteLLM's proxy (no DSPy: passes a chat completion on)",
    start=start,
    environment=ENVIRONMENT,
    slow_lm=False,
)
