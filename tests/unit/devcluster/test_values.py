"""The values that travel through files come back as they were."""

import os
from pathlib import Path

from devcluster import audit, certificates, pipconf, plan, processes, record
from devcluster.audit import AuditEvent
from devcluster.plan import Component, Plan
from devcluster.processes import Process
from devcluster.record import Record

LINE = (
    '{"verb":"patch","user":{"username":"admin"},"objectRef":{"resource":"pods",'
    '"subresource":"status","namespace":"a","name":"b"},"responseStatus":{"code":200}}\n'
)


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    written = Plan(
        cgroup="devcluster210",
        network_number=210,
        binds=(("/state/var-lib", "/var/lib"),),
        logs="/state/logs",
        components=(Component(name="etcd", command=("etcd", "--name=x"), await_port=1),),
    )

    plan.dump(written, tmp_path / "plan.json")

    assert plan.load(tmp_path / "plan.json") == written


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    half = Record(network_number=210, cgroup="devcluster210")
    whole = Record(
        network_number=210,
        cgroup="devcluster210",
        launcher=Process(pid=1, started=2),
        supervisor=Process(pid=3, started=4),
    )

    for written in (half, whole):
        record.save(written, tmp_path / "record.json")
        assert record.load(tmp_path / "record.json") == written


def test_nothing_was_made_where_there_is_no_record(tmp_path: Path) -> None:
    assert record.load(tmp_path / "record.json") is None


def test_an_audit_line_becomes_an_event_and_half_a_line_waits(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text(LINE)
    start = audit.marker(log)
    with log.open("a") as stream:
        stream.write(LINE + '{"verb":"cre')

    event = AuditEvent(
        user="admin",
        verb="patch",
        resource="pods",
        subresource="status",
        namespace="a",
        name="b",
        code=200,
    )
    assert audit.read(log) == [event, event]
    assert audit.read(log, start) == [event]
    assert audit.read(tmp_path / "missing") == []


def test_a_reused_process_number_is_not_mistaken() -> None:
    own = processes.find(os.getpid())

    assert own is not None
    assert processes.is_alive(own)
    assert not processes.is_alive(Process(pid=own.pid, started=own.started + 1))


def test_groups_and_user_are_the_subject_of_a_certificate() -> None:
    assert certificates.subject("a/b", ["g"]) == "/O=g/CN=a\\/b"


def test_variables_win_over_pip_files_and_other_settings_are_left_out() -> None:
    listing = "global.timeout='5'\n:env:.timeout='9'\nglobal.cert='/c'\nglobal.user='true'\n"

    settings = pipconf.parse(listing)

    assert settings == {"timeout": "9", "cert": "/c"}
    assert pipconf.render(settings) == "[global]\ntimeout = 9\ncert = /c\n"
    assert pipconf.mounts({"find-links": "/folder"}) == ["/folder"]
