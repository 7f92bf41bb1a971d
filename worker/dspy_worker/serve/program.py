"""The loaded program: what to call with which fields, and how a call runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy

from dspy_worker.edge import call as calls
from dspy_worker.edge.listener import Voices
from dspy_worker.errors import LoadError, ProgramRaised
from dspy_worker.serve import declared, fields, schema, usercode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dspy_worker.contract.app import AppDocument, Serving
    from dspy_worker.serve.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that can be called; nothing changes it while it serves.

    Attributes:
        module: The DSPy module.
        kind: Its class, for people.
        schema: Models of its requests and answers.
        instructions: What it is for; may be empty.
        pool: Threads for a program without `aforward` and for plain tools.
        is_async: Whether the program is awaited; else it runs in a thread.
        settings: What `dspy.context` gets for each call.
        voices: Whom a client may hear while it answers.
    """

    module: dspy.Module
    kind: str
    schema: Schema
    instructions: str
    pool: ThreadPoolExecutor
    is_async: bool
    settings: Mapping[str, Any]
    voices: Voices = field(default_factory=Voices)

    async def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the program's answer to one request, by field, unchecked."""
        carried = {calls.SETTING: calls.CURRENT.get()}
        with dspy.context(trace=[], **carried, **self.settings):
            if self.is_async:
                answer = await self.module.acall(**inputs)
            else:
                answer = await in_thread(self.pool, self.module, **inputs)
        return _by_field(answer)


async def in_thread(pool: ThreadPoolExecutor, function: Any, /, **kwargs: Any) -> Any:  # noqa: ANN401 - users' functions
    """Call a function in a thread that sees this task's context variables, DSPy's among them."""
    context = contextvars.copy_context()
    step = functools.partial(context.run, functools.partial(function, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(pool, step)


def load(
    document: AppDocument,
    *,
    lm: dspy.LM,
    adapter: dspy.Adapter,
    source_dir: Path | None = None,
) -> Program:
    """Build the program that a document describes.

    Args:
        document: The app.
        lm: The language model that the program asks.
        adapter: How prompts are written and answers are read.
        source_dir: Folder of the user's Python files.

    Raises:
        LoadError: The message is one sentence for the author of the document or the program.
    """
    usercode.add_to_path(source_dir)
    pool = ThreadPoolExecutor(document.serving.threads, thread_name_prefix="program")
    with warnings.catch_warnings():
        # A field may be called "copy" or "schema"; pydantic warns, and it works.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
        if document.program.signature is None:
            module, models = _python(document)
        else:
            module, models = _declared(document, pool)
    return Program(
        module=module,
        kind=type(module).__name__,
        schema=models,
        instructions=_instructions(document, module),
        pool=pool,
        is_async=fields.entry(type(module)) == "aforward",
        settings={"lm": lm, "adapter": adapter},
        voices=Voices(
            names={id(step): name for name, step in module.named_predictors()},
            fields=frozenset(models.outputs.model_fields),
            adapter=document.program.adapter,
        ),
    )


def _python(document: AppDocument) -> tuple[dspy.Module, Schema]:
    module = usercode.program(document.program.entrypoint or "")
    try:
        found = fields.of_module(module, reasoning=document.serving.include_reasoning)
        models = schema.build(found, {}, max_batch=document.serving.max_batch_size)
        models.inputs.model_json_schema()
        models.outputs.model_json_schema(mode="serialization")
        models.feedback.model_json_schema()
    except LoadError:
        raise
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise LoadError(
            f"the fields of {type(module).__name__} cannot be described as JSON: {why}"
        ) from error
    return module, models


def _declared(document: AppDocument, pool: ThreadPoolExecutor) -> tuple[dspy.Module, Schema]:
    program = document.program
    if program.signature is None:
        raise LoadError("spec.program.signature is missing")
    named = declared.named_types(program.signature.types)
    try:
        asked = declared.signature(program.signature, named)
    except (ValueError, TypeError) as error:
        raise LoadError(f"spec.program.signature cannot be used: {error}") from error
    tools = [_tool(reference, pool) for reference in program.module.tools]
    module = declared.module(program, asked, tools)
    found = _with_reasoning(fields.of_signature(asked), document.serving, program.module.type)
    wanted = declared.request_types(program.signature, named)
    return module, schema.build(found, wanted, max_batch=document.serving.max_batch_size)


def _with_reasoning(found: fields.Fields, serving: Serving, kind: str) -> fields.Fields:
    if not serving.include_reasoning or kind == "Predict":
        return found
    extra = dspy.Signature("a -> reasoning: str").output_fields
    return fields.Fields(inputs=found.inputs, outputs={**extra, **found.outputs})


def _tool(reference: str, pool: ThreadPoolExecutor) -> dspy.Tool:
    """Return a user's function as a tool; a plain one must not block the event loop."""
    function = usercode.function(reference, "spec.program.module.tools")
    if asyncio.iscoroutinefunction(function):
        return dspy.Tool(function)
    tool = dspy.Tool(function)
    tool.func = _threaded(pool, function)
    return tool


def _threaded(pool: ThreadPoolExecutor, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(**kwargs: Any) -> Any:  # noqa: ANN401 - the user's arguments and result
        found = await in_thread(pool, function, **kwargs)
        # A decorator may hide that the function is asynchronous.
        return await found if inspect.isawaitable(found) else found

    return call


def _instructions(document: AppDocument, module: dspy.Module) -> str:
    if document.program.signature:
        return document.program.signature.instructions.strip()
    return (type(module).__doc__ or "").strip() if _is_users(module) else ""


def _is_users(module: dspy.Module) -> bool:
    return not type(module).__module__.startswith("dspy.")


def _by_field(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, dspy.Prediction | dspy.Example):
        return dict(answer.items())
    if isinstance(answer, dict):
        return answer
    raise ProgramRaised(
        f"The program must return a dspy.Prediction, but it returned {type(answer).__name__}."
    )
