"""The prompt model of optimizers: it writes rules from the examples that their prompts show."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.propose.dataset_summary_generator import DatasetDescriptor, ObservationSummarizer
from dspy.propose.grounded_proposer import generate_instruction_class
from dspy.teleprompt.infer_rules import RulesInductionProgram
from dspy.teleprompt.simba_utils import OfferFeedback

from dspy_worker.practice import model, prompt, proposer
from dspy_worker.practice.model import Draw


class ProposeInstruction(dspy.Signature):
    """Write a better instruction (GEPA's fields; its module needs a package that is not here)."""

    current_instruction: str = dspy.InputField()
    examples_with_feedback: list[dict[str, Any]] = dspy.InputField()
    new_instruction: str = dspy.OutputField()


TICKETS = [
    dspy.Example(text="The invoice has a wrong total.", label="billing").with_inputs("text"),
    dspy.Example(text="My parcel is lost.", label="shipping").with_inputs("text"),
]


def read(signature: type[dspy.Signature], **inputs: object) -> prompt.Prompt:
    return prompt.parse(dspy.ChatAdapter().format(signature, [], inputs))


def propose(signature: type[dspy.Signature], **inputs: object) -> dict[str, object]:
    asked = read(signature, **inputs)
    assert proposer.is_proposal(asked)
    return proposer.propose(asked, Draw())


def rules(text: object) -> dict[str, set[str]]:
    found = model.rules_in(str(text))
    return {label: words & {"invoice", "invoic", "parcel"} for label, words in found.items()}


LEARNED = {"billing": {"invoic"}, "shipping": {"parcel"}}


def test_gepa_gets_rules_from_its_feedback() -> None:
    examples = [
        {
            "Inputs": {"text": ticket.text},
            "Generated Outputs": {"label": "bug"},
            "Feedback": f"Wrong: expected '{ticket.label}', got 'bug'.",
        }
        for ticket in TICKETS
    ]

    found = propose(
        ProposeInstruction, current_instruction="Pick a label.", examples_with_feedback=examples
    )

    assert str(found["new_instruction"]).startswith("Pick a label.")
    assert rules(found["new_instruction"]) == LEARNED


def test_mipro_gets_rules_from_its_view_of_the_data() -> None:
    found = propose(DatasetDescriptor, examples=repr(TICKETS))

    assert rules(found["observations"]) == LEARNED


def test_a_summary_of_observations_keeps_the_rules() -> None:
    noted = "Seen so far:\n- billing: invoice\n- shipping: parcel"

    assert rules(propose(ObservationSummarizer, observations=noted)["summary"]) == LEARNED


def test_mipro_gets_an_instruction_from_its_task_demos_and_its_data_summary() -> None:
    proposal = generate_instruction_class(use_instruct_history=False)

    found = propose(
        proposal.signature,
        dataset_description="- billing: invoice",
        program_code="...",
        program_description="...",
        module="Predict(text) -> label",
        module_description="...",
        task_demos="Text: My parcel is lost.\nReasoning: Post.\nLabel: shipping",
        basic_instruction="Pick a label.",
        tip="Be brief.",
    )

    assert rules(found["proposed_instruction"]) == LEARNED


def test_simba_gets_advice_for_each_module() -> None:
    blank = dict.fromkeys(OfferFeedback.input_fields, "{}")
    given = {
        "program_inputs": '{"text": "My parcel is lost."}',
        "oracle_metadata": '{"label": "shipping"}',
        "module_names": '["classify"]',
    }

    advice = propose(OfferFeedback, **{**blank, **given})["module_advice"]

    assert isinstance(advice, dict)
    assert rules(advice["classify"]) == {"shipping": {"parcel"}}


def test_infer_rules_gets_natural_language_rules() -> None:
    signature = RulesInductionProgram(5).rules_induction.predict.signature
    examples = "".join(
        f"Input Fields:\ntext: {one.text}\n\n=========\nOutput Fields:\nlabel: {one.label}\n\n"
        for one in TICKETS
    )

    assert rules(propose(signature, examples_text=examples)["natural_language_rules"]) == LEARNED


def test_an_instruction_keeps_its_text_and_replaces_its_rules() -> None:
    old = "Pick a label.\nWords that point to each answer:\n- bug: crash"

    found = proposer.instruction(old, "- bug: crash, stop", "Answer briefly.")

    assert found == (
        "Pick a label.\nAnswer briefly.\nWords that point to each answer:\n- bug: crash, stop"
    )


def test_a_word_of_two_labels_points_to_neither() -> None:
    pairs = [("order invoice", "billing"), ("order parcel", "shipping")]

    assert "order" not in proposer.write_rules(pairs, {})


def test_a_task_with_a_field_named_summary_is_no_proposal() -> None:
    assert not proposer.is_proposal(read(dspy.Signature("text -> summary"), text="A text."))
