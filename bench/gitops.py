"""Five minutes of a real Argo CD beside the operator: who was out of sync, and who wrote what.

The stories are those of the tests (tests/cluster/argo_stories.py), told again and again about other
apps. A watch shows each moment that Argo CD thought to be out of sync, the audit log each write.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.progress import Progress
from tests.cluster import argo_world
from tests.cluster.argo_stories import PLAYS, STORIES

if TYPE_CHECKING:
    from tests.cluster.argo_stories import Story
    from tests.cluster.argo_world import Platform

QUIET_SECONDS = 30


@dataclass
class Tally:
    """What the stories had Git and people do.

    Attributes:
        told: How many stories were told.
        edited: Apps that a person edited against Git, once per edit.
        specs: How many versions of specs they made.
    """

    told: int = 0
    edited: list[str] = field(default_factory=list)
    specs: int = 0

    def add(self, story: Story, name: str) -> None:
        """Count one story."""
        self.told += 1
        self.edited += [name] * story.edits
        self.specs += story.specs


def run(*, apps: int = 20, seconds: int = 300) -> str:
    """Measure and return a table in Markdown."""
    made = {f"app-{n:02}": STORIES[n % len(STORIES)] for n in range(apps)}
    first = [story.app(name) for name, story in made.items()]
    with (
        tempfile.TemporaryDirectory(prefix="bench-gitops-") as folder,
        argo_world.platform(Path(folder), Progress(), first, PLAYS) as platform,
    ):
        tally = Tally(specs=apps)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _tell(platform, made, tally)
        platform.await_state("apps", "Healthy")
        return _table(platform, tally, apps, seconds)


def _tell(platform: Platform, made: dict[str, Story], tally: Tally) -> None:
    """Tell the next story, about the next app that it fits; both walk in circles."""
    names = list(made)
    story = STORIES[tally.told % len(STORIES)]
    start = tally.told % len(names)
    fitting = [n for n in names[start:] + names[:start] if made[n].autoscaled == story.autoscaled]
    story.tell(platform, fitting[0])
    tally.add(story, fitting[0])


def _table(platform: Platform, tally: Tally, apps: int, seconds: int) -> str:
    moments = platform.moments()
    for name in tally.edited:
        moments.remove(name)  # fails where Argo CD did not notice an edit
    specs, writes, conflicts = platform.specs(), platform.argo_writes(0), platform.conflicts(0)
    quiet = platform.mark()
    time.sleep(QUIET_SECONDS)
    idle = platform.writes(quiet)
    commits, edits = len(platform.repository.changes), len(tally.edited)
    rows = [
        f"| {apps} apps, {seconds} s: things that happened | {tally.told} | shown |",
        f"| commits | {commits} | shown |",
        f"| people's edits of what lies in Git, undone by Argo CD | {edits} | shown |",
        f"| moments of OutOfSync with another cause | {len(moments)} | 0 |",
        f"| writes of either to what belongs to the other | {len(conflicts)} | 0 |",
        f"| versions of specs, and how many were asked for | {len(specs)}, {tally.specs} | equal |",
        f"| Argo CD's writes of apps | {len(writes)} | shown |",
        f"| writes of both in {QUIET_SECONDS} quiet s | {len(idle)} | 0 |",
    ]
    found = [*moments, *conflicts, *idle]
    return "\n".join(["| what | measured | bar |", "|---|---|---|", *rows, *found])
