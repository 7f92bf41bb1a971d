"""Who asks, as the headers of a request say it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dspy_worker.edge.call import Origin
from dspy_worker.errors import HeaderInvalid

if TYPE_CHECKING:
    from starlette.requests import Request

TENANT_HEADER = "x-tenant"
SUBJECT_HEADER = "x-subject"
_NAME = re.compile(r"[A-Za-z0-9._@:+-]{1,128}")


def read(request: Request) -> Origin:
    """Return where a request comes from.

    Raises:
        HeaderInvalid: A name cannot be one.
    """
    control = request.headers.get("cache-control", "")
    wishes = {part.strip().lower() for part in control.split(",")} if control else set()
    return Origin(
        request_id=request.scope["request_id"],
        tenant=_name(request, TENANT_HEADER),
        subject=_name(request, SUBJECT_HEADER),
        fresh=not wishes.isdisjoint({"no-cache", "no-store"}),
        keep="no-store" not in wishes,
    )


def _name(request: Request, header: str) -> str:
    value = request.headers.get(header, "")
    if value and not _NAME.fullmatch(value):
        title = header.title()
        raise HeaderInvalid(f"{title} must be 1 to 128 letters, digits and any of . _ @ : + -")
    return str(value)
