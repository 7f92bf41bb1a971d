"""Cgroup hierarchies are found in the mount table and their folders removed to the last."""

from pathlib import Path

from devcluster import cgroups
from devcluster.cgroups import Hierarchy

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_each_hierarchy_knows_how_to_be_mounted_again() -> None:
    assert cgroups.parse_mounts(MOUNTINFO) == [
        Hierarchy(mount=Path("/sys/fs/cgroup/cpu"), kind="cgroup", options="cpu,cpuacct"),
        Hierarchy(mount=Path("/sys/fs/cgroup/systemd"), kind="cgroup", options="none,name=systemd"),
        Hierarchy(mount=Path("/sys/fs/cgroup/unified"), kind="cgroup2", options=""),
    ]


def test_nested_folders_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "ours"
    (top / "a" / "b").mkdir(parents=True)

    assert cgroups.remove([top, tmp_path / "never-made"]) == []
    assert not top.exists()
