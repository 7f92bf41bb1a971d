"""The parts together, without a cluster."""

from dspy_operator.edge import credentials, health
from dspy_operator.wiring import Choices, Machine


async def test_a_kopf_that_never_watches_is_noticed() -> None:
    made = Machine(
        credentials.Connection(server="http://127.0.0.1:1", tls=None),
        Choices(namespaces=(), worker_image="worker:1", identity="pod", rate=10, burst=10),
    )
    opened = made.open_kopf_session()
    made.health._beats = {
        name: at - health.SILENCE_SECONDS for name, at in made.health._beats.items()
    }

    assert "kopf/dspyapps" in "".join(made.health.complaints())
    await opened.close()
    await made.close()
