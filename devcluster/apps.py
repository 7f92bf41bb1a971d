"""What demo and cluster tests do with apps: apply examples, wait for conditions, ask, load.

Everything goes through kubectl, so it works with any cluster that kubectl reaches.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
LOAD_NAME = "load"


class Kubectl(Protocol):
    """The part of a cluster that this module needs."""

    @property
    def kubeconfig(self) -> Path:
        """The credentials."""
        ...

    @property
    def kubectl_path(self) -> Path:
        """The program."""
        ...

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl and return its output."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of an app's public API.

    Attributes:
        text: The body.
        headers: By name, in lower case.
    """

    text: str
    headers: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """Return the body as JSON."""
        found: dict[str, Any] = json.loads(self.text)
        return found


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
        """Send one prediction request and return the answer.

        Raises:
            DevclusterError: The app refused it; the message is the problem's text.
        """
        with self.forward(app) as url:
            answer: dict[str, Any] = json.loads(
                _http(f"{url}/v1/predict", json.dumps({"inputs": inputs}).encode())
            )
        return answer

    def read(self, app: str, path: str) -> str:
        """Return what a GET of the app's public API answers."""
        with self.forward(app) as url:
            return _http(url + path)

    def post(self, app: str, path: str, document: dict[str, Any]) -> Reply:
        """Send a document to the app's public API.

        Raises:
            DevclusterError: The app refused it; the message is the problem's text.
        """
        with self.forward(app) as url:
            return _exchange(f"{url}{path}", json.dumps(document).encode())

    @contextlib.contextmanager
    def forward(self, app: str) -> Iterator[str]:
        """Yield a loopback URL that leads to an app's Service, as `kubectl port-forward` does."""
        command = [str(self.cluster.kubectl_path), f"--kubeconfig={self.cluster.kubeconfig}"]
        target = [f"--namespace={self.namespace}", "port-forward", f"service/{app}", ":http"]
        process = subprocess.Popen(
            [*command, *target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield _forwarded(process)
        finally:
            process.terminate()
            process.communicate()

    def start_load(
        self,
        app: str,
        inputs: dict[str, Any],
        *,
        rate: int,
        seconds: int,
        path: str = "/v1/predict",
    ) -> None:
        """Start a steady load on an app's Service from a pod inside the cluster."""
        script = (REPOSITORY / "devcluster/load.py").read_text()
        self.kubectl("delete", "pod", LOAD_NAME, "--ignore-not-found", "--wait=true")
        body = json.dumps({"inputs": inputs})
        url = f"http://{app}.{self.namespace}.svc{path}"
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


def _forwarded(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    line = process.stdout.readline()
    found = re.search(r"127\.0\.0\.1:\d+", line)
    if found is None:
        raise DevclusterError(f"kubectl port-forward failed: {line.strip()}")
    return f"http://{found[0]}"


def _http(url: str, body: bytes | None = None) -> str:
    return _exchange(url, body).text


def _exchange(url: str, body: bytes | None = None) -> Reply:
    request = urllib.request.Request(  # noqa: S310 - a loopback URL of ours
        url, data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(text=response.read().decode(), headers=headers)
    except urllib.error.HTTPError as error:
        raise DevclusterError(error.read().decode()) from None


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
