"""The answer to a task: nearest neighbor over the demos, rules of the instruction, a weak prior.

Pure: the same prompt and draw get the same answer. What a real model would get wrong by chance is
a fixed error per input here; careful wording or a reasoning field makes it smaller, and a
temperature above zero adds an error that differs with every repetition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dspy_worker.practice import analogy, guess, schema, shapes, similarity
from dspy_worker.practice.guess import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspy_worker.practice.prompt import Prompt
    from dspy_worker.practice.schema import Json

REASONING = frozenset({"reasoning", "rationale", "discussion"})
TRAJECTORY = "trajectory"
OBSERVATION = re.compile(
    r"\[\[ ## observation_\d+ ## \]\]\n(.*?)(?=\n+\[\[ ## \w+ ## \]\]|\Z)", re.DOTALL
)
RULE = re.compile(r"(?:^|\s)- ([^:\n]{1,40}): ((?:(?! - )[^\n])+)")
CAREFUL = ("careful", "step by step", "double-check", "precise")

PRIOR, NEIGHBOR, RULE_HIT = 0.6, 1.2, 0.55
NEIGHBORS = (1.0, 0.5, 0.25)
MOST_HITS = 3
ERROR, CALMER = 0.07, 0.8
DRAW_ERROR = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The chance in an answer: the request's temperature, and which repetition this is."""

    temperature: float = 0.0
    nth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one demo says about one field; nearness is the likeness of its inputs to ours."""

    nearness: float
    text: str
    value: Json


def rules_in(instruction: str) -> dict[str, set[str]]:
    """Read rules of the form "- label: word, word"; a dash starts a rule, a line ends it."""
    rules: dict[str, set[str]] = {}
    for label, text in RULE.findall(instruction):
        rules.setdefault(label.strip().lower(), set()).update(similarity.words(text))
    return rules


@dataclass(frozen=True, kw_only=True)
class Task:
    """One prompt being answered, with what several fields need computed once."""

    prompt: Prompt
    draw: Draw

    @cached_property
    def query(self) -> str:
        """The inputs as one text; what a tool said is not part of the question."""
        inputs = self.prompt.inputs.items()
        return " ".join(text for name, text in inputs if name != TRAJECTORY) or self.prompt.final

    @cached_property
    def source(self) -> str:
        """The text to take values from: first what tools have said, then the inputs."""
        seen = OBSERVATION.findall(self.prompt.inputs.get(TRAJECTORY, ""))
        told = [text for text in seen if text.strip() != "Completed."]
        return "\n".join([*told, self.query])

    @cached_property
    def words(self) -> set[str]:
        """The stems of the query."""
        return set(similarity.words(self.query))

    @cached_property
    def rules(self) -> Mapping[str, set[str]]:
        """The rules of the instruction."""
        return rules_in(self.prompt.objective)

    @cached_property
    def sigma(self) -> float:
        """How far the fixed error goes."""
        told = self.prompt.objective.lower()
        steps = min(sum(word in told for word in CAREFUL), 2)
        return float(ERROR * CALMER ** (steps + bool(REASONING & self.prompt.outputs.keys())))

    @cached_property
    def nearness(self) -> list[float]:
        """How near each demo is."""
        return [similarity.cosine(self.query, demo.text) for demo in self.prompt.demos]

    def samples(self, name: str) -> list[Sample]:
        """Return what the demos say about a field."""
        pairs = zip(self.nearness, self.prompt.demos, strict=True)
        return [
            Sample(nearness=nearness, text=demo.text, value=demo.outputs[name])
            for nearness, demo in pairs
            if name in demo.outputs
        ]


def answer(prompt: Prompt, draw: Draw) -> dict[str, Json]:
    """Answer a task: one value of the right type for each wanted field."""
    task = Task(prompt=prompt, draw=draw)
    values: dict[str, Json] = {}
    for name, wanted in prompt.outputs.items():
        place = Place(name=name, schema=wanted, root=wanted)
        told = name in REASONING and schema.kind(place.wanted) == "string"
        values[name] = "" if told else fill(task, place, task.samples(name))
    told_why = _why(task, values)
    return {
        name: value or told_why if name in REASONING else value for name, value in values.items()
    }


def fill(task: Task, place: Place, samples: Sequence[Sample]) -> Json:
    """Find a value for a place; whatever is found, only a value that fits is given."""
    for value in (_found(task, place, samples), guess.value(place, task.source)):
        if schema.fits(value, place.schema, place.root):
            return value
    return guess.value(place, "")


def _found(task: Task, place: Place, samples: Sequence[Sample]) -> Json:
    wanted = place.wanted
    known = [sample for sample in samples if sample.value is not None]
    if schema.choices(wanted) or schema.kind(wanted) == "boolean":
        return _chosen(task, place, known)
    if not known:
        return _from_rules(task, place)
    if schema.properties(wanted):
        return _object(task, place, known)
    extracted = _extracted(task, place, known)
    return _chosen(task, place, known) if extracted is None else extracted


def _object(task: Task, place: Place, samples: Sequence[Sample]) -> Json:
    """Fill each property that the demos know as if it were a field."""
    values: dict[str, Json] = {}
    for name, inner in schema.properties(place.wanted).items():
        step = place.inside(name, inner)
        parts = [
            Sample(nearness=sample.nearness, text=sample.text, value=sample.value[name])
            for sample in samples
            if isinstance(sample.value, dict) and name in sample.value
        ]
        if parts and step.depth <= guess.DEEPEST:
            values[name] = fill(task, step, parts)
        elif name in map(str, schema_list(place.wanted.get("required"))):
            values[name] = guess.value(step, task.source)
    return values


def schema_list(found: Json) -> list[Json]:
    """Return a list of a schema, or an empty one."""
    return found if isinstance(found, list) else []


def _from_rules(task: Task, place: Place) -> Json:
    """Without demos, a rule that names the input's words is a label to answer with."""
    if schema.kind(place.wanted) != "string":
        return guess.value(place, task.source)
    hit = [label for label, words in task.rules.items() if words & task.words]
    if not hit:
        return guess.value(place, task.source)
    return max(hit, key=lambda label: _score(task, label, []))


