"""A real Argo CD and the operator side by side: always in sync, and neither undoes the other.

No `ignoreDifferences` is set anywhere. `python -m bench gitops` does the same with 20 apps for five
minutes.
"""

import time
from collections.abc import Iterator

import pytest

from devcluster import argocd
from devcluster.progress import Progress
from tests.cluster import argo_world
from tests.cluster.argo_stories import (
    PLAYS,
    STORIES,
    Story,
    a_child_drifts,
    scaled_by_hand,
    the_app_drifts,
    the_program_changes,
)
from tests.cluster.argo_world import Platform

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(600)]


def app_of(story: Story) -> str:
    return story.tell.__name__.replace("_", "-")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Let Argo CD install the chart, and an app for each story."""
    apps = [story.app(app_of(story)) for story in STORIES]
    with argo_world.platform(tmp_path_factory.mktemp("argo"), Progress(), apps, PLAYS) as made:
        yield made


def test_the_first_sync_brings_everything(platform: Platform) -> None:
    crd = platform.access.kubectl("get", "crd", "dspyapps.dspy-operator.io", "--output=name")

    assert crd
    assert platform.health(app_of(STORIES[0])) == (
        "Healthy",
        f"Serving: The app answers at http://scaled-by-hand.{argo_world.APPS}.svc.",
    )
    assert platform.moments() == []
    assert platform.conflicts(since=0) == []
    assert sorted(platform.specs()) == sorted(map(app_of, STORIES)), "each spec has one version"


@pytest.mark.parametrize("story", STORIES, ids=app_of)
def test_they_live_together(platform: Platform, story: Story) -> None:
    name, start = app_of(story), platform.mark()
    moments, specs = len(platform.moments()), len(platform.specs())
    story.tell(platform, name)

    assert platform.moments()[moments:] == [name] * story.edits
    assert platform.specs()[specs:] == [name] * story.specs
    assert set(platform.argo_writes(start)) <= {name}
    assert platform.conflicts(start) == []


def test_server_side_apply_makes_no_difference(platform: Platform) -> None:
    """Argo CD then takes over its own fields from its former self, and compares in another way."""
    options = {"syncOptions": [*argocd.SYNC_OPTIONS, "ServerSideApply=true"]}
    application = argocd.application("apps", platform.repository.folder, "apps", argo_world.APPS)
    application["spec"]["syncPolicy"] |= options
    before, start = len(platform.moments()), platform.mark()
    platform.access.apply(application)
    for story in (the_program_changes, the_app_drifts, a_child_drifts, scaled_by_hand):
        story(platform, "the-program-changes")

    assert platform.moments()[before:] == ["the-program-changes"], "what a person edited"
    assert platform.conflicts(start) == []
    assert set(platform.argo_writes(start)) == {"the-program-changes"}


def test_in_the_end_it_is_quiet(platform: Platform) -> None:
    platform.await_state("apps", "Healthy")
    time.sleep(1)
    start = platform.mark()
    platform.argo.refresh("apps")
    platform.argo.refresh("dspy-operator")
    time.sleep(10)

    assert platform.writes(start) == []
    assert platform.application("apps")["status"]["sync"]["status"] == "Synced"
    assert platform.application("dspy-operator")["status"]["sync"]["status"] == "Synced"
