"""CustomResourceDefinitions of other projects, read from the Go modules that ship them.

`go mod download` brings and verifies a module; nothing of it is built, and no copy lies here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import binaries, shell

if TYPE_CHECKING:
    from devcluster.layout import Layout
    from devcluster.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Where one CRD lies."""

    module: str
    path: str


DEFINITIONS = {
    "ServiceMonitor": Definition(
        module="github.com/prometheus-operator/prometheus-operator@v0.85.0",
        path="example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "PrometheusRule": Definition(
        module="github.com/prometheus-operator/prometheus-operator@v0.85.0",
        path="example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "ScaledObject": Definition(
        module="github.com/kedacore/keda/v2@v2.21.0",
        path="config/crd/bases/keda.sh_scaledobjects.yaml",
    ),
    "HTTPRoute": Definition(
        module="sigs.k8s.io/gateway-api@v1.6.1",
        path="config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
}
"""The kinds of others that apps may use; the newest versions that build with the Go in use."""


def find(layout: Layout, progress: Progress, kind: str) -> Path:
    """Return the file with the CRD of a kind; download its module where it is missing.

    Raises:
        DevclusterError: The module could not be downloaded.
    """
    definition = DEFINITIONS[kind]
    return folder(layout, progress, definition.module) / definition.path


def folder(layout: Layout, progress: Progress, module: str) -> Path:
    """Return the folder of a Go module, such as `example.com/x@v1.0.0`; download it if missing.

    Raises:
        DevclusterError: The module could not be downloaded.
    """
    go = binaries.find_go(progress, layout.cache, layout.cache / "logs" / "go-download.log")
    env = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
    answer = shell.run(go, "mod", "download", "-json", module, env=env, seconds=600)
    return Path(json.loads(answer)["Dir"])
