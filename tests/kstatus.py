"""How others read us: kstatus, in Python, and the Lua that Argo CD runs.

`verdict` follows sigs.k8s.io/cli-utils/pkg/kstatus for a kind that it does not know by name. Helm
4, Flux and many scripts wait by it.
"""

from pathlib import Path
from typing import Any

from lupa import lua51

ROOT = Path(__file__).parents[1]
LUA = ROOT / "deploy/argocd/health/dspy-operator.io_DSPyApp.lua"
SAME = {
    "Terminating": "Progressing",
    "InProgress": "Progressing",
    "Failed": "Degraded",
    "Current": "Healthy",
}
"""What Argo CD should say where kstatus says the other."""


def verdict(live: dict[str, Any]) -> str:
    """Return Terminating, InProgress, Failed or Current."""
    metadata, shown = live["metadata"], live.get("status", {})
    if "deletionTimestamp" in metadata:
        return "Terminating"
    if "observedGeneration" in shown and shown["observedGeneration"] != metadata["generation"]:
        return "InProgress"
    found = {c["type"]: c["status"] for c in shown.get("conditions", ())}
    if found.get("Reconciling") == "True":
        return "InProgress"
    if found.get("Stalled") == "True":
        return "Failed"
    return "Current" if found.get("Ready", "True") == "True" else "InProgress"


def health(live: dict[str, Any]) -> tuple[str, str]:
    """Run the health check as Argo CD does, in Lua 5.1, and return its status and message."""
    lua = lua51.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(live, recursive=True)
    said = lua.execute(LUA.read_text(encoding="utf-8"))
    return str(said["status"]), str(said["message"])


def expected_health(live: dict[str, Any]) -> str:
    """Return what Argo CD should say: as kstatus does, but an app on hold is Suspended.

    kstatus has no such word: it says InProgress, for the operator does not take up the spec.
    """
    said = verdict(live)
    paused = any(
        c["type"] == "Paused" and c["status"] == "True"
        for c in live.get("status", {}).get("conditions", ())
    )
    if paused and live["spec"].get("paused") and said != "Terminating":
        return "Suspended"
    return SAME[said]
