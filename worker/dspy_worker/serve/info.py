"""What a worker tells everybody about itself: no endpoint, no key, no prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy_worker.contract import money

if TYPE_CHECKING:
    import pydantic

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.program import Program


def document(app: AppDocument, program: Program, version: str, variant: str) -> dict[str, Any]:
    """Return the answer of `/v1/info`.

    Args:
        app: The app.
        program: What answers.
        version: Version of the worker.
        variant: Which prompts answer.
    """
    serving = app.serving
    return {
        "app": app.name,
        "namespace": app.namespace,
        "version": version,
        "configDigest": app.digest,
        "variant": variant,
        "program": {
            "type": program.kind,
            "adapter": app.program.adapter,
            "inputs": _fields(program.schema.inputs),
            "outputs": _fields(program.schema.outputs),
        },
        "models": [{"name": model.name, "model": model.model} for model in app.models],
        "budgets": [
            {
                "name": budget.name,
                "period": budget.period,
                "per": budget.per,
                "limitUsd": money.dollars(budget.limit),
                "mode": budget.mode,
            }
            for budget in app.budgets
        ],
        "limits": {
            "concurrency": serving.concurrency,
            "queueSize": serving.queue_size,
            "timeoutSeconds": serving.timeout_seconds,
            "maxRequestBytes": serving.max_request_bytes,
            "maxBatchSize": serving.max_batch_size,
        },
    }


def _fields(model: type[pydantic.BaseModel]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": _type_name(info.annotation),
            "description": info.description or "",
            "required": info.is_required(),
        }
        for name, info in model.model_fields.items()
    ]


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - any type
    if isinstance(annotation, type) and not getattr(annotation, "__args__", ()):
        return annotation.__name__
    return str(annotation).replace("typing.", "")
