"""The release before this one: the checkout of the previous commit, and its images.

There are no published releases yet. The previous commit stands for one: its chart, its CRDs and
its images are what somebody who follows the main branch has installed.
"""

from __future__ import annotations

import dataclasses
import shutil
import tarfile
from typing import TYPE_CHECKING

from devcluster import images, shell
from devcluster.images import Builder, Image
from devcluster.release import Choice

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.embedded import EmbeddedCluster
    from devcluster.layout import Layout
    from devcluster.progress import Progress

CHOICE = Choice(operator="dspy-operator:previous", worker="dspy-worker:previous")


def checkout(layout: Layout) -> Path:
    """Write the files of the commit before this one below the state folder; return the folder.

    Raises:
        DevclusterError: There is no earlier commit, as in a shallow clone.
    """
    target = layout.state / "previous"
    archive = layout.state / "previous.tar"
    layout.state.mkdir(parents=True, exist_ok=True)
    git = ("git", "-C", str(layout.repository))
    shell.run(*git, "archive", "--format=tar", f"--output={archive}", "HEAD~1")
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(archive) as files:
        files.extractall(target, filter="data")
    archive.unlink()
    return target


def load_images(cluster: EmbeddedCluster, progress: Progress, repository: Path) -> None:
    """Build both images from a checkout and load them under the names of `CHOICE`."""
    layout = dataclasses.replace(cluster.layout, repository=repository)
    builder = Builder(layout, progress)
    with cluster.locked():
        for tag, image in ((CHOICE.operator, images.OPERATOR), (CHOICE.worker, images.WORKER)):
            earlier = Image(tag=tag, dockerfile=image.dockerfile)
            images.load(cluster, builder, progress, earlier, builder.build(earlier))
