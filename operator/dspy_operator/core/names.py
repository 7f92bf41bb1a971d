"""Names of objects, labels, annotations and owner references; everything that others select by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dspy_worker.contract.app import API_VERSION, KIND

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest

MANAGER: Final = "dspy-operator"
"""Field manager of everything but status; also the value of `managed-by`."""
STATUS_MANAGER: Final = "dspy-operator-status"
SCALE_MANAGER: Final = "dspy-operator-scale"
"""Field manager that keeps `replicas` in place while nobody else owns it yet."""
MANAGERS: Final = frozenset({MANAGER, STATUS_MANAGER, SCALE_MANAGER})

APP_LABEL: Final = "dspy-operator.io/app"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Label selector of all that the operator owns, pods included."""
FOREIGN: Final = f"{MANAGED_BY}!={MANAGER}"
"""Label selector of everything else; with the other one, each object is watched once."""

APPLIED: Final = "dspy-operator.io/applied"
"""Hash of the desired object; a field that is no longer desired shows by it alone."""
CONFIG_DIGEST: Final = "dspy-operator.io/config-digest"
"""On the pod template: hash of the app document and of the user's files. A new one rolls pods."""
TEMPLATE: Final = "dspy-operator.io/template"
"""On the pod template: hash of the rest of it, so that a pod tells which template made it."""

SCALED_BY: Final = "dspy-operator.io/scaled-by"
"""On the Deployment: who decides about its replicas, BY_SPEC or BY_AUTOSCALER."""
BY_SPEC: Final = "Spec"
BY_AUTOSCALER: Final = "Autoscaler"


def config_map(app: str) -> str:
    """Return the name of the ConfigMap with the app document."""
    return f"{app}-config"


def ops_config_map(app: str) -> str:
    """Return the name of the ConfigMap with the token of the workers' `/state`."""
    return f"{app}-ops"


def cache_claim(app: str) -> str:
    """Return the name of the claim of the cache volume."""
    return f"{app}-cache"


def metrics_service(app: str) -> str:
    """Return the name of the headless Service of the ops ports."""
    return f"{app}-metrics"


def dashboard(app: str) -> str:
    """Return the name of the ConfigMap with the dashboard."""
    return f"{app}-dashboard"


def pod_selector(app: str) -> str:
    """Return the label selector of an app's pods as text."""
    return f"{APP_LABEL}={app}"


def selector(app: str) -> dict[str, str]:
    """Return the labels by which Deployment and Service find the pods; they never change."""
    return {APP_LABEL: app}


def labels(app: str, component: str) -> dict[str, str]:
    """Return the labels of a child; none is copied from the user's object."""
    return {
        "app.kubernetes.io/name": "dspy-worker",
        "app.kubernetes.io/component": component,
        MANAGED_BY: MANAGER,
        **selector(app),
    }


def owner(app: App) -> Manifest:
    """Return the owner reference: the garbage collector deletes the children, nobody waits."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": app.name,
        "uid": app.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def controller_uid(manifest: Manifest) -> str:
    """Return the uid of the controlling owner, empty where there is none."""
    owners = manifest["metadata"].get("ownerReferences", ())
    return next((o["uid"] for o in owners if o.get("controller")), "")
