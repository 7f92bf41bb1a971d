"""What must hold in every run, whatever fault it had. Pure: recorded runs in, sentences out."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faults.plans import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from faults.plans import Plan
    from faults.trace import Line, Manifest, Observation, Request, Trace

RACE_MARK = "faults/race"
"""Annotation that the other writer of a race leaves; nobody's business."""
APP_LABEL = "dspy-operator.io/app"
ATTEMPTS = 12
"""Refused writes to one object above the reference that still count as patience."""

_DROPPED_METADATA = (
    "uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "namespace",
    "selfLink",
)  # fmt: skip
_HASHES = re.compile(r'("(?:configDigest|template|dspy-operator.io/[a-z-]+)": )"([0-9a-f]{12,16})"')
"""Digests over documents that name the namespace."""
_DROPPED_SPEC = ("clusterIP", "clusterIPs", "nodeName", "ipFamilies")
_DROPPED_ANNOTATIONS = (
    "deployment.kubernetes.io/revision",
    "dspy-operator.io/applied",  # a hash over the owner's uid, too
    RACE_MARK,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One scenario, played once.

    Attributes:
        states: Normalized state at the end of each step, by the step's name.
        history: What the observer saw in the namespace.
        restless: What was still being written when the run should have been quiet.
        late: Steps whose end state was not reached, with the difference.
        log: The operator's output.
        exits: Codes with which the operator ended by itself.
        fired: Whether the fault's moment came.
        hidden: The watch line that never arrived.
    """

    plan: Plan | None
    trace: Trace
    states: Mapping[str, Mapping[str, Any]]
    history: Sequence[Observation]
    restless: str = ""
    late: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    exits: Sequence[int] = ()
    fired: bool = True
    hidden: Line | None = None
    seconds: float = 0.0


def judge(run: Run, references: Sequence[Run]) -> tuple[str, ...]:
    """Return what a run did wrong, nothing for one that survived.

    Args:
        run: The run.
        references: Undisturbed runs of the same scenario; what one of them does is usual.
    """
    return tuple(finding for oracle in ORACLES for finding in oracle(run, references))


def hid_last_word(run: Run) -> bool:
    """Tell whether nothing more was said of an object after the line that was hidden.

    The reference had a later line about it, else there were no such plan. What an API server never
    says is no fault that an operator can notice; its resync heals it after ten minutes.
    """
    hidden = run.hidden
    return hidden is not None and not any(
        line.n > hidden.n and (line.stream, line.uid) == (hidden.stream, hidden.uid)
        for line in run.trace.lines
    )


def noise(references: Sequence[Run]) -> tuple[str, ...]:
    """Return in what undisturbed runs of one scenario differ from the first of them."""
    first, *rest = references
    differences = (difference(run.states, first.states) for run in rest)
    return (
        *(said for said in differences if said),
        *(finding for run in rest for finding in judge(run, [first])),
    )


def state(objects: Mapping[tuple[str, str], Manifest], namespace: str) -> dict[str, Any]:
    """Return what a namespace holds, without what differs from run to run."""
    uids = {m["metadata"]["uid"] for (kind, _), m in objects.items() if kind == "DSPyApp"}
    found: dict[str, Any] = {}
    pods = []
    for (kind, name), live in sorted(objects.items()):
        if _is_clusters_own(kind, name):
            continue
        if kind == "Pod":
            pods.append(_pod(live))
        else:
            found[f"{kind} {name}"] = _object(kind, live, uids, namespace)
    if pods:
        found["Pods"] = sorted(pods, key=json.dumps)
    return _with_numbered_hashes(found)


def _with_numbered_hashes(found: dict[str, Any]) -> dict[str, Any]:
    """Replace hashes by numbers in the order of their appearance: equal ones stay equal."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        value = numbers.setdefault(match[2], f"hash {len(numbers) + 1}")
        return f'{match[1]}"{value}"'

    made: dict[str, Any] = json.loads(_HASHES.sub(number, json.dumps(found)))
    return made


def _is_clusters_own(kind: str, name: str) -> bool:
    return (kind, name) in {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


def _pod(live: Manifest) -> dict[str, Any]:
    metadata = live["metadata"]
    return {
        "app": metadata.get("labels", {}).get(APP_LABEL, ""),
        "phase": live["status"].get("phase"),
        "going": "deletionTimestamp" in metadata,
        "image": live["spec"]["containers"][0]["image"],
        "template": metadata.get("annotations", {}).get("dspy-operator.io/template", ""),
    }


def _object(kind: str, live: Manifest, apps: set[str], namespace: str) -> Manifest:
    made: Manifest = json.loads(json.dumps(live).replace(namespace, "NAMESPACE"))
    metadata = made["metadata"]
    generation = metadata.get("generation")
    for name in _DROPPED_METADATA:
        metadata.pop(name, None)
    for name in _DROPPED_ANNOTATIONS:
        metadata.get("annotations", {}).pop(name, None)
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    for owner in metadata.get("ownerReferences", ()):
        owner["uid"] = "an app that is there" if owner["uid"] in apps else "nobody"
    for name in _DROPPED_SPEC:
        made.get("spec", {}).pop(name, None)
    _shorten_status(kind, made, generation)
    if "token" in made.get("data", {}):
        made["data"]["token"] = f"{len(made['data']['token'])} characters"
    return made


def _shorten_status(kind: str, made: Manifest, generation: int | None) -> None:
    status = made.pop("status", {})
    if kind == "Deployment":
        made["status"] = {n: status.get(n, 0) for n in ("replicas", "readyReplicas")}
    elif kind == "DSPyApp":
        status["observedGeneration"] = status.get("observedGeneration") == generation
        conditions = {c.pop("type"): c for c in status.get("conditions", ())}
        for condition in conditions.values():
            condition.pop("lastTransitionTime", None)
            condition["observedGeneration"] = condition.get("observedGeneration") == generation
        if conditions.get("Ready", {}).get("status") != "True":
            for name in ("replicas", "updatedReplicas"):  # written late while pods start
                status.pop(name, None)
        made["status"] = {**status, "conditions": conditions}


def difference(found: Any, wanted: Any, where: str = "") -> str:  # noqa: ANN401 - JSON
    """Return the first difference of two states in words; empty where there is none."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted({*found, *wanted}):
            said = difference(found.get(name), wanted.get(name), f"{where}.{name}".lstrip("."))
            if said:
                return said
        return ""
    return "" if found == wanted else f"{where} is {_short(found)}, wanted {_short(wanted)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - a line


def _reaches_the_same_states(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - compared while it ran
    for step, said in run.late.items():
        yield f"{step}: not the state of the undisturbed run: {said}"


def _is_quiet_at_the_end(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - an oracle
    if run.restless:
        yield f"no quiet at the end: {run.restless}"


def _writes_no_more_than_needed(run: Run, references: Sequence[Run]) -> Iterator[str]:
    usual, found = _most(references, _accepted), _accepted(run)
    for what in sorted(found):
        limit = usual[what] + allowance(run.plan)
        if found[what] > limit:
            yield f"{found[what]} accepted writes ({what}), at most {limit} expected"


def _does_not_insist(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - an oracle
    refused = Counter(_what(r) for r in run.trace.writes() if not r.is_accepted)
    for what, count in sorted(refused.items()):
        if count > ATTEMPTS:
            yield f"{count} refused or lost writes ({what}), at most {ATTEMPTS} expected"


def _most(runs: Sequence[Run], count: Callable[[Run], Counter[str]]) -> Counter[str]:
    """Return the largest of the counts of several runs."""
    most: Counter[str] = Counter()
    for run in runs:
        most |= count(run)
    return most


def _accepted(run: Run) -> Counter[str]:
    return Counter(_what(r) for r in run.trace.writes() if r.is_accepted)


def _what(request: Request) -> str:
    return f"{request.verb} {request.target}"


def allowance(plan: Plan | None) -> int:
    """Return how many more accepted writes to one object a fault may cost.

    A restart into the past may write what was, and then again what is.
    """
    if plan is None:
        return 0
    if plan.kind is Kind.STALE:
        return 2
    return 1


def _deletes_with_preconditions(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - an oracle
    for request in run.trace.writes():
        if request.verb == "delete" and request.preconditions != ("resourceVersion", "uid"):
            yield f"{_what(request)} without uid and resourceVersion"


def _never_observes_backwards(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - an oracle
    newest: dict[tuple[str, str], int] = {}
    for seen in _apps(run):
        status = seen.live.get("status", {})
        said = {c["type"]: c.get("observedGeneration", 0) for c in status.get("conditions", ())}
        for what, generation in {"status": status.get("observedGeneration", 0), **said}.items():
            key = seen.uid, what
            if generation < newest.get(key, generation):
                yield f"{what} of {seen.name} went from generation {newest[key]} to {generation}"
            newest[key] = max(generation, newest.get(key, generation))


def _stays_ready(run: Run, references: Sequence[Run]) -> Iterator[str]:
    usual, found = _most(references, _flaps), _flaps(run)
    for name in sorted(found):
        if found[name] > usual[name]:
            yield f"{name} was Ready at a generation and then was not, {found[name]} times"


def _flaps(run: Run) -> Counter[str]:
    """Count how often an app ceased to be ready without a change of its spec."""
    nothing: Manifest = {"status": "", "observedGeneration": 0}
    ready: dict[str, tuple[str, int]] = {}
    flaps: Counter[str] = Counter()
    for seen in _apps(run):
        condition = next(
            (c for c in seen.live.get("status", {}).get("conditions", ()) if c["type"] == "Ready"),
            nothing,
        )
        now = str(condition["status"]), int(condition["observedGeneration"])
        before = ready.get(seen.uid, now)
        flaps[seen.name] += before[0] == "True" != now[0] and before[1] == now[1]
        ready[seen.uid] = now
    return flaps


def _apps(run: Run) -> Iterator[Observation]:
    return (s for s in run.history if s.kind == "DSPyApp" and s.type != "DELETED")


def _creates_no_orphans(run: Run, references: Sequence[Run]) -> Iterator[str]:
    """Children of an app that is gone already: at most one round of them, from an older view."""
    usual, found = _most(references, _orphans), _orphans(run)
    for what, count in sorted(found.items()):
        if count > usual[what] + (run.plan is not None):
            yield f"{what} was created {count} times for an app that was deleted"


def _orphans(run: Run) -> Counter[str]:
    gone: set[str] = set()
    orphans: Counter[str] = Counter()
    for seen in _in_order(run.history):
        if seen.kind == "DSPyApp" and seen.type == "DELETED":
            gone.add(seen.uid)
        owners = {o["uid"] for o in seen.live["metadata"].get("ownerReferences", ())}
        if seen.type == "ADDED" and owners & gone:
            orphans[f"{seen.kind} {seen.name}"] += 1
    return orphans


def _in_order(history: Sequence[Observation]) -> list[Observation]:
    """Return observations of all kinds in the order of their versions: streams overtake."""
    return sorted(history, key=lambda seen: int(seen.live["metadata"]["resourceVersion"]))


def _logs_no_error(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - an oracle
    for line in run.log.splitlines():
        is_error = '"level": "error"' in line and "will retry" not in line  # kopf is loud
        if "Traceback" in line or is_error:
            yield f"logged: {line[:300]}"
            return


def _does_not_exit(run: Run, references: Sequence[Run]) -> Iterator[str]:  # noqa: ARG001 - an oracle
    if run.exits:
        yield f"ended by itself with {', '.join(map(str, run.exits))}"


ORACLES: tuple[Callable[[Run, Sequence[Run]], Iterator[str]], ...] = (
    _reaches_the_same_states,
    _is_quiet_at_the_end,
    _writes_no_more_than_needed,
    _does_not_insist,
    _deletes_with_preconditions,
    _never_observes_backwards,
    _stays_ready,
    _creates_no_orphans,
    _logs_no_error,
    _does_not_exit,
)
