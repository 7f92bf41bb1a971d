"""The Deployment of an app: one worker process in each pod, as restricted as pods can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dspy_operator.core import manifest, names
from dspy_operator.core.render import config, volumes
from dspy_worker import contract

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest

HTTP: Final = "http"
OPS: Final = "ops"
CONTAINER: Final = "worker"

USER: Final = 65532
"""The uid and gid `nonroot` of the images."""
EXTRA_GRACE_SECONDS: Final = 10
"""Time beyond the drain that a pod has to end by itself before the kubelet kills it."""


def deployment(app: App, *, source_digest: str, old_scaler: bool = False) -> Manifest:
    """Render the Deployment.

    Args:
        app: The app.
        source_digest: Hash of the user's files. A new one rolls the pods.
        old_scaler: Whether an autoscaler that is on its way out still owns the replicas.
    """
    by_spec = app.scaling is None and not old_scaler
    scaled_by = {names.SCALED_BY: names.BY_SPEC if by_spec else names.BY_AUTOSCALER}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": config.metadata(app, app.name, "serving", annotations=scaled_by),
        "spec": {
            **({"replicas": app.replicas} if by_spec else {}),
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": names.selector(app.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(app)},
            "template": _template(app, source_digest),
        },
    }


def _rolling(app: App) -> Manifest:
    """A prompt program is slow to warm and cheap to hold twice: never fewer pods than asked.

    Except where a volume ties all pods to one node: a second one might wait for it for ever.
    """
    volume = app.options.cache_volume
    if volume is not None and volume.access_mode == "ReadWriteOnce":
        return {"maxUnavailable": 1, "maxSurge": 0}
    return {"maxUnavailable": 0, "maxSurge": 1}


def template_hash(deployment: Manifest) -> str:
    """Return the hash by which a pod tells that this Deployment's present template made it."""
    annotations = deployment["spec"]["template"]["metadata"].get("annotations", {})
    value: str = annotations.get(names.TEMPLATE, "")
    return value


def _template(app: App, source_digest: str) -> Manifest:
    digests = {names.CONFIG_DIGEST: manifest.digest([app.program.digest, source_digest])[:16]}
    template: Manifest = {
        "metadata": {
            "labels": names.labels(app.name, "serving"),
            "annotations": {**app.pod.annotations, **digests},
        },
        "spec": _pod_spec(app),
    }
    template["metadata"]["annotations"][names.TEMPLATE] = manifest.digest(template)[:16]
    return template


def _pod_spec(app: App) -> Manifest:
    spec: Manifest = {
        "serviceAccountName": app.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": (app.program.serving.drain_seconds + EXTRA_GRACE_SECONDS),
        "securityContext": _pod_security(),
        "containers": [_container(app)],
        "volumes": volumes.volumes(app),
        "topologySpreadConstraints": [_spread(app)],
    }
    return {**spec, **_scheduling(app)}


def _scheduling(app: App) -> Manifest:
    wishes: Manifest = {
        "nodeSelector": dict(app.pod.node_selector),
        "tolerations": list(app.pod.tolerations),
        "priorityClassName": app.pod.priority_class,
        "imagePullSecrets": [{"name": name} for name in app.pod.pull_secrets],
    }
    return {name: value for name, value in wishes.items() if value}


def _spread(app: App) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(app.name)},
    }


def _container(app: App) -> Manifest:
    return {
        "name": CONTAINER,
        "image": app.image,
        "imagePullPolicy": app.pod.pull_policy,
        "args": _arguments(app),
        "env": _environment(app),
        "ports": [
            {"name": HTTP, "containerPort": app.program.serving.port, "protocol": "TCP"},
            {"name": OPS, "containerPort": contract.OPS_PORT, "protocol": "TCP"},
        ],
        "resources": app.pod.resources,
        "securityContext": _container_security(),
        "terminationMessagePath": contract.TERMINATION_LOG,
        # The worker writes one sentence there; what else it printed last is the next best.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.mounts(app),
        **_probes(),
    }


def _arguments(app: App) -> list[str]:
    arguments = ["serve", f"{contract.CONFIG_DIR}/{contract.APP_FILE}"]
    if app.source is not None:
        arguments += ["--source-dir", contract.SOURCE_DIR]
    if app.keyed_models:
        arguments += ["--keys-dir", contract.KEYS_DIR]
    if app.program.connections():
        arguments += ["--connections-dir", contract.CONNECTIONS_DIR]
    if app.program.data_bytes():
        arguments += ["--data-dir", contract.DATA_DIR]
    token = f"{contract.OPS_TOKEN_DIR}/{contract.OPS_TOKEN_FILE}"
    return [*arguments, "--ops-token-file", token]


def _environment(app: App) -> list[Manifest]:
    values = {"HOME": "/tmp"}  # noqa: S108 - the pod's own emptyDir
    if app.options.cache_volume is not None:
        values["XDG_CACHE_HOME"] = volumes.CACHE_DIR
    values |= dict(app.pod.env)
    return [{"name": name, "value": value} for name, value in values.items()]


def _probes() -> Manifest:
    return {
        # Two minutes for imports and the user's own loading, looked at each second.
        "startupProbe": _probe(contract.STARTED_PATH, period=1, failures=120, timeout=1),
        "readinessProbe": _probe(contract.READY_PATH, period=5, failures=2, timeout=2),
        "livenessProbe": _probe(contract.LIVE_PATH, period=10, failures=3, timeout=5),
    }


def _probe(path: str, *, period: int, failures: int, timeout: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": OPS, "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _pod_security() -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
