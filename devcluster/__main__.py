"""Command line: `python -m devcluster up|down|status|images|binaries|operator`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from devcluster import argocd, binaries, postgres_server, promtool, redis_server, up
from devcluster.embedded import EmbeddedCluster
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _up(arguments: argparse.Namespace, progress: Progress) -> int:
    access = up.up(progress, bare=arguments.bare)
    print(f"export KUBECONFIG={access.kubeconfig} PATH={access.kubectl_path.parent}:$PATH")
    progress.say("ready; paste the line above, then try: kubectl get pods --all-namespaces")
    return 0


def _down(arguments: argparse.Namespace, progress: Progress) -> int:
    up.down(progress, everything=arguments.everything)
    return 0


def _status(_: argparse.Namespace, progress: Progress) -> int:
    cluster = EmbeddedCluster(Layout.of_checkout(), progress)
    healthy = cluster.is_healthy()
    print("running" if healthy else "not running")
    if healthy:
        print(cluster.access.kubectl("get", "nodes,pods", "--all-namespaces", "--output=wide"))
        print(f"KUBECONFIG={cluster.layout.kubeconfig}\nlogs: {cluster.layout.logs}")
    return 0 if healthy else 1


def _images(_: argparse.Namespace, progress: Progress) -> int:
    up.load_images(progress)
    return 0


def _operator(_: argparse.Namespace, progress: Progress) -> int:
    up.install_operator(progress)
    return 0


def _binaries(_: argparse.Namespace, progress: Progress) -> int:
    layout = Layout.of_checkout()
    module = layout.repository / "devcluster" / "binaries"
    names = (*binaries.EVERYTHING, *binaries.TESTED_AGAINST)
    print(binaries.ensure(progress, layout.cache, module, names))
    print(promtool.ensure(progress, layout.cache))
    print(argocd.program(progress, layout))
    print(redis_server.ensure(progress, layout.cache).program)
    print(postgres_server.ensure(progress, layout.cache).programs)
    return 0


_COMMANDS: dict[str, tuple[Callable[[argparse.Namespace, Progress], int], str]] = {
    "up": (_up, "start a cluster, build and load the images, install the operator"),
    "down": (_down, "remove the cluster of this checkout completely"),
    "status": (_status, "tell whether the embedded cluster runs, and what runs in it"),
    "images": (_images, "build the images and load them into the running cluster"),
    "binaries": (_binaries, "build the programs of Kubernetes, and those that tests run"),
    "operator": (_operator, "install the operator into the running cluster"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main_parser = argparse.ArgumentParser(prog="devcluster", description=__doc__)
    commands = main_parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == "up":
            command.add_argument("--bare", action="store_true", help="no images, no operator")
        if name == "down":
            command.add_argument(
                "--everything", action="store_true", help="also forget images and keys"
            )
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parsed = parser().parse_args(arguments)
    run, _ = _COMMANDS[parsed.command]
    try:
        return run(parsed, Progress())
    except DevclusterError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("error: interrupted; `make cluster-down` removes what was started", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
