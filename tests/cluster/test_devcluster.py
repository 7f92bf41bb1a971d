"""The test cluster keeps what it promises: pods, Services and DNS work, and `down` leaves nothing.

Most tests use the cluster of the session. The last one starts a second cluster beside it, with a
state folder of its own, since it kills and removes what it looks at.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devcluster import archive, cgroups, processes, record
from devcluster.access import Access
from devcluster.embedded import EmbeddedCluster
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.network import Network
from devcluster.progress import Progress

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, command: list[str], **container: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": archive.TOOLS_IMAGE,
                    "command": command,
                    "securityContext": RESTRICTED,
                    **container,
                }
            ],
        },
    }


def web_pod() -> dict[str, Any]:
    probe = {"httpGet": {"path": "/greeting", "port": 8080}, "periodSeconds": 1}
    web = pod(
        "web",
        ["httpd", "-f", "-p", "8080", "-h", "/www"],
        readinessProbe=probe,
        livenessProbe=probe,
        volumeMounts=[{"name": "www", "mountPath": "/www"}],
    )
    web["spec"]["volumes"] = [{"name": "www", "configMap": {"name": "www"}}]
    return web


def in_namespace(namespace: str, *manifests: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**item, "metadata": {**item["metadata"], "namespace": namespace}} for item in manifests
    ]


def start_web(cluster: Access, namespace: str) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "www"},
        "data": {"greeting": "hello from a pod"},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.apply(in_namespace(namespace, content, service, web_pod()))
    cluster.kubectl("-n", namespace, "wait", "pod/web", "--for=condition=Ready", "--timeout=60s")


def output_of(cluster: Access, namespace: str, program: dict[str, Any]) -> str:
    name = program["metadata"]["name"]
    cluster.apply(in_namespace(namespace, program))
    phase = "--for=jsonpath={.status.phase}=Succeeded"
    try:
        cluster.kubectl("-n", namespace, "wait", f"pod/{name}", phase, "--timeout=30s")
    except DevclusterError as error:
        raise AssertionError(cluster.kubectl("-n", namespace, "logs", name)) from error
    return cluster.kubectl("-n", namespace, "logs", name)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Another cluster beside that of the session."""
    layout = replace(Layout.of_checkout(), state=tmp_path / "cluster")
    cluster = EmbeddedCluster(layout, Progress())
    yield cluster
    cluster.down(everything=True)


@pytest.mark.cluster
def test_a_restricted_pod_with_probes_and_a_config_map_gets_ready(
    cluster: Access, namespace: str
) -> None:
    start_web(cluster, namespace)


@pytest.mark.cluster
def test_a_service_answers_another_pod_by_its_name(cluster: Access, namespace: str) -> None:
    start_web(cluster, namespace)

    url = f"http://web.{namespace}.svc.cluster.local/greeting"
    full = output_of(cluster, namespace, pod("by-full-name", ["wget", "-q", "-O-", url]))
    short = output_of(
        cluster, namespace, pod("by-name", ["wget", "-q", "-O-", "http://web/greeting"])
    )

    assert (full, short) == ("hello from a pod", "hello from a pod")


