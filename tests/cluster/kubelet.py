"""A played kubelet for clusters without nodes: a thread that lets pods become what a test wishes.

It has no node and no containers, only the status of pods. Its user is `played-kubelet`, so the
audit log tells its writes from those of the parts under test.
"""

import contextlib
import threading
from types import TracebackType
from typing import Any, Self

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from devcluster.access import Access

USER = "played-kubelet"
READY: dict[str, Any] = {
    "phase": "Running",
    "conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")],
    "containerStatuses": None,
}


def waiting(reason: str, message: str) -> dict[str, Any]:
    """Return the status of a pod whose container waits."""
    return _container({"waiting": {"reason": reason, "message": message}})


def ended(exit_code: int, message: str) -> dict[str, Any]:
    """Return the status of a pod whose container ended and waits for its next start."""
    last = {"terminated": {"exitCode": exit_code, "reason": "Error", "message": message}}
    return _container({"waiting": {"reason": "CrashLoopBackOff"}}, last)


def _container(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    said = {"name": "worker", "ready": False, "restartCount": 1, "image": "x", "imageID": "x"}
    return {
        "phase": "Pending",
        "conditions": [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")],
        "containerStatuses": [{**said, "state": state, "lastState": last or {}}],
    }


_SECONDS = 0.2


class Kubelet:
    """Looks at all pods of a namespace, or of the whole cluster, a few times per second.

    Attributes:
        plays: For a pod's image, the status that its pods get; for any other image it is `READY`.
    """

    def __init__(self, access: Access, namespace: str = "") -> None:
        path = access.kubeconfig_for(USER, ("system:masters",))
        self._api = client.CoreV1Api(config.new_client_from_config(str(path)))
        self._namespace = namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._shown: dict[str, dict[str, Any]] = {}
        self.plays: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SECONDS):
            # A pod, or the API server, may go at any moment: the next look shows what is left.
            with contextlib.suppress(client.ApiException, HTTPError):
                for pod in self._pods():
                    with contextlib.suppress(client.ApiException):
                        self._play(pod)

    def _pods(self) -> list[Any]:
        if self._namespace:
            return list(self._api.list_namespaced_pod(self._namespace).items)
        return list(self._api.list_pod_for_all_namespaces().items)

    def _play(self, pod: Any) -> None:  # noqa: ANN401 - a generated class without types
        wanted = self.plays.get(pod.spec.containers[0].image, READY)
        if self._shown.get(pod.metadata.uid) == wanted:
            return
        self._api.patch_namespaced_pod_status(
            pod.metadata.name, pod.metadata.namespace, {"status": wanted}
        )
        self._shown[pod.metadata.uid] = wanted
