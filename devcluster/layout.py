"""Where the files of a cluster lie: one frozen value, no I/O but `find_repository`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def find_repository() -> Path:
    """Return the root of the checkout that this package was imported from."""
    return Path(__file__).resolve().parent.parent


def find_cache() -> Path:
    """Return the folder for results that outlive a checkout: binaries, base image, pip's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dspy-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths of one cluster.

    Attributes:
        repository: Root of the checkout.
        cache: Folder shared by all checkouts of a user.
        state: Everything that belongs to this cluster; deleting it loses only time.
    """

    repository: Path
    cache: Path
    state: Path

    @classmethod
    def of_checkout(cls) -> Layout:
        """Return the layout of the cluster that belongs to this checkout."""
        repository = find_repository()
        return cls(
            repository=repository, cache=find_cache(), state=repository / ".state" / "cluster"
        )

    @property
    def pki(self) -> Path:
        """Folder of keys and certificates."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Folder of rendered configuration files."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """Folder with one log per component and per long step."""
        return self.state / "logs"

    @property
    def var_lib(self) -> Path:
        """What the cluster's processes see as `/var/lib`."""
        return self.state / "var-lib"

    @property
    def var_log(self) -> Path:
        """What the cluster's processes see as `/var/log`; the logs of pods are below it."""
        return self.state / "var-log"

    @property
    def volumes(self) -> Path:
        """Folder behind the persistent volumes."""
        return self.var_lib / "volumes"

    @property
    def audit_log(self) -> Path:
        """JSON lines, one per write request."""
        return self.logs / "audit.jsonl"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the user `admin`."""
        return self.state / "kubeconfig"

    @property
    def plan(self) -> Path:
        """What the supervisor starts."""
        return self.state / "plan.json"

    @property
    def record(self) -> Path:
        """What was made on the host, so that `down` can remove exactly that."""
        return self.state / "record.json"

    @property
    def lock(self) -> Path:
        """Held while the cluster is being changed."""
        return self.state / "lock"

    @property
    def buildah(self) -> Path:
        """Image store of the builds."""
        return self.state / "buildah"

    @property
    def archives(self) -> Path:
        """Image archives on their way into containerd."""
        return self.state / "archives"