def _extracted(task: Task, place: Place, samples: Sequence[Sample]) -> Json:
    """Extract a value by analogy; None when the demos do not extract, or nothing is like theirs."""
    if isinstance(samples[0].value, list):
        return _extracted_list(task, samples)
    cases = [_case(sample, sample.value) for sample in samples]
    if not analogy.is_extraction(cases):
        return None
    piece = analogy.best(task.source, cases, task.sigma)
    if piece is None:
        return None
    return _typed(piece, schema.kind(place.wanted))


def _typed(piece: str, kind: str) -> Json:
    if kind not in {"integer", "number"}:
        return piece
    found = shapes.to_number(piece)
    return float(found) if kind == "number" and found is not None else found


def _extracted_list(task: Task, samples: Sequence[Sample]) -> Json:
    cases = [
        _case(sample, item)
        for sample in samples
        if isinstance(sample.value, list)
        for item in sample.value
        if isinstance(item, str)
    ]
    if not cases or not analogy.is_extraction(cases):
        return None
    return [*analogy.every(task.source, cases)]


def _case(sample: Sample, value: Json) -> analogy.Case:
    spelled = schema.written(value)
    if isinstance(value, int | float):  # 80.0 may stand in the text as "$80"
        spelled = shapes.spelled(sample.text, value) or spelled
    return analogy.Case(nearness=sample.nearness, text=sample.text, value=spelled)


def _chosen(task: Task, place: Place, samples: Sequence[Sample]) -> Json:
    """Choose among the values that the type allows, or else those of the demos."""
    wanted = place.wanted
    allowed = schema.choices(wanted)
    if schema.kind(wanted) == "boolean":
        allowed = [True, False]
    values = {schema.written(value): value for value in allowed or [one.value for one in samples]}
    near: dict[str, list[float]] = {}
    for sample in samples:
        near.setdefault(schema.written(sample.value).lower(), []).append(sample.nearness)
    best = max(values, key=lambda label: _score(task, label, near.get(label.lower(), [])))
    return values[best]


def _score(task: Task, label: str, near: Sequence[float]) -> float:
    """Score a label by its own words, its nearest demos and its rules, plus the errors."""
    top = zip(sorted(near, reverse=True), NEIGHBORS, strict=False)
    hits = len(task.words & task.rules.get(label.lower(), set()))
    return (
        PRIOR * similarity.cosine(task.query, label.replace("_", " "))
        + NEIGHBOR * sum(nearness * weight for nearness, weight in top)
        + RULE_HIT * min(hits, MOST_HITS)
        + task.sigma * similarity.noise("err", task.query, label)
        + _drawn(task, label)
    )


def _drawn(task: Task, label: str) -> float:
    if not task.draw.temperature:
        return 0.0
    chance = similarity.noise("draw", task.query, label, task.draw.nth)
    return DRAW_ERROR * task.draw.temperature * chance


def _why(task: Task, values: Mapping[str, Json]) -> str:
    """Say in one sentence what the answer rests on, for a reasoning field."""
    about = ", ".join(sorted(task.words)[:5]) or "nothing that I know"
    labels = [schema.written(value) for name, value in values.items() if name not in REASONING]
    for label in labels:
        hits = sorted(task.words & task.rules.get(label.lower(), set()))
        if hits:
            return f"The input is about {about}; the rule for {label} names {', '.join(hits)}."
    near = "the closest example points to it" if task.nearness else "no example is close to it"
    return f"The input is about {about}; {near}."
