"""Writes instructions for optimizers, as their prompt model, from the examples in their prompt.

It counts which words occur with one label only and writes them as rules that `model` can read
("- label: word, word"). GEPA, MIPROv2, SIMBA and InferRules show examples to their prompt model, so
they gain; COPRO shows none, so it honestly gains nothing. Nothing outside the prompt is used.
"""

from __future__ import annotations

import ast
import collections
import json
import re
from typing import TYPE_CHECKING

from dspy_worker.practice import similarity
from dspy_worker.practice.model import RULE, Draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspy_worker.practice.prompt import Prompt
    from dspy_worker.practice.schema import Json

Pairs = list[tuple[str, str]]

GIVEN = frozenset({
    "attempted_instructions", "basic_instruction", "current_instruction", "examples",
    "examples_text", "examples_with_feedback", "instruction", "observations", "oracle_metadata",
    "program_code",
})  # fmt: skip
ASKED = frozenset({
    "improved_instruction", "module_advice", "module_description", "natural_language_rules",
    "new_instruction", "observations", "program_description", "proposed_instruction",
    "shortened_instruction", "summary",
})  # fmt: skip
INSTRUCTIONS = frozenset({
    "improved_instruction", "new_instruction", "proposed_instruction", "shortened_instruction",
})  # fmt: skip
NOTES = frozenset({"natural_language_rules", "observations", "summary"})
BASES = ("current_instruction", "basic_instruction", "attempted_instructions", "instruction")
LEARNED = ("dataset_description", "prior_observations", "observations")

HINTS = (
    "Work carefully and double-check the answer before you give it.",
    "Read the input twice and be precise.",
    "Think step by step.",
    "Be creative and answer at once.",
    "Answer briefly.",
    "Compare the input with the examples before you answer.",
)
LEAD = "Words that point to each answer:"
WORDS_PER_LABEL = 14
LONGEST_LABEL = 40

RULE_LINE = re.compile(r"\s*- [^:]+: ")
ATTEMPT = re.compile(r"Instruction #\d+: (.*)")
EXPECTED = re.compile(
    r"(?:expected|should (?:have been|be)|correct (?:label|answer)(?: is| was)?)[: ]+"
    r"['\"`]?([\w -]+?)['\"`]?(?:[.,;\n]|$)",
    re.IGNORECASE,
)
EXAMPLE = re.compile(r"Example\((\{.*?\})\)", re.DOTALL)
RULE_EXAMPLE = re.compile(
    r"Input Fields:\n(.*?)\n\n=========\nOutput Fields:\n(.*?)(?:\n\n|\Z)", re.DOTALL
)
LINE = re.compile(r"^\s*(\w[\w ]{0,30}): (.+)$", re.MULTILINE)


def is_proposal(prompt: Prompt) -> bool:
    """Say whether an optimizer of DSPy asks; a task may have a field named summary too."""
    return bool(GIVEN & prompt.inputs.keys() and ASKED & prompt.outputs.keys())


def propose(prompt: Prompt, draw: Draw) -> dict[str, Json]:
    """Answer an optimizer with rules learned from its own prompt."""
    given = prompt.inputs
    base = _base(given)
    learned = "\n".join([base, *(given.get(name, "") for name in LEARNED)])
    rules = write_rules(examples_in(given), read_rules(learned))
    return {name: _field(name, given, rules, _hint(prompt, draw)) for name in prompt.outputs}


def _field(name: str, given: Mapping[str, str], rules: str, hint: str) -> Json:
    if name in INSTRUCTIONS:
        return instruction(_base(given), rules, hint)
    if name == "module_advice":
        return dict.fromkeys(_modules(given), rules or "N/A")
    if name in NOTES:
        kept = given.get("observations") or "Short texts, each with one label."
        return f"Seen so far:\n{rules}" if rules else kept
    if name == "proposed_prefix_for_output_field":
        return "Answer:"
    if name.endswith("description"):
        return "A program that reads a text and picks an answer."
    return "I compare the examples with their answers."


def _base(given: Mapping[str, str]) -> str:
    name = next((name for name in BASES if name in given), "")
    attempts = ATTEMPT.findall(given.get(name, ""))
    return str(attempts[-1]) if attempts else given.get(name, "")


def _hint(prompt: Prompt, draw: Draw) -> str:
    seed = similarity.digest(prompt.final, draw.nth)
    return HINTS[int.from_bytes(seed[:4]) % len(HINTS)]


def _modules(given: Mapping[str, str]) -> list[str]:
    try:
        return [str(name) for name in json.loads(given.get("module_names", "[]"))]
    except ValueError:
        return []


