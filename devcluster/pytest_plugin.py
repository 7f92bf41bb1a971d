"""Clusters for pytest, as fixtures.

| fixture | scope | what a test gets |
|---|---|---|
| `light_cluster` | session | a `LightCluster`: API server and controllers, CRDs applied, no pods |
| `light_namespace` | test | a fresh namespace in it |
| `cluster` | session | `Access` to the embedded cluster: images loaded, CRDs applied |
| `operator_installed` | session | the same, with the operator of this checkout installed by Helm |
| `namespace` | test | a fresh namespace in it |
| `embedded_cluster` | session | the `EmbeddedCluster` behind `cluster`: addresses, `enter` |

Namespaces enforce the restricted pod security standard and are deleted after the test without
waiting. A cluster of this checkout that runs already is used and left running; one that a fixture
had to start is taken down at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devcluster import images, release, target
from devcluster.embedded import EmbeddedCluster
from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.access import Access


@pytest.fixture(scope="session")
def devcluster_progress() -> Progress:
    """Tell what happens while fixtures are set up (shown by `-s`, and when a test fails)."""
    return Progress()


@pytest.fixture(scope="session")
def light_cluster(devcluster_progress: Progress) -> Iterator[LightCluster]:
    """Start an API server with controllers for this session."""
    with LightCluster(Layout.of_checkout(), devcluster_progress) as cluster:
        cluster.access.crds()
        yield cluster


@pytest.fixture
def light_namespace(light_cluster: LightCluster) -> Iterator[str]:
    """Make a namespace in the light cluster for one test."""
    name = light_cluster.access.create_namespace()
    yield name
    light_cluster.access.delete_namespace(name)


@pytest.fixture(scope="session")
def embedded_cluster(devcluster_progress: Progress) -> Iterator[EmbeddedCluster]:
    """Use the running cluster of this checkout, or start it for this session."""
    cluster = EmbeddedCluster(Layout.of_checkout(), devcluster_progress)
    started = cluster.up()
    yield cluster
    if started:
        cluster.down()


@pytest.fixture(scope="session")
def _loaded_images(
    embedded_cluster: EmbeddedCluster, devcluster_progress: Progress
) -> tuple[str, ...]:
    return images.ensure(embedded_cluster, devcluster_progress)


@pytest.fixture(scope="session")
def cluster(embedded_cluster: EmbeddedCluster, _loaded_images: tuple[str, ...]) -> Access:
    """Open the door to a whole cluster that knows this checkout's images and CRDs."""
    embedded_cluster.access.crds()
    return embedded_cluster.access


@pytest.fixture(scope="session")
def operator_installed(
    cluster: Access, _loaded_images: tuple[str, ...], devcluster_progress: Progress
) -> Access:
    """Install the operator of this checkout, once."""
    helm = target.find_helm(Layout.of_checkout(), devcluster_progress)
    changed = release.DEV.operator in _loaded_images
    release.install(devcluster_progress, cluster, helm, restart=changed)
    return cluster


@pytest.fixture
def namespace(cluster: Access) -> Iterator[str]:
    """Make a namespace in the whole cluster for one test."""
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)
