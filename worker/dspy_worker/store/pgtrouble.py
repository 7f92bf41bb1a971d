"""What is wrong with a PostgreSQL server, in one sentence without its address."""

from __future__ import annotations

import psycopg

_REFUSALS = (
    ("password authentication failed", "PostgreSQL refuses the user or the password."),
    ("no password supplied", "PostgreSQL wants a password and the URL has none."),
    ("role ", "PostgreSQL does not know the user."),
    ("no pg_hba.conf entry", "PostgreSQL lets this user or this network not in (pg_hba.conf)."),
    ("server does not support ssl", "PostgreSQL offers no TLS and the URL asks for it."),
    ("certificate", "PostgreSQL's certificate does not fit what the URL asks for."),
    ("ssl", "TLS with PostgreSQL failed."),
    ("too many", "PostgreSQL has too many connections."),
    ("remaining connection slots", "PostgreSQL has too many connections."),
    ("starting up", "PostgreSQL is starting."),
    ("shutting down", "PostgreSQL is stopping."),
    ("translate host name", "PostgreSQL's host name is not known."),
    ("resolve", "PostgreSQL's host name is not known."),
    ("connection refused", "Nothing listens where PostgreSQL should."),
    ("timeout", "PostgreSQL did not answer in time."),
    ("database ", "PostgreSQL does not have the database of the URL."),
)
_STATES = {
    "42501": "The user may not do this in the database of the URL.",
    "25006": "PostgreSQL is read-only here: this may be a replica.",
    "53100": "PostgreSQL's disk is full.",
    "57014": "A statement took too long.",
}
UNREACHABLE = "PostgreSQL cannot be reached."
SLOW = "PostgreSQL did not answer in time."
MALFORMED = "The URL of PostgreSQL is not like postgresql://USER:PASSWORD@HOST/DATABASE."


def sentence(error: BaseException) -> str:
    """Return what a person may know of an error of the driver."""
    if isinstance(error, TimeoutError):
        return SLOW
    state = getattr(error, "sqlstate", None)
    if state in _STATES:
        return _STATES[state]
    if not isinstance(error, psycopg.OperationalError):
        return f"PostgreSQL refused a statement ({state or type(error).__name__})."
    text = str(error).lower()
    return next((told for part, told in _REFUSALS if part in text), UNREACHABLE)
