"""The page at `/docs`: self-contained, so that it works without a network beyond the worker."""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_worker.contract.app import AppDocument

_FOLDER = resources.files(__package__) / "page"


def page(app: AppDocument) -> str:
    """Return the page; its script reads `openapi.json` beside it."""
    return (
        _read("docs.html")
        .replace("@TITLE@", html.escape(app.name))
        .replace("/*STYLE*/", _read("docs.css"))
        .replace("/*SCRIPT*/", _read("docs.js"))
    )


def policy() -> str:
    """Return the Content-Security-Policy that allows the page's own script and style, no other."""
    script, style = _hash(_read("docs.js")), _hash(_read("docs.css"))
    return f"default-src 'none'; connect-src 'self'; script-src {script}; style-src {style}"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
