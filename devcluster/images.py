"""Building the images of this project and handing them to a cluster, without a registry.

buildah builds the ordinary Dockerfiles in a store below the state folder. An image is built again
when its sources changed, and loaded again when the node does not have that very build.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import base, pipconf, shell
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devcluster.embedded import EmbeddedCluster
    from devcluster.layout import Layout
    from devcluster.progress import Progress

SOURCES = ("requirements", "operator", "worker", "crds", "pyproject.toml", ".dockerignore")
_STORE_LIMIT_BYTES = 12_000_000_000
_LABEL = "io.dspy-operator.sources"
_MEGABYTE = 1_000_000
_CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of this project.

    Attributes:
        tag: Short name, as the chart and the operator use it.
        dockerfile: File at the root of the checkout.
        sources: What it is built from besides.
    """

    tag: str
    dockerfile: str
    sources: tuple[str, ...] = SOURCES

    @property
    def full_name(self) -> str:
        """The name that a kubelet makes of the tag."""
        return f"docker.io/library/{self.tag}"

    @property
    def file_name(self) -> str:
        """The tag as a part of file names."""
        return self.tag.replace(":", "-")


OPERATOR = Image(tag="dspy-operator:dev", dockerfile="Dockerfile.operator")
WORKER = Image(tag="dspy-worker:dev", dockerfile="Dockerfile.worker")
DATABASES = Image(tag="dspy-databases:dev", dockerfile="Dockerfile.databases", sources=())
"""PostgreSQL and Redis for the demo and the tests."""
ALL = (OPERATOR, WORKER, DATABASES)


def source_hash(repository: Path, image: Image) -> str:
    """Return a hash of everything that an image is built from."""
    digest = hashlib.sha256()
    for path in _source_files(repository, (image.dockerfile, *image.sources)):
        digest.update(str(path.relative_to(repository)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _source_files(repository: Path, names: Iterable[str]) -> list[Path]:
    roots = [repository / name for name in names]
    below = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])]
    return sorted(path for path in below if path.is_file() and "__pycache__" not in path.parts)


class Builder:
    """Builds with buildah in one store."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        """Nothing is built or read yet."""
        self._layout = layout
        self._progress = progress

    def build(self, image: Image) -> str:
        """Build an image unless its sources are unchanged; return the hash of the sources.

        Raises:
            DevclusterError: There is no such Dockerfile, or the build failed.
        """
        wanted = source_hash(self._layout.repository, image)
        if self._built_from(image) == wanted:
            return wanted
        dockerfile = self._layout.repository / image.dockerfile
        if not dockerfile.exists():
            raise DevclusterError(f"there is no {image.dockerfile} to build {image.tag} from")
        self._limit_store()
        self._ensure_base()
        self._progress.say(f"building {image.tag}, up to two minutes the first time")
        log = self._layout.logs / f"build-{image.file_name}.log"
        command = self._build_command(image, dockerfile, wanted)
        self._progress.run(command, what=f"building {image.tag}", log=log)
        return wanted

    def export(self, image: Image) -> Path:
        """Write an image as a docker-archive and return the file."""
        target = self._layout.archives / f"{image.file_name}.tar"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        self._buildah("push", image.full_name, f"docker-archive:{target}:{image.full_name}")
        return target

    def _built_from(self, image: Image) -> str:
        """Return the source hash in the label of the image in the store, or ""."""
        template = f'{{{{index .Docker.Config.Labels "{_LABEL}"}}}}'
        try:
            return self._buildah(
                "inspect", "--type=image", "--format", template, image.full_name
            ).strip()
        except DevclusterError:
            return ""

    def _build_command(self, image: Image, dockerfile: Path, source: str) -> list[str]:
        settings = pipconf.read()
        pip_config = self._layout.state / "pip.conf"
        pip_config.write_text(pipconf.render(settings))
        pip_cache = self._layout.cache / "pip"
        pip_cache.mkdir(parents=True, exist_ok=True)
        volumes = [
            f"{pip_config}:/etc/pip.conf:ro",
            f"{pip_cache}:/root/.cache/pip",
            f"{_CERTIFICATES}:{_CERTIFICATES}:ro",
            *(f"{folder}:{folder}:ro" for folder in pipconf.mounts(settings)),
        ]
        return [
            *self._command("build", "--isolation=chroot", "--network=host", "--layers"),
            f"--build-arg=BASE={base.NAME}",
            f"--label={_LABEL}={source}",
            *(f"--volume={volume}" for volume in volumes),
            f"--file={dockerfile}",
            f"--tag={image.full_name}",
            str(self._layout.repository),
        ]

    def _ensure_base(self) -> None:
        if base.NAME in self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            return
        files = base.ensure(self._progress, self._layout.cache)
        container = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", container, str(files), "/")
        self._buildah("config", "--cmd", "/bin/sh", container)
        self._buildah("commit", "--quiet", "--rm", container, base.NAME)

    def _limit_store(self) -> None:
        """Start with an empty store when old builds fill the disk; they come back in a minute."""
        if not self._layout.buildah.exists():
            return
        used = int(shell.run("du", "--summarize", "--bytes", str(self._layout.buildah)).split()[0])
        if used > _STORE_LIMIT_BYTES:
            self._progress.say("the image store has grown too large: starting with an empty one")
            shutil.rmtree(self._layout.buildah)

    def _buildah(self, *args: str) -> str:
        return shell.run(*self._command(*args))

    def _command(self, *args: str) -> list[str]:
        store = self._layout.buildah
        options = (f"--root={store}/root", f"--runroot={store}/run", "--storage-driver=overlay")
        return ["buildah", *options, *args]


def load(
    cluster: EmbeddedCluster, builder: Builder, progress: Progress, image: Image, source: str
) -> bool:
    """Load an image unless the node has this very build; tell whether it was loaded."""
    record = cluster.layout.var_lib / "containerd" / f"loaded-{image.file_name}.json"
    earlier = json.loads(record.read_text()) if record.exists() else {}
    if earlier.get("source") == source:
        return False
    archive = builder.export(image)
    identity = image_id(archive)
    cluster.load_image(archive)
    if earlier and earlier["id"] != identity:
        # containerd keeps an image under its id after its name has moved on.
        cluster.forget_image(earlier["id"])
    record.write_text(json.dumps({"source": source, "id": identity}))
    progress.say(f"loaded {image.tag}, {archive.stat().st_size / _MEGABYTE:.0f} MB")
    archive.unlink()
    return True


def image_id(archive: Path) -> str:
    """Return the id of the image in a docker-archive, which is the digest of its configuration."""
    with tarfile.open(archive) as files:
        manifest = files.extractfile("manifest.json")
        if manifest is None:
            raise DevclusterError(f"{archive} is not a docker-archive")
        config: str = json.load(manifest)[0]["Config"]
    return "sha256:" + Path(config).stem


def ensure(cluster: EmbeddedCluster, progress: Progress) -> tuple[str, ...]:
    """Build and load all images; return the tags of those that the node did not have."""
    builder = Builder(cluster.layout, progress)
    with cluster.locked():
        changed = [
            image.tag
            for image in ALL
            if load(cluster, builder, progress, image, builder.build(image))
        ]
    if not changed:
        progress.say("images are unchanged")
    return tuple(changed)
