"""Tokens that are replaced while the operator runs, the old one revoked each time."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.light import LightCluster
from tests.cluster.operator_world import Operator, World, app, until

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(240)]

ACCOUNT = "rotating"
UNAUTHORIZED = 401
CACHE_SECONDS = 11
"""The API server believes a token for ten seconds after it has checked it."""


class Token:
    """The file with the token of a service account, and what revokes it."""

    def __init__(self, world: World, file: Path) -> None:
        self._world = world
        self._file = file
        self._number = 0

    def rotate(self) -> str:
        """Write a new token and revoke the old one: it was bound to a Secret that goes.

        Returns:
            The old token.
        """
        old = f"bound-{self._number}"
        self._number += 1
        new = f"bound-{self._number}"
        self._world.kubectl("create", "secret", "generic", new)
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={new}")
        text = self._world.kubectl("create", "token", ACCOUNT, *bound, "--duration=10m")
        revoked = self._file.read_text() if self._file.exists() else ""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self._file)
        if self._number > 1:
            self._world.kubectl("delete", "secret", old)
        return revoked


def status_with(world: World, token: str) -> int:
    """Return what the API server answers to somebody with a token."""
    request = urllib.request.Request(
        f"{world.access.server}/api/v1/namespaces/{world.namespace}/services",
        headers={"Authorization": f"Bearer {token.strip()}"},
    )
    context = ssl.create_default_context(cafile=str(world.access.pki / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def grant(cluster: LightCluster, namespace: str, rules: list[dict[str, Any]]) -> None:
    chart = next(r["rules"] for r in rules if r["kind"] == "ClusterRole" and "rules" in r)
    group = "rbac.authorization.k8s.io"
    where = {"name": ACCOUNT, "namespace": namespace}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": where, "rules": chart}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": where,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
        "subjects": [subject],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}
    cluster.access.apply([account, role, binding])


@pytest.fixture
def rotating(
    light_cluster: LightCluster, light_namespace: str, rules: list[dict[str, Any]], tmp_path: Path
) -> Iterator[tuple[World, Token]]:
    """Start an operator that knows its token only from a file."""
    grant(light_cluster, light_namespace, rules)
    file = tmp_path / "token"
    config = json.loads(light_cluster.access.kubeconfig_for("nobody").read_text())
    config["users"][0]["user"] = {"tokenFile": str(file)}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    operator = Operator(
        kubeconfig=kubeconfig,
        log=tmp_path / "log",
        arguments=(f"--namespaces={light_namespace}",),
    )
    world = World(access=light_cluster.access, namespace=light_namespace, operator=operator)
    token = Token(world, file)
    token.rotate()
    operator.start()
    yield world, token
    assert operator.stop() == 0


def test_a_revoked_token_is_replaced_without_a_restart(rotating: tuple[World, Token]) -> None:
    world, token = rotating
    world.serve(app())
    for round_ in range(1, 4):
        revoked = token.rotate()
        time.sleep(CACHE_SECONDS)
        assert status_with(world, revoked) == UNAUTHORIZED
        world.kubectl("delete", "service", "tickets")
        until(lambda: world.names("services"), f"drift repaired with token {round_}", 30)

    world.patch("dspyapp", "tickets", {"spec": {"serving": {"replicas": 3}}})
    until(lambda: world.get("deployment", "tickets")["spec"]["replicas"] == 3, "kopf's own watch")
    assert world.operator.get("livez")[0] == 200