def instruction(base: str, rules: str, hint: str) -> str:
    """Join the old instruction without its rules, one hint and the new rules."""
    head = [line for line in base.splitlines() if not RULE_LINE.match(line)]
    lines = [line for line in head if line.strip() not in {"", LEAD}]
    if hint not in lines:
        lines.append(hint)
    return "\n".join([*lines, *([LEAD, rules] if rules else [])])


def read_rules(text: str) -> dict[str, list[str]]:
    """Read the rules that an earlier round has written."""
    rules: dict[str, list[str]] = {}
    for label, words in RULE.findall(text):
        rules.setdefault(label.strip(), []).extend(similarity.words(words))
    return rules


def write_rules(pairs: Pairs, old: Mapping[str, Sequence[str]]) -> str:
    """Write rules from (text, label) pairs: the words that only one label has, the commonest first.

    Words of older rules are kept behind the new ones, up to twice the usual number.
    """
    merged = {label: list(words) for label, words in old.items()}
    counts: dict[str, collections.Counter[str]] = {}
    for text, label in pairs:
        counts.setdefault(label, collections.Counter()).update(set(similarity.words(text)))
    total = sum(counts.values(), collections.Counter[str]())
    for label, words in counts.items():
        others = {word for name, rule in merged.items() if name != label for word in rule}
        own = [word for word, n in words.most_common() if n == total[word] and len(word) > 2]  # noqa: PLR2004 - shorter stems say little
        fresh = sorted((word for word in own if word not in others), key=lambda w: (-words[w], w))
        kept = dict.fromkeys([*fresh[:WORDS_PER_LABEL], *merged.get(label, [])])
        merged[label] = list(kept)[: 2 * WORDS_PER_LABEL]
    return "\n".join(
        f"- {name}: {', '.join(rule)}" for name, rule in sorted(merged.items()) if rule
    )


def examples_in(given: Mapping[str, str]) -> Pairs:
    """Return the (input, label) pairs that the optimizers' prompts show, each in its own shape."""
    pairs = [
        *_with_feedback(given.get("examples_with_feedback", "")),
        *_printed(given.get("examples", "")),
        *_rule_examples(given.get("examples_text", "")),
        *_judged(given.get("program_inputs", ""), given.get("oracle_metadata", "")),
    ]
    return pairs or list(_lines(given.get("task_demos", "")))


def _with_feedback(text: str) -> Iterable[tuple[str, str]]:
    """Read GEPA's list: the label is what the feedback says was expected."""
    try:
        rows = json.loads(text) if text else []
    except ValueError:
        return
    for row in rows if isinstance(rows, list) else []:
        found = EXPECTED.search(str(row.get("Feedback", ""))) if isinstance(row, dict) else None
        if found:
            yield _plain(row.get("Inputs", "")), found[1].strip()


def _plain(inputs: Json) -> str:
    return " ".join(map(str, inputs.values())) if isinstance(inputs, dict) else str(inputs)


def _printed(text: str) -> Iterable[tuple[str, str]]:
    """Read MIPROv2's view of the data: printed examples; the last value is the label."""
    for match in EXAMPLE.finditer(text):
        try:
            values = list(ast.literal_eval(match[1]).values())
        except (ValueError, SyntaxError):
            continue
        if len(values) > 1:
            yield " ".join(map(str, values[:-1])), str(values[-1])


def _rule_examples(text: str) -> Iterable[tuple[str, str]]:
    """Read InferRules' list of input and output fields."""
    for inputs, outputs in RULE_EXAMPLE.findall(text):
        values = [value for _, value in LINE.findall(outputs)]
        if values:
            yield " ".join(value for _, value in LINE.findall(inputs)), values[-1].strip()


def _judged(inputs: str, labels: str) -> Iterable[tuple[str, str]]:
    """Read SIMBA's one example: its inputs and the hidden label."""
    try:
        values = list(json.loads(labels).values()) if labels else []
        texts = json.loads(inputs)
    except (ValueError, AttributeError):
        return
    if values:
        yield _plain(texts), str(values[0])


def _lines(text: str) -> Iterable[tuple[str, str]]:
    """Read MIPROv2's task demos: blocks of "Name: value" lines, the label last."""
    for block in re.split(r"\n\s*\n", text):
        values = [
            value.strip() for name, value in LINE.findall(block) if name.lower() != "reasoning"
        ]
        if len(values) > 1 and len(values[-1]) < LONGEST_LABEL:
            yield " ".join(values[:-1]), values[-1]
