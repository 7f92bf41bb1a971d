"""Which cluster to use: the one in KUBECONFIG, kind, or the embedded one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from devcluster import binaries, images, machine, release, shell
from devcluster.access import Access
from devcluster.embedded import EmbeddedCluster
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from devcluster.layout import Layout
    from devcluster.progress import Progress
    from devcluster.release import Choice

OPERATOR_IMAGE = "DSPY_OPERATOR_IMAGE"
WORKER_IMAGE = "DSPY_WORKER_IMAGE"
_KIND_NAME = "dspy-operator"


class Target(Protocol):
    """A cluster that can be brought up and given images."""

    def up(self) -> Access:
        """Bring it up unless it runs."""
        ...

    def load_images(self) -> tuple[str, ...]:
        """Make the project's images known to it; return the tags of the changed ones."""
        ...

    def images(self) -> Choice:
        """Return the images to install."""
        ...


def choose(layout: Layout, progress: Progress) -> Target:
    """Return the cluster to use; says which one and why."""
    named = os.environ.get("KUBECONFIG", "")
    if named and Path(named).resolve() != layout.kubeconfig:
        if shutil.which("kubectl") and shell.succeeds("kubectl", "get", "--raw=/readyz"):
            progress.say(f"using the cluster in KUBECONFIG ({named})")
            return Existing(layout, progress, Path(named))
        progress.say(f"the cluster in KUBECONFIG ({named}) does not answer: not using it")
    if shutil.which("kind") and machine.docker_runs():
        progress.say("using kind, since a Docker engine runs")
        return Kind(layout, progress)
    return Embedded(layout, progress)


class Embedded:
    """The cluster of this package."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        """Nothing is started yet."""
        self._cluster = EmbeddedCluster(layout, progress)
        self._progress = progress

    def up(self) -> Access:
        """Start it unless it is healthy."""
        if not self._cluster.up():
            self._progress.say("the embedded cluster is running already")
        return self._cluster.access

    def load_images(self) -> tuple[str, ...]:
        """Build and load both images."""
        return images.ensure(self._cluster, self._progress)

    def images(self) -> Choice:
        """Return the images of this checkout."""
        return release.DEV


class Existing:
    """A cluster that somebody else runs. Its nodes must be able to pull both images."""

    def __init__(self, layout: Layout, progress: Progress, kubeconfig: Path) -> None:
        """Nothing is asked yet."""
        self._layout = layout
        self._progress = progress
        self._kubeconfig = kubeconfig

    def up(self) -> Access:
        """Return the door to it."""
        return _foreign(self._layout, self._kubeconfig)

    def load_images(self) -> tuple[str, ...]:
        """Do nothing: the images are where the variables say."""
        return ()

    def images(self) -> Choice:
        """Return the images that the environment names.

        Raises:
            DevclusterError: It names none.
        """
        operator, worker = os.environ.get(OPERATOR_IMAGE), os.environ.get(WORKER_IMAGE)
        if not operator or not worker:
            raise DevclusterError(
                f"push the images to where the cluster can pull them and name them in "
                f"{OPERATOR_IMAGE} and {WORKER_IMAGE}; or unset KUBECONFIG"
            )
        return release.Choice(operator=operator, worker=worker)


class Kind:
    """kind on a Docker engine.

    Written by the book and not covered by a test: the machines that test this project have no
    Docker engine.
    """

    def __init__(self, layout: Layout, progress: Progress) -> None:
        """Nothing is started yet."""
        self._layout = layout
        self._progress = progress
        self._kubeconfig = layout.state / "kind.kubeconfig"
        self._log = layout.logs / "kind.log"

    def up(self) -> Access:
        """Create it unless it exists."""
        self._layout.state.mkdir(parents=True, exist_ok=True)
        name = ("--name", _KIND_NAME, "--kubeconfig", str(self._kubeconfig))
        if _KIND_NAME in shell.run("kind", "get", "clusters").split():
            shell.run("kind", "export", "kubeconfig", *name)
        else:
            self._run("creating a kind cluster", "kind", "create", "cluster", *name)
        return _foreign(self._layout, self._kubeconfig)

    def load_images(self) -> tuple[str, ...]:
        """Build with Docker and load into the nodes."""
        root = str(self._layout.repository)
        for image in images.ALL:
            file = f"{root}/{image.dockerfile}"
            build = ("docker", "build", "--file", file, "--tag", image.tag, root)
            self._run(f"building {image.tag}", *build)
            load = ("kind", "load", "docker-image", image.tag, "--name", _KIND_NAME)
            self._run(f"loading {image.tag}", *load)
        return tuple(image.tag for image in images.ALL)

    def images(self) -> Choice:
        """Return the images of this checkout."""
        return release.DEV

    def down(self) -> None:
        """Delete it if this checkout has created it."""
        if self._kubeconfig.exists():
            self._run("deleting kind", "kind", "delete", "cluster", "--name", _KIND_NAME)
            self._kubeconfig.unlink()

    def _run(self, what: str, *command: str) -> None:
        self._progress.say(what)
        self._progress.run(command, what=what, log=self._log)


def find_helm(layout: Layout, progress: Progress) -> Path:
    """Return Helm: the embedded cluster's own, or the one on PATH, or a new build."""
    module = layout.repository / "devcluster" / "binaries"
    built = binaries.folder(layout.cache, module) / "helm"
    installed = shutil.which("helm")
    if not built.exists() and installed:
        return Path(installed)
    return binaries.ensure(progress, layout.cache, module, ("helm",)) / "helm"


def _foreign(layout: Layout, kubeconfig: Path) -> Access:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise DevclusterError("kubectl is missing")
    return Access(
        kubeconfig=kubeconfig,
        server="",
        kubectl_path=Path(kubectl),
        pki=None,
        audit_log=None,
        repository=layout.repository,
    )
