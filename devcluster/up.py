"""From nothing to a cluster with the operator in it: what `make cluster` and the demo call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devcluster import release, target
from devcluster.embedded import EmbeddedCluster
from devcluster.layout import Layout
from devcluster.progress import Progress

if TYPE_CHECKING:
    from devcluster.access import Access


def up(progress: Progress | None = None, *, bare: bool = False) -> Access:
    """Bring up the cluster of this checkout and return the door to it.

    Args:
        progress: Where to tell; by default the terminal.
        bare: Stop before images and operator.

    Raises:
        DevclusterError: A step failed; the message says which and where to read more.
    """
    progress = progress or Progress()
    layout = Layout.of_checkout()
    chosen = target.choose(layout, progress)
    access = chosen.up()
    if not bare:
        choice = chosen.images()
        changed = chosen.load_images()
        helm = target.find_helm(layout, progress)
        release.install(progress, access, helm, choice, restart=choice.operator in changed)
    return access


def load_images(progress: Progress) -> None:
    """Build the images and load them into the running cluster."""
    target.choose(Layout.of_checkout(), progress).load_images()


def install_operator(progress: Progress) -> None:
    """Install the operator into the running cluster."""
    layout = Layout.of_checkout()
    chosen = target.choose(layout, progress)
    helm = target.find_helm(layout, progress)
    release.install(progress, chosen.up(), helm, chosen.images())


def down(progress: Progress, *, everything: bool = False) -> None:
    """Remove the clusters that this checkout started, whatever KUBECONFIG names now.

    Args:
        progress: Where to tell.
        everything: Also forget images and keys of the embedded cluster.
    """
    layout = Layout.of_checkout()
    target.Kind(layout, progress).down()
    EmbeddedCluster(layout, progress).down(everything=everything)
    progress.say("the cluster of this checkout is down")
