"""First process of a cluster: it joins the cgroups and becomes `unshare`.

    python -m devcluster.launcher PLAN

From then on it only waits for its child, the supervisor, which is process 1 of the new namespaces.
When either of them is killed the kernel kills everything inside, and with the last process go the
mounts, the network namespace and the veth pair.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from devcluster import cgroups, plan

NAMESPACES = ("--net", "--mount", "--pid", "--ipc", "--uts", "--cgroup")


def main(path: str) -> None:
    """Replace this process; returns only by an exception."""
    cgroups.join(plan.load(Path(path)).cgroup)
    supervisor = (sys.executable, "-m", "devcluster.supervisor", path)
    command = ("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", *supervisor)
    os.execvp(command[0], command)  # noqa: S606 - becoming another program is the point


if __name__ == "__main__":
    main(sys.argv[1])
