"""The store: never older than what we know, found by app, and healed by a complete list."""

from typing import Any

from dspy_operator.core.manifest import Key, Ref
from dspy_operator.edge.kube import Selection
from dspy_operator.reconcile.store import Store

APP = Key("team", "qa")


def live(name: str = "qa", version: int = 1, uid: str = "u", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    labels = {"dspy-operator.io/app": "qa"}
    metadata = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": {**metadata, "labels": labels}, **more}


def store() -> tuple[Store, list[Key]]:
    told: list[Key] = []
    return Store(told.append), told


def test_a_change_of_a_child_names_its_app() -> None:
    made, told = store()
    made.put("Service", live("other-name"))

    assert told == [APP]
    assert made.owned(APP) == {Ref("Service", "team", "other-name"): live("other-name")}


def test_a_status_that_moves_on_is_told_apart_from_a_change() -> None:
    changed: list[Key] = []
    moved: list[Key] = []
    made = Store(changed.append, moved.append)
    made.put("Deployment", live(version=1, spec={"replicas": 1}, status={}))
    made.put("Deployment", live(version=2, spec={"replicas": 1}, status={"replicas": 1}))
    assert (changed, moved) == ([APP], [APP])

    numbered = live(version=3, spec={"replicas": 1}, status={"replicas": 1})
    numbered["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    made.put("Deployment", numbered)
    assert (changed, moved) == ([APP], [APP, APP]), "a controller has counted"

    made.put("Deployment", live(version=4, spec={"replicas": 2}, status={"replicas": 2}))
    assert (changed, moved) == ([APP, APP], [APP, APP])


def test_the_same_version_again_is_no_news() -> None:
    made, told = store()
    made.put("Service", live(version=2))
    made.put("Service", live(version=2))
    made.put("Service", live(version=1, spec="old"))

    assert told == [APP]
    assert made.get("Service", APP) == live(version=2)


def test_a_child_that_changes_its_label_concerns_both_apps() -> None:
    made, told = store()
    made.put("Service", live(version=1))
    relabelled = live(version=2)
    relabelled["metadata"]["labels"] = {"dspy-operator.io/app": "other"}
    made.put("Service", relabelled)
    made.put("Service", live(version=3, metadata={**live(version=3)["metadata"], "labels": {}}))

    assert told == [APP, APP, Key("team", "other"), Key("team", "other")]


def test_what_an_apply_returned_is_learned_in_silence() -> None:
    made, told = store()

    assert made.learn("Service", live(version=7))
    made.put("Service", live(version=7))
    assert told == []


def test_a_successor_of_the_same_name_replaces_it_whatever_its_version() -> None:
    made, _ = store()
    made.put("Service", live(version=9, uid="first"))
    made.put("Service", live(version=3, uid="second"))

    found = made.get("Service", APP)
    assert found is not None
    assert found["metadata"]["uid"] == "second"


def test_the_late_deletion_of_a_predecessor_is_ignored() -> None:
    made, told = store()
    made.put("Service", live(version=9, uid="second"))
    made.drop("Service", live(version=5, uid="first"))

    assert made.get("Service", APP) is not None
    made.drop("Service", live(version=10, uid="second"))
    assert made.get("Service", APP) is None
    assert told == [APP, APP]


def test_a_list_that_was_made_before_a_deletion_does_not_bring_the_object_back() -> None:
    made, _ = store()
    made.put("Service", live(version=5))
    made.drop("Service", live(version=6))
    made.put("Service", live(version=5))

    assert not made.learn("Service", live(version=4)), "nor does the late answer to an apply"
    assert made.get("Service", APP) is None


def test_a_deletion_is_remembered_of_an_object_that_nobody_had_seen() -> None:
    made, _ = store()
    made.drop("DSPyApp", live(version=6))
    made.put("DSPyApp", live(version=5))

    assert made.apps() == []


def test_an_object_that_gets_its_label_back_is_taken_again() -> None:
    made, _ = store()
    made.drop("Service", live(version=6))
    made.put("Service", live(version=7))

    assert made.get("Service", APP) is not None


def test_remembered_deletions_are_bounded() -> None:
    made, _ = store()
    for number in range(5000):
        made.drop("Pod", live(uid=f"u{number}"))

    assert len(made._deleted) == 4096


def test_a_list_heals_deletions_that_nobody_told() -> None:
    made, told = store()
    for name in ("a", "b", "c"):
        made.put("Service", live(name, version=5))
    made.learn("Service", live("young", version=20))
    made.put("Deployment", live("a", version=5))
    told.clear()

    made.retain(Selection(kind="Service"), frozenset({Key("team", "a")}), "10")

    assert sorted(r.name for r in made.owned(APP) if r.kind == "Service") == ["a", "young"]
    assert Ref("Deployment", "team", "a") in made.owned(APP)
    assert told == [APP, APP]


def test_a_list_of_one_namespace_says_nothing_about_others() -> None:
    made, _ = store()
    made.put("Service", live())

    made.retain(Selection(kind="Service", namespace="elsewhere"), frozenset(), "10")

    assert made.get("Service", APP) is not None


def test_a_source_leads_to_the_apps_that_use_it_now() -> None:
    made, _ = store()
    source = {"program": {"source": {"configMapRef": {"name": "shop"}}}}
    made.put("DSPyApp", live(version=1, spec=source))
    assert made.users_of(Key("team", "shop")) == {APP}

    made.put("DSPyApp", live(version=2, spec={"program": {}}))
    assert made.users_of(Key("team", "shop")) == frozenset()
    assert made.apps() == [APP]


def test_pods_and_children_are_kept_apart() -> None:
    made, _ = store()
    made.put("Pod", live("qa-1"))
    made.put("ConfigMap", live("qa-config"))

    assert [p["metadata"]["name"] for p in made.pods(APP)] == ["qa-1"]
    assert [r.kind for r in made.owned(APP)] == ["ConfigMap"]
