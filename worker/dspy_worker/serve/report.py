"""What `dspy-worker check` prints about a program that it could load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy_worker.serve import info, runtime

if TYPE_CHECKING:
    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.runtime import Folders


def lines(document: AppDocument, folders: Folders) -> list[str]:
    """Load a program and return what a person wants to know of it.

    Raises:
        LoadError: It cannot be loaded.
    """
    assembled = runtime.assemble(document, folders)
    about = info.document(document, assembled.program, runtime.version(), assembled.label.variant)
    return [
        f"{document.name} can be served: {about['program']['type']}",
        "inputs:",
        *map(_field, about["program"]["inputs"]),
        "outputs:",
        *map(_field, about["program"]["outputs"]),
        *(f"key of model {name!r}: {key.where}" for name, key in assembled.health.keys.items()),
    ]


def _field(field: dict[str, Any]) -> str:
    optional = "" if field["required"] else " (optional)"
    described = f"  # {field['description']}" if field["description"] else ""
    return f"  {field['name']}: {field['type']}{optional}{described}"
