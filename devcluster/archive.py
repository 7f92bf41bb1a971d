"""Small container images without a builder: a docker-archive made of a few files.

The node needs an image for the first process of each pod ("pause"). A static busybox serves for
that, and tests use the same image for pods that need a shell, a web server or a DNS client.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOOLS_IMAGE = "docker.io/library/devcluster-tools:1"
APPLETS = ("cat", "env", "httpd", "id", "ls", "nslookup", "sh", "sleep", "tail", "touch", "wget")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_tools_image(busybox: Path, target: Path) -> None:
    """Write the image of busybox; its default command waits for ever."""
    layer = _tar({"bin/busybox": busybox.read_bytes()}, links=[f"bin/{name}" for name in APPLETS])
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": ["/bin/tail", "-f", "/dev/null"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [TOOLS_IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "config.json": config,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_tar(files))


def _tar(files: Mapping[str, bytes], links: Sequence[str] = ()) -> bytes:
    """Return a tar file whose bytes depend on the content alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
