"""The operator as a process of its own against a real API server, and one namespace to watch it in.

No pod runs here: the tests play the kubelet by patching the status of pods. The operator is a
user of its own with the rights that the chart gives it, so a missing right shows.
"""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster.access import Access
from devcluster.errors import DevclusterError
from devcluster.light import free_ports

USER = "dspy-operator-under-test"
CHILDREN = (
    "deployments,services,configmaps,serviceaccounts,persistentvolumeclaims,ingresses,"
    "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers"
)
"""The kinds of children that every Kubernetes serves."""
APP: dict[str, Any] = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": "tickets"},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "text"}], "outputs": [{"name": "label"}]}},
        "models": [{"name": "main", "model": "practice", "endpoint": "http://lm:8080/v1"}],
        "serving": {"replicas": 2},
    },
}


def app(name: str = "tickets", **spec: object) -> dict[str, Any]:
    """Return the test's DSPyApp with parts of its spec merged in or, with None, left out."""
    made = copy.deepcopy(APP)
    made["metadata"]["name"] = name
    made["spec"].update(spec)
    return made


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> float:
    """Wait until something holds; return the seconds it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class Operator:
    """The program `dspy-operator` as a process."""

    kubeconfig: Path
    log: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=lambda: free_ports(1))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    Path(sys.executable).parent / "dspy-operator",
                    f"--metrics-port={self.port}",
                    *self.arguments,
                ],
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                stderr=log,
            )
        until(self.is_ready, "the operator to be ready", 30)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        assert self.runs(), self.log.read_text()[-2000:]
        return self.get("readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as got:
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (TimeoutError, urllib.error.URLError):
            return 0, ""

    def metric(self, name: str) -> float:
        lines = [x for x in self.get("metrics")[1].splitlines() if x.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@dataclass
class World:
    """One namespace, and what a user, a kubelet and an auditor see and do there."""

    access: Access
    namespace: str
    operator: Operator

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.access.kubectl(f"--namespace={self.namespace}", *args, stdin=stdin)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def names(self, kinds: str, name: str = "tickets") -> list[str]:
        selector = f"--selector=dspy-operator.io/app={name}"
        return self.kubectl("get", kinds, selector, "--output=name").split()

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        self.kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}")

    def condition(self, kind: str, name: str = "tickets") -> dict[str, Any]:
        """Return a condition that speaks of the present generation, else nothing."""
        live = self.get("dspyapp", name)
        if live.get("status", {}).get("observedGeneration") != live["metadata"]["generation"]:
            return {}
        return next((c for c in live["status"]["conditions"] if c["type"] == kind), {})

    def wait_reason(
        self, reason: str, name: str = "tickets", kind: str = "Ready", seconds: float = 15
    ) -> dict[str, Any]:
        is_so = lambda: self.condition(kind, name).get("reason") == reason  # noqa: E731
        until(is_so, f"{kind} {reason}", seconds)
        return self.condition(kind, name)

    def pods(self, name: str = "tickets") -> list[str]:
        return self.names("pods", name)

    def play_kubelet(self, name: str = "tickets", **status: object) -> None:
        """Let all pods become ready, or show another status."""
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        wanted = status or {"phase": "Running", "conditions": ready}
        count = self.get("deployment", name)["spec"]["replicas"]
        until(lambda: len(self.pods(name)) >= count, "pods")
        patch = f"--patch={json.dumps({'status': wanted})}"
        for pod in self.pods(name):
            with contextlib.suppress(DevclusterError):  # its ReplicaSet has just deleted it
                self.kubectl("patch", pod, "--subresource=status", "--type=merge", patch)

    def serve(self, manifest: dict[str, Any]) -> None:
        """Apply an app and let it become ready."""
        name = manifest["metadata"]["name"]
        self.apply(manifest)
        until(lambda: f"deployment.apps/{name}" in self.names("deployments", name), "Deployment")
        self.play_kubelet(name)
        self.wait_reason("Serving", name)

    def marker(self) -> int:
        return self.access.audit_marker()

    def writes(self, since: int) -> list[str]:
        """Return the operator's writes in this namespace, Events left out."""
        return [
            f"{e.verb} {e.resource}{'/' if e.subresource else ''}{e.subresource} {e.name}"
            for e in self.access.audit(since)
            if e.user == USER and e.namespace == self.namespace and e.resource != "events"
        ]
