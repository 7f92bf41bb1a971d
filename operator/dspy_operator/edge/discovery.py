"""Which kinds of other projects the cluster serves at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dspy_operator.core.render import OPTIONAL_KINDS
from dspy_operator.edge import kube

if TYPE_CHECKING:
    from dspy_operator.edge.kube import Cluster

_CUSTOM_METRICS: Final = "custom.metrics.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One look at the API server.

    Attributes:
        kinds: The optional kinds that are served.
        pod_metrics: Whether there is a custom metrics API.
    """

    kinds: frozenset[str]
    pod_metrics: bool


async def look(cluster: Cluster) -> Found:
    """Ask for the groups, and for the resources of those that matter: four requests at most.

    Raises:
        ClusterError: The API server did not answer; nothing is known then.
    """
    groups = await cluster.groups()
    candidates = [kind for kind in sorted(OPTIONAL_KINDS) if _group(kind) in groups]
    kinds = frozenset([kind for kind in candidates if await cluster.serves(kind)])
    return Found(kinds=kinds, pod_metrics=_CUSTOM_METRICS in groups)


def _group(kind: str) -> str:
    return kube.RESOURCES[kind].prefix.split("/")[1]