@pytest.mark.cluster
def test_the_host_reaches_pods_and_services(cluster: Access, namespace: str) -> None:
    start_web(cluster, namespace)
    service = cluster.kubectl_json("-n", namespace, "get", "service", "web")
    web = cluster.kubectl_json("-n", namespace, "get", "pod", "web")

    for url in (service["spec"]["clusterIP"], f"{web['status']['podIP']}:8080"):
        answer = subprocess.run(
            ["curl", "-s", "--noproxy", "*", "-m", "5", f"http://{url}/greeting"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout == "hello from a pod"


@pytest.mark.cluster
def test_a_pod_reaches_the_host_by_name(
    cluster: Access, namespace: str, embedded_cluster: EmbeddedCluster
) -> None:
    answer = output_of(cluster, namespace, pod("ask", ["nslookup", "host.devcluster"]))

    assert embedded_cluster.network.host in answer


ASK_WITH_TOKEN = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
trusted = ssl.create_default_context(cafile=f"{folder}/ca.crt")
token = open(f"{folder}/token").read()
url = "https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews"
kind = "application/json"
headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "Accept": kind}
question = urllib.request.Request(url, b"{}", headers)
print(urllib.request.urlopen(question, context=trusted).read().decode())
"""


@pytest.mark.cluster
def test_a_service_account_token_opens_the_api_in_a_pod_of_our_image(
    cluster: Access, namespace: str
) -> None:
    client = pod("client", ["python3", "-c", ASK_WITH_TOKEN], image="dspy-operator:dev")

    review = json.loads(output_of(cluster, namespace, client))

    assert review["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"


@pytest.mark.cluster
def test_a_claim_is_bound_and_writable_for_a_user_that_is_not_root(
    cluster: Access, namespace: str
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    writer = pod(
        "writer",
        ["sh", "-c", "touch /data/file && sleep 1000"],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
    )
    writer["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]

    cluster.apply(in_namespace(namespace, claim, writer))

    ready = ("--for=condition=Ready", "--timeout=60s")
    cluster.kubectl("-n", namespace, "wait", "pod/writer", *ready)


@pytest.mark.cluster
def test_the_use_of_pods_is_measured(cluster: Access, namespace: str) -> None:
    start_web(cluster, namespace)
    deadline = time.monotonic() + 90
    while True:
        try:
            lines = cluster.kubectl("-n", namespace, "top", "pods", "--no-headers")
        except DevclusterError:
            lines = ""
        if lines:
            break
        assert time.monotonic() < deadline, "no metrics of the pod came"
        time.sleep(2)

    assert lines.startswith("web ")


@pytest.mark.cluster
def test_a_privileged_pod_is_refused(cluster: Access, namespace: str) -> None:
    bad = pod("bad", ["sleep", "1"], securityContext={"privileged": True})

    with pytest.raises(DevclusterError, match="violates PodSecurity"):
        cluster.apply(in_namespace(namespace, bad))


@pytest.mark.api_server
def test_the_audit_log_counts_writes_per_user(
    light_cluster: LightCluster, light_namespace: str
) -> None:
    access = light_cluster.access
    someone = replace(access, kubeconfig=access.kubeconfig_for("someone", ["system:masters"]))
    start = access.audit_marker()

    someone.kubectl("-n", light_namespace, "create", "configmap", "mine")
    someone.kubectl("-n", light_namespace, "get", "configmap", "mine")
    access.kubectl("-n", light_namespace, "delete", "configmap", "mine")

    seen = [
        (event.user, event.verb, event.resource, event.name, event.code)
        for event in access.audit(start)
        if event.user in ("admin", "someone")
    ]
    assert seen == [
        ("someone", "create", "configmaps", "mine", 201),
        ("admin", "delete", "configmaps", "mine", 200),
    ]


@pytest.mark.api_server
def test_the_api_server_keeps_its_objects_over_a_restart(
    light_cluster: LightCluster, light_namespace: str
) -> None:
    light_cluster.stop_api_server()
    assert not light_cluster.access.answers()

    light_cluster.start_api_server()

    assert light_cluster.access.kubectl("get", "namespace", light_namespace)


@pytest.mark.cluster
def test_a_component_that_is_killed_comes_back(second: EmbeddedCluster) -> None:
    second.up()
    victims = ("etcd", "containerd", "kube-apiserver", "kubelet")
    for name in victims:
        second.enter("sh", "-c", KILL.replace("NAME", name))

    Progress().wait_for("the cluster", second.is_healthy, seconds=90)
    pods = in_namespace("default", pod("late", ["sleep", "1000"]))
    second.access.apply(pods)
    second.access.kubectl("wait", "pod/late", "--for=condition=Ready", "--timeout=60s")

    said = (second.layout.logs / "supervisor.log").read_text()
    assert [name for name in victims if f"{name} ended" not in said] == []


KILL = """
for process in /proc/[0-9]*; do
    case "$(readlink $process/exe)" in */NAME) kill -9 "${process#/proc/}" ;; esac
done
"""


def processes_of(layout: Layout) -> list[str]:
    """Return the command lines of all processes that name the cluster's state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if str(layout.state) in line:
                found.append(line)
    return found


def traces(layout: Layout, network: Network) -> dict[str, object]:
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    return {
        "processes": processes_of(layout),
        "links": [link["ifname"] for link in links if link["ifname"] == network.link],
        "cgroups": [path for path in cgroups.folders(network.link) if path.exists()],
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(layout.state) in line
        ],
    }


NOTHING: dict[str, object] = {"processes": [], "links": [], "cgroups": [], "mounts": []}


@pytest.mark.cluster
def test_down_leaves_nothing_even_after_a_crash(second: EmbeddedCluster) -> None:
    kernel = Path("/proc/sys/vm/overcommit_memory").read_text()
    second.up()
    network = second.network
    second.access.apply(in_namespace("default", pod("sleeper", ["sleep", "1000"])))
    ready = ("--for=condition=Ready", "--timeout=60s")
    second.access.kubectl("wait", "pod/sleeper", *ready)
    known = record.load(second.layout.record)
    assert known is not None
    assert known.launcher is not None

    os.kill(known.launcher.pid, signal.SIGKILL)
    started = time.monotonic()
    assert second.up()
    print(f"second start after a crash: {time.monotonic() - started:.1f} s")
    assert not processes.is_alive(known.launcher)
    second.down()

    assert traces(second.layout, network) == NOTHING
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == kernel
