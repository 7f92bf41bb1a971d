"""Keys and certificates by openssl: one authority per cluster, one certificate per identity.

A certificate carries a user (its common name) and groups (its organizations). Giving each
component, each test and each person another user is what makes the audit log tell them apart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster import shell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DAYS = "3650"
_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_MINIMAL_CONFIG = "[req]\ndistinguished_name = name\n[name]\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority in a folder; it signs on demand and keeps what it signed.

    Attributes:
        folder: Where all keys and certificates lie.
    """

    folder: Path

    @property
    def pair(self) -> Pair:
        """The authority's own certificate and key."""
        return self._pair("ca")

    @property
    def service_account_key(self) -> Path:
        """Private key that signs service account tokens."""
        return self.folder / "service-accounts.key"

    @property
    def service_account_public_key(self) -> Path:
        """Public key that verifies service account tokens."""
        return self.folder / "service-accounts.pub"

    def create(self) -> None:
        """Make the authority and the service account key unless they exist."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "openssl.cnf").write_text(_MINIMAL_CONFIG)
        if not self.pair.certificate.exists():
            extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
            self._issue(self.pair, "/CN=devcluster", extensions, signed=False)
        if not self.service_account_key.exists():
            curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
            shell.run("openssl", "genpkey", *curve, "-out", str(self.service_account_key))
        if not self.service_account_public_key.exists():
            public = str(self.service_account_public_key)
            private = str(self.service_account_key)
            shell.run("openssl", "pkey", "-in", private, "-pubout", "-out", public)

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """Return a certificate that authenticates a user with groups; make it when missing."""
        pair = self._pair(f"client-{_slug(user, groups)}")
        if not pair.certificate.exists():
            self._issue(pair, subject(user, groups), ("extendedKeyUsage=clientAuth",))
        return pair

    def server(self, name: str, alternatives: Sequence[str]) -> Pair:
        """Return a certificate for a server.

        Args:
            name: Common name.
            alternatives: Its other names in openssl's notation, such as `IP:10.0.0.1`.
        """
        pair = self._pair(f"server-{_slug(name, alternatives)}")
        if not pair.certificate.exists():
            names = f"subjectAltName={','.join(alternatives)}"
            self._issue(pair, f"/CN={name}", ("extendedKeyUsage=serverAuth", names))
        return pair

    def _pair(self, stem: str) -> Pair:
        return Pair(certificate=self.folder / f"{stem}.crt", key=self.folder / f"{stem}.key")

    def _issue(
        self, pair: Pair, name: str, extensions: Sequence[str], *, signed: bool = True
    ) -> None:
        """Make a key and a certificate; the certificate comes last, so its presence means both."""
        signer = ("-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key))
        additions = [part for text in extensions for part in ("-addext", text)]
        config = str(self.folder / "openssl.cnf")
        shell.run(
            *("openssl", "req", "-x509", "-config", config, "-days", _DAYS, *_EC_KEY),
            *(signer if signed else ()),
            *("-keyout", str(pair.key), "-out", str(pair.certificate), "-subj", name),
            *additions,
        )


def subject(user: str, groups: Sequence[str]) -> str:
    """Return the subject of a client certificate in openssl's notation."""
    parts = [*(f"O={group}" for group in groups), f"CN={user}"]
    return "".join("/" + part.replace("\\", "\\\\").replace("/", "\\/") for part in parts)


def _slug(name: str, details: Sequence[str]) -> str:
    """Return a file name that differs whenever the name or the details differ."""
    readable = "".join(char if char.isalnum() or char in "-." else "-" for char in name)
    return f"{readable}-{hashlib.sha256(repr((name, *details)).encode()).hexdigest()[:8]}"
