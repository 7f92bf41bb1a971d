"""Where the API server is and who we are: the pod's service account, or a kubeconfig."""

from __future__ import annotations

import base64
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from dspy_operator.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS: Final = 60.0
"""How long a token read from a file is used before the file is read again."""


class CredentialsError(OperatorError):
    """We cannot tell where the API server is or who we are."""

    reason = "NoCredentials"


class Token:
    """A bearer token that may live in a file which somebody renews."""

    def __init__(self, *, value: str = "", file: Path | None = None) -> None:
        """Remember where the token is; an empty one means certificates."""
        self._value = value
        self._file = file
        self._read_at = float("-inf")

    def header(self) -> dict[str, str]:
        """Return the Authorization header, empty where certificates speak for us."""
        if self._file is not None and time.monotonic() - self._read_at > _TOKEN_SECONDS:
            self._value = self._file.read_text(encoding="utf-8").strip()
            self._read_at = time.monotonic()
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def expire(self) -> bool:
        """Forget a token that was refused; return whether reading it again can help."""
        self._read_at = float("-inf")
        return self._file is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach the API server.

    Attributes:
        server: URL without a trailing slash.
        tls: Trust and client certificate; None for plain HTTP.
        token: The bearer token.
    """

    server: str
    tls: ssl.SSLContext | None
    token: Token = field(default_factory=Token)


def find(environ: Mapping[str, str]) -> Connection:
    """Return the connection that the environment names.

    KUBECONFIG wins over the service account, so that a person can run the operator anywhere.

    Raises:
        CredentialsError: There is neither, or the kubeconfig cannot be used.
    """
    path = environ.get("KUBECONFIG", "")
    if path:
        return _from_kubeconfig(Path(path))
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if host:
        return _in_cluster(host, environ.get("KUBERNETES_SERVICE_PORT", "443"))
    raise CredentialsError("Neither KUBECONFIG nor KUBERNETES_SERVICE_HOST is set.")


def _in_cluster(host: str, port: str) -> Connection:
    address = f"[{host}]" if ":" in host else host
    return Connection(
        server=f"https://{address}:{port}",
        tls=ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")),
        token=Token(file=_ACCOUNT / "token"),
    )


def _from_kubeconfig(path: Path) -> Connection:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
        server = cluster["server"].rstrip("/")
    except (OSError, KeyError, TypeError, StopIteration, yaml.YAMLError) as error:
        raise CredentialsError(f"{path} is no usable kubeconfig: {error!r}") from error
    return Connection(
        server=server,
        tls=_tls(cluster, user, path.parent) if server.startswith("https") else None,
        token=_token(user, path.parent),
    )


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _token(user: dict[str, Any], folder: Path) -> Token:
    file = user.get("tokenFile")
    return Token(file=folder / file) if file else Token(value=user.get("token", ""))


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _bytes(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _bytes(user, "client-certificate", folder)
    if certificate:
        _present(context, certificate, _bytes(user, "client-key", folder))
    return context


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a client certificate; the ssl module takes it from a file only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


def _bytes(section: dict[str, Any], name: str, folder: Path) -> bytes:
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"])
    return (folder / section[name]).read_bytes() if name in section else b""
