"""Installing the operator from the chart of this checkout, with Helm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.access import Access
    from devcluster.progress import Progress

NAME = "dspy-operator"
NAMESPACE = "dspy-system"
_TIMEOUT = "120s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The images of an installation.

    Attributes:
        operator: Image of the operator, with its tag.
        worker: Image of the workers, with its tag.
    """

    operator: str
    worker: str


DEV = Choice(operator="dspy-operator:dev", worker="dspy-worker:dev")


def values(choice: Choice) -> list[str]:
    """Return Helm's arguments that set the chart's values."""
    repository, _, tag = choice.operator.rpartition(":")
    settings = {
        "image.repository": repository,
        "image.tag": tag,
        "image.pullPolicy": "IfNotPresent",
        "worker.image": choice.worker,
    }
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def install(
    progress: Progress, access: Access, helm: Path, choice: Choice = DEV, *, restart: bool = False
) -> None:
    """Install or upgrade the operator and wait until it is available.

    Args:
        progress: Where to tell.
        access: The cluster.
        helm: The program.
        choice: The images.
        restart: Replace running pods, since an image has changed under the same tag.

    Raises:
        DevclusterError: There is no chart, or the operator did not become available.
    """
    chart = access.repository / "charts" / NAME
    if not (chart / "Chart.yaml").exists():
        raise DevclusterError(f"there is no chart in {chart}")
    progress.say("installing the operator with Helm")
    access.crds()
    arguments = ("upgrade", "--install", NAME, str(chart), "--namespace", NAMESPACE)
    wait = ("--create-namespace", "--wait", f"--timeout={_TIMEOUT}")
    log = access.kubeconfig.parent / "logs" / "helm.log"
    command = [str(helm), f"--kubeconfig={access.kubeconfig}", *arguments, *wait, *values(choice)]
    try:
        progress.run(command, what="installing the operator", log=log)
    except DevclusterError as error:
        raise DevclusterError(f"{error.args[0]}; {_explain(access)}", log=log) from error
    if restart:
        _restart(access)
    progress.say("the operator is available")


def _restart(access: Access) -> None:
    deployments = access.kubectl("--namespace", NAMESPACE, "get", "deployments", "--output=name")
    for name in deployments.split():
        access.kubectl("--namespace", NAMESPACE, "rollout", "restart", name)
        status = ("rollout", "status", name, f"--timeout={_TIMEOUT}")
        access.kubectl("--namespace", NAMESPACE, *status)


def _explain(access: Access) -> str:
    """Return the state of the operator's pods and their last words, in one line."""
    columns = "custom-columns=:metadata.name,:status.phase,:status.containerStatuses[*].state"
    namespace = ("--namespace", NAMESPACE)
    pods = access.kubectl(*namespace, "get", "pods", "--no-headers", "--output", columns)
    selector = f"--selector=app.kubernetes.io/instance={NAME}"
    try:
        said = access.kubectl(*namespace, "logs", selector, "--tail=2")
    except DevclusterError as error:
        said = str(error)  # a container that has not started has no log; kubectl says why
    return " | ".join(["pods:", *pods.splitlines(), "last words:", *said.splitlines()])
