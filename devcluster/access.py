"""What tests and people may do with a running cluster, whatever kind it is."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster import audit, kubeconfig, shell
from devcluster.certificates import Authority
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devcluster.audit import AuditEvent

_CRD_ATTEMPTS = 10
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A door to one cluster, open as the user `admin`.

    Attributes:
        kubeconfig: Kubeconfig of `admin`.
        server: URL of the API server.
        kubectl_path: The kubectl of the same version.
        pki: Folder of the cluster's certificate authority, or None where it is not ours.
        audit_log: Audit log of the API server, or None where it is not ours.
        repository: Root of the checkout, for the CRDs.
    """

    kubeconfig: Path
    server: str
    kubectl_path: Path
    pki: Path | None
    audit_log: Path | None
    repository: Path

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as `admin` and return its output.

        Raises:
            DevclusterError: kubectl failed; the message carries its stderr.
        """
        config = f"--kubeconfig={self.kubeconfig}"
        return shell.run(str(self.kubectl_path), config, *args, stdin=stdin)

    def kubectl_json(self, *args: str) -> Any:  # noqa: ANN401 - whatever kubectl answers
        """Run kubectl with `--output=json` and return the parsed answer."""
        return json.loads(self.kubectl(*args, "--output=json"))

    def apply(self, manifests: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> None:
        """Apply manifests on the server's side, taking over fields of others."""
        items = [manifests] if isinstance(manifests, dict) else list(manifests)
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--filename=-"), stdin=content
        )

    def crds(self) -> None:
        """Apply the CRDs of this checkout and wait until the API server serves them."""
        files = sorted((self.repository / "crds").glob("*.yaml"))
        if not files:
            return
        self.define(files)

    def define(self, files: Iterable[Path]) -> None:
        """Apply CRDs and wait until the API server serves them."""
        names = [f"--filename={file}" for file in files]
        self.kubectl("apply", "--server-side", "--force-conflicts", *names)
        # kubectl gives up where a CRD is so young that its list of conditions is null.
        for _ in range(_CRD_ATTEMPTS):
            with contextlib.suppress(DevclusterError):
                self.kubectl("wait", "--for=condition=Established", "--timeout=2s", *names)
                return
            time.sleep(0.2)
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig for another user, whom the audit log then shows by name."""
        # A colon would end the path where KUBECONFIG is read as a list of files.
        name = "-".join((user, *groups)).replace(":", "_")
        path = self.kubeconfig.parent / "users" / f"{name}.kubeconfig"
        authority = Authority(folder=_ours(self.pki))
        return kubeconfig.write(path, self.server, authority, user, groups)

    def create_namespace(
        self, prefix: str = "test", labels: Mapping[str, str] | None = None
    ) -> str:
        """Make a fresh namespace that enforces the restricted pod security standard."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": {**RESTRICTED, **(labels or {})}}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.await_namespace(name)
        return name

    def await_namespace(self, name: str) -> None:
        """Wait until pods may be made in a namespace, which takes its default service account."""
        account = ("serviceaccount/default", "--namespace", name)
        self.kubectl("wait", "--for=create", *account, "--timeout=60s")

    def delete_namespace(self, name: str) -> None:
        """Ask for the deletion of a namespace without waiting for it."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def audit_marker(self) -> int:
        """Return a point in time for `audit`."""
        return audit.marker(_ours(self.audit_log))

    def audit(self, since: int = 0) -> list[AuditEvent]:
        """Return the writes that the API server answered after a marker, in order."""
        return audit.read(_ours(self.audit_log), since)

    def answers(self) -> bool:
        """Tell whether the API server is ready to serve."""
        config = f"--kubeconfig={self.kubeconfig}"
        command = (str(self.kubectl_path), config, "get", "--raw=/readyz")
        return shell.succeeds(*command, seconds=5)


def _ours(path: Path | None) -> Path:
    if path is None:
        raise DevclusterError("this needs a cluster that devcluster itself has started")
    return path
