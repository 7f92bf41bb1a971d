"""How programs are built, configured and ordered."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from devcluster import archive, binaries, images, promtool, release
from devcluster import plan as plans
from devcluster.certificates import Authority
from devcluster.control_plane import ControlPlane, etcd
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.network import Network
from devcluster.node import Node, files
from devcluster.progress import Progress, last_line

NETWORK = Network(number=210)
PLANE = ControlPlane(
    binaries=Path("/bin"),
    authority=Authority(folder=Path("/pki")),
    config=Path("/config"),
    etcd_data=Path("/etcd"),
    audit_log=Path("/audit"),
    address=NETWORK.node,
    port=6443,
    etcd_port=2379,
    service_range=NETWORK.services,
    service_address=NETWORK.kubernetes,
)


@pytest.mark.parametrize(
    ("text", "version"),
    [("go1.26.8\n", (1, 26)), ("go1.27rc1", (0, 0)), ("go2.0", (2, 0)), ("devel", (0, 0))],
)
def test_the_version_of_go_is_read(text: str, version: tuple[int, int]) -> None:
    assert binaries.parse_go_version(text) == version


def test_kubernetes_knows_its_version_and_other_programs_are_pinned() -> None:
    assert "gitVersion=v1.34.4" in binaries.linker_flags()
    assert binaries.build_command("go", "helm", Path("/x"))[-1].endswith("/helm@v4.2.4")
    assert "/x/kubelet" in binaries.build_command("go", "kubelet", Path("/x"))


def test_a_binary_that_exists_is_not_built_again(tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_text(name)
    folder = binaries.folder(tmp_path, tmp_path)
    folder.mkdir()
    (folder / "kubectl").touch()

    assert binaries.ensure(Progress(quiet=True), tmp_path, tmp_path, ("kubectl",)) == folder


def test_helm_3_is_built_for_tests_and_by_no_cluster() -> None:
    command = binaries.build_command("go", "helm3", Path("/x"))

    assert command[-1] == "helm.sh/helm/v3/cmd/helm@v3.21.4"
    assert binaries.TESTED_AGAINST["helm3"].installed_as == "helm", "as `go install` names it"
    assert "helm3" not in binaries.EVERYTHING


def test_promtool_in_the_cache_is_used(tmp_path: Path) -> None:
    there = tmp_path / "deb-prometheus" / "usr" / "bin" / "promtool"
    there.parent.mkdir(parents=True)
    there.touch()

    assert promtool.ensure(Progress(quiet=True), tmp_path) == there


def test_without_apt_somebody_has_to_bring_promtool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert promtool.find(tmp_path) is None
    with pytest.raises(DevclusterError, match="please install prometheus"):
        promtool.ensure(Progress(quiet=True), tmp_path)


def test_etcd_listens_on_loopback_only() -> None:
    urls = [part for part in etcd(PLANE) if "listen" in part]

    assert len(urls) == 2
    assert all("//127.0.0.1:" in url for url in urls)


def test_the_files_of_the_node_speak_of_one_network() -> None:
    rendered = files(Node(plane=PLANE, network=NETWORK, config=Path("/config")))

    assert json.loads(rendered["kubelet.json"])["clusterDNS"] == [NETWORK.dns]
    assert NETWORK.pods in rendered["cni/10-devcluster.conflist"]
    assert f"{NETWORK.host} host.devcluster" in rendered["Corefile"]
    assert archive.TOOLS_IMAGE in rendered["containerd.toml"]


def test_the_image_of_tools_is_a_docker_archive(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"program")

    archive.write_tools_image(busybox, tmp_path / "tools.tar")

    with tarfile.open(tmp_path / "tools.tar") as content:
        manifest = content.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == [archive.TOOLS_IMAGE]


def test_a_change_of_a_source_changes_the_hash_and_a_cache_does_not(tmp_path: Path) -> None:
    (tmp_path / "operator" / "__pycache__").mkdir(parents=True)
    (tmp_path / "operator" / "a.py").write_text("1")
    (tmp_path / images.OPERATOR.dockerfile).write_text("FROM x")
    before = images.source_hash(tmp_path, images.OPERATOR)

    (tmp_path / "operator" / "__pycache__" / "a.pyc").write_text("2")
    cached = images.source_hash(tmp_path, images.OPERATOR)
    (tmp_path / "operator" / "a.py").write_text("2")

    assert before == cached
    assert images.source_hash(tmp_path, images.OPERATOR) != before


def test_helm_gets_the_images() -> None:
    arguments = release.values(release.DEV)

    assert "image.repository=dspy-operator" in arguments
    assert "image.tag=dev" in arguments
    assert "worker.image=dspy-worker:dev" in arguments


def test_a_failed_step_names_its_log_and_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["sh", "-c", "echo first; echo the reason; echo; exit 3"]

    with pytest.raises(DevclusterError, match="trying failed: the reason") as failure:
        Progress(quiet=True).run(command, what="trying", log=log)

    assert str(log) in str(failure.value)
    assert last_line(log) == "the reason"


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(DevclusterError, match="in vain for a miracle"):
        Progress(quiet=True).wait_for("a miracle", lambda: False, seconds=0)


def test_a_component_waits_for_nothing_unless_told() -> None:
    component = plans.Component(name="a", command=("a",))

    assert (component.await_port, component.await_socket) == (0, "")


def test_all_files_of_a_cluster_lie_below_its_state(tmp_path: Path) -> None:
    layout = replace(Layout.of_checkout(), state=tmp_path)

    assert layout.kubeconfig.parent == tmp_path
    assert layout.volumes.is_relative_to(tmp_path)
