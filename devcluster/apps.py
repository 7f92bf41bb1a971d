"""What demo and cluster tests do with apps: apply examples, wait for conditions, ask, load.

Everything goes through the API server (requests to Services by its proxy), so it works with any
cluster that kubectl reaches.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent
LOAD_NAME = "load"


class Kubectl(Protocol):
    """The part of a cluster that this module needs."""

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl and return its output."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Apps:
    """The apps of one namespace.

    Attributes:
        cluster: The door to the cluster.
        namespace: Where the apps live.
        worker_image: Image for pods that this module starts itself.
    """

    cluster: Kubectl
    namespace: str
    worker_image: str = "dspy-worker:dev"

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *args, stdin=stdin)

    def apply_file(self, path: str) -> None:
        """Apply a file of the repository, as a user would."""
        self.kubectl("apply", "--filename", str(REPOSITORY / path))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests, as a user would with a file."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        self.kubectl("apply", "--filename", "-", stdin=text)

    def start_practice_lm(self) -> None:
        """Start the practice LM and wait until it answers."""
        self.apply_file("examples/practice-lm/practice-lm.yaml")
        self.kubectl("rollout", "status", "deployment/practice-lm", "--timeout=180s")

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def names(self, kind: str, app: str) -> list[str]:
        """Return the names of an app's objects of one kind."""
        selector = f"--selector=dspy-operator.io/app={app}"
        return self.kubectl("get", kind, selector, "--output=name").split()

    def condition(self, app: str, kind: str) -> dict[str, Any]:
        """Return one condition of an app; empty while it is absent or speaks of an old spec."""
        found = self.get("dspyapp", app)
        if found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return {}
        conditions = found["status"].get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def wait(
        self, app: str, kind: str, status: str, reason: str = "", *, seconds: float = 120
    ) -> dict[str, Any]:
        """Wait for a condition and return it.

        Raises:
            DevclusterError: It did not come; the message shows what the app says instead.
        """

        def there() -> bool:
            now = self.condition(app, kind)
            return now.get("status") == status and now.get("reason", "").startswith(reason)

        self.wait_until(there, f"{app}: {kind}={status} {reason}", seconds=seconds, app=app)
        return self.condition(app, kind)

    def wait_ready(self, app: str, *, seconds: float = 180) -> None:
        """Wait until an app answers with its present program."""
        self.wait(app, "Ready", "True", seconds=seconds)

    def wait_until(
        self, true: Callable[[], bool], what: str, *, seconds: float = 60, app: str = ""
    ) -> None:
        """Ask again and again until `true` holds.

        Raises:
            DevclusterError: It did not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                now = self.get("dspyapp", app).get("status") if app else ""
                raise DevclusterError(f"waited {seconds:.0f} s in vain for {what}; now: {now}")
            time.sleep(0.2)

    def ask(self, app: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Send one prediction request through the API server's proxy and return the answer."""
        answer: dict[str, Any] = json.loads(
            self.kubectl(
                "create",
                f"--raw={self._proxy(app)}/v1/predict",
                "--filename=-",
                stdin=json.dumps({"inputs": inputs}),
            )
        )
        return answer

    def read(self, app: str, path: str) -> str:
        """Return what a GET of the app's public API answers."""
        return self.kubectl("get", f"--raw={self._proxy(app)}{path}")

    def _proxy(self, app: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services/http:{app}:http/proxy"

    def start_load(self, app: str, inputs: dict[str, Any], *, rate: int, seconds: int) -> None:
        """Start a steady load on an app's Service from a pod inside the cluster."""
        script = (REPOSITORY / "devcluster/load.py").read_text()
        self.kubectl("delete", "pod", LOAD_NAME, "--ignore-not-found", "--wait=true")
        body = json.dumps({"inputs": inputs})
        url = f"http://{app}.{self.namespace}.svc/v1/predict"
        command = ["python3", "/load/load.py", url, body]
        limits = ["--rate", str(rate), "--seconds", str(seconds)]
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": LOAD_NAME},
                "data": {"load.py": script},
            },
            _load_pod(self.worker_image, [*command, *limits]),
        )
        self.kubectl("wait", "pod", LOAD_NAME, "--for=condition=Ready", "--timeout=60s")

    def finish_load(self, *, seconds: float = 120) -> dict[str, Any]:
        """Wait for the end of the load and return its summary."""

        def done() -> bool:
            return self.get("pod", LOAD_NAME)["status"]["phase"] in {"Succeeded", "Failed"}

        self.wait_until(done, "the end of the load", seconds=seconds)
        lines = self.kubectl("logs", LOAD_NAME).strip().splitlines()
        summary: dict[str, Any] = json.loads(lines[-1])
        return summary


def _load_pod(image: str, command: list[str]) -> dict[str, Any]:
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [{"name": "script", "mountPath": "/load"}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": LOAD_NAME},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "script", "configMap": {"name": LOAD_NAME}}],
        },
    }
