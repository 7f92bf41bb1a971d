"""From a bare machine to pods that answer, and what the operator does for them.

Each step is real: the commands shown are those that a reader could type, the answers are those of
the cluster. A step that does not show what it should ends the demo with an error.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from demo import production
from demo.stage import Stage
from devcluster import apps, up
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "dspy-demo"
QUESTIONS = (
    "I was charged twice for my subscription this month",
    "The app crashes with an error when I open the export page",
    "Where is my parcel? It should have been delivered last week",
)
LETTER = (
    "Good morning, invoice INV-3071 of 2026-05-02 lists 129.90 and is due on 2026-05-16. Please "
    "correct it today. Regards, Eva Stone, eva.stone@example.net"
)
BROKEN: dict[str, Any] = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": "broken"},
    "spec": {
        "program": {"python": {"entrypoint": "shop_assistant:build"}},
        "models": [{"name": "main", "model": "practice", "endpoint": "http://practice-lm:8080/v1"}],
    },
}


def deploy(stage: Stage, here: apps.Apps) -> None:
    """Apply the practice LM and two apps and follow them until they are ready."""
    for path in ("practice-lm/practice-lm.yaml", "tickets/app.yaml", "invoices/app.yaml"):
        stage.command(f"kubectl -n {NAMESPACE} apply -f examples/{path}")
        here.apply_file(f"examples/{path}")
    follow(stage, here, ("tickets", "invoices"))
    stage.command(f"kubectl -n {NAMESPACE} get dapp")
    stage.say(here.kubectl("get", "dapp"))


def follow(stage: Stage, here: apps.Apps, names: tuple[str, ...], *, seconds: float = 240) -> None:
    """Print what each app says whenever it says something new, until all are ready."""
    said: dict[str, str] = {}

    def all_ready() -> bool:
        ready = True
        for name in names:
            condition = here.condition(name, "Ready")
            line = f"{name}: {condition.get('reason', '-')}: {condition.get('message', '')}"
            if condition and said.get(name) != line:
                said[name] = line
                stage.say(line)
            ready = ready and condition.get("status") == "True"
        return ready

    here.wait_until(all_ready, f"{', '.join(names)} to be ready", seconds=seconds, app=names[0])


def ask(stage: Stage, here: apps.Apps) -> None:
    """Ask both apps."""
    for text in QUESTIONS:
        answer = here.ask("tickets", {"text": text})
        stage.say(f"{text!r}")
        stage.say(f"  -> {json.dumps(answer['prediction'])}   ({answer['durationMs']:.0f} ms)")
    stage.say(LETTER)
    stage.say("  -> " + json.dumps(here.ask("invoices", {"letter": LETTER})["prediction"]))


def edit_under_load(stage: Stage, here: apps.Apps) -> None:
    """Change the program while requests come in, and count those that fail."""
    rate, seconds = 20, 60
    stage.say(f"a pod in the cluster sends {rate} requests/s for {seconds} s ...")
    here.start_load("tickets", {"text": QUESTIONS[0]}, rate=rate, seconds=seconds)
    instructions = "Sort a support ticket. Read it twice and be precise."
    patch = {"spec": {"program": {"signature": {"instructions": instructions}}}}
    stage.command(
        f"kubectl -n {NAMESPACE} patch dapp tickets --type merge -p '{json.dumps(patch)}'"
    )
    here.kubectl("patch", "dspyapp", "tickets", "--type=merge", f"--patch={json.dumps(patch)}")
    follow(stage, here, ("tickets",))
    stage.say("all pods run the new program; waiting for the end of the load")
    summary = here.finish_load()
    stage.say(
        f"requests: {summary['sent']}, answered: {summary['ok']}, failed: {summary['failed']}"
    )
    if summary["failed"]:
        raise DevclusterError(f"requests failed during the change: {summary['errors']}")


def repair(stage: Stage, here: apps.Apps) -> None:
    """Break two of the operator's objects by hand and watch them come back."""
    stage.command(f"kubectl -n {NAMESPACE} delete service tickets")
    here.kubectl("delete", "service", "tickets")
    stage.say(f"the Service is back after {back(here, 'service', 'tickets'):.1f} s")
    stage.command(f"kubectl -n {NAMESPACE} scale deployment tickets --replicas=1")
    here.kubectl("scale", "deployment", "tickets", "--replicas=1")
    started = time.monotonic()

    def three() -> bool:
        wanted: int = here.get("deployment", "tickets")["spec"]["replicas"]
        return wanted == 3  # noqa: PLR2004 - what examples/tickets asks for

    here.wait_until(three, "the Deployment to want 3 replicas again", seconds=30)
    stage.say(f"the Deployment wants 3 replicas again after {time.monotonic() - started:.1f} s")
    follow(stage, here, ("tickets",))


def back(here: apps.Apps, kind: str, name: str) -> float:
    """Wait until an object exists again; return the seconds that it took."""
    started = time.monotonic()

    def exists() -> bool:
        return bool(here.kubectl("get", kind, name, "--ignore-not-found", "--output=name").strip())

    here.wait_until(exists, f"{kind} {name} to come back", seconds=30)
    return time.monotonic() - started


def show_trouble(stage: Stage, here: apps.Apps) -> None:
    """Apply an app whose Python does not import and read what the operator says of it."""
    stage.command("kubectl apply -f -   # an app whose entrypoint is shop_assistant:build")
    here.apply(BROKEN)
    condition = here.wait("broken", "Ready", "False", "ProgramFailed", seconds=90)
    stage.command(f"kubectl -n {NAMESPACE} get dapp broken")
    stage.say(here.kubectl("get", "dapp", "broken"))
    stage.say(f"its condition says: {condition['message']}")
    here.kubectl("delete", "dspyapp", "broken")


def closing(kubeconfig: Path, kubectl: Path) -> tuple[str, ...]:
    """Return the last words: what to try next."""
    return (
        "\nTry next:",
        f"  export KUBECONFIG={kubeconfig} PATH={kubectl.parent}:$PATH",
        f"  kubectl -n {NAMESPACE} describe dapp tickets",
        f"  kubectl -n {NAMESPACE} port-forward service/tickets 8000:80",
        "      then open http://localhost:8000/docs",
        "  kubectl -n dspy-demo apply -f examples/tools/app.yaml  # an agent with a tool",
        "  kubectl explain dapp.spec --recursive  # everything that can be set",
        "  make cluster-down  # remove the cluster",
    )


def main() -> int:
    """Run all steps; return the exit code."""
    stage = Stage(total=9)
    try:
        with stage.step("A Kubernetes with the operator in it"):
            cluster = up.up()
            here = apps.Apps(cluster=cluster, namespace=NAMESPACE)
            cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
            cluster.kubectl("create", "namespace", NAMESPACE)
        for title, play in (
            ("Two apps from YAML: a ticket classifier and a typed extractor", deploy),
            ("Typed questions, typed answers", ask),
            ("The program changes under load, and no request fails", edit_under_load),
            ("Drift is repaired", repair),
            ("Trouble is told where you look", show_trouble),
            ("An app with PostgreSQL and Redis", production.deploy),
            ("A stream, an answer that is kept, and feedback", production.show_answers),
            ("Both databases stop, the app goes on", production.play_outage),
        ):
            with stage.step(title):
                play(stage, here)
    except DevclusterError as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    stage.close(*closing(cluster.kubeconfig, cluster.kubectl_path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
