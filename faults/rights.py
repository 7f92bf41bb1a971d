"""The rights that the chart gives the operator, for a user of the campaign.

A right that is missing only while things go wrong shows in no other test.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from devcluster.layout import Layout
from devcluster.progress import Progress
from devcluster.target import find_helm

if TYPE_CHECKING:
    from devcluster.access import Access

OPERATOR = "dspy-operator-under-fault"
_GROUP = "rbac.authorization.k8s.io"
_RELEASE = "faults"


def grant(access: Access) -> None:
    """Apply the chart's roles and bind them to the user `OPERATOR`."""
    layout = Layout.of_checkout()
    helm = find_helm(layout, Progress(quiet=True))
    chart = layout.repository / "charts" / "dspy-operator"
    command = [str(helm), "template", _RELEASE, str(chart), f"--namespace={_RELEASE}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    access.apply([_bound(d) for d in yaml.safe_load_all(text) if d and _is_right(d)])


def _is_right(document: dict[str, Any]) -> bool:
    return str(document["kind"]).startswith("ClusterRole")


def _bound(document: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document))
    if made["kind"] == "ClusterRoleBinding":
        made["subjects"] = [{"kind": "User", "name": OPERATOR, "apiGroup": _GROUP}]
    return made
