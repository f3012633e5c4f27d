"""Quarantine: what a hub cannot take is shown at both ends, tried again once the reason is gone, counted rightly."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from callers import Call, GrpcDoor, send, summed
from costd.clock import ManualClock
from harness import Daemon, costd, until
from hub.fleet_model import HubNode, SourceNode
from hub.members import Launch, audit, join, lets_in, make_key
from ledger import NOW_MS
from scraping import Page


def listed(daemon: Daemon, *options: str) -> list[dict[str, Any]]:
    """What the command lists."""
    done = costd("quarantine", "list", "--json", "--data-dir", str(daemon.data_dir), *options)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["entries"])


def settle(daemon: Daemon, action: str, which: str) -> tuple[int, str]:
    """The exit code of the command, and what it said."""
    done = costd("quarantine", action, which, "--data-dir", str(daemon.data_dir))
    return done.returncode, done.stdout + done.stderr


def with_organizations(hub: Daemon, sql: str) -> None:
    """Change what a stopped hub's source may record for: there is no command for it."""
    connection = sqlite3.connect(hub.database)
    with connection:
        connection.execute(sql)
    connection.close()


def test_what_is_set_aside_for_its_organization_goes_in_once_the_source_has_it(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "acme", "beta")
    beta = make_key(hub, "beta")
    until(lambda: lets_in(sidecar, beta.secret), "the key to arrive")
    assert hub.stop() == 0
    with_organizations(hub, "DELETE FROM source_org WHERE place = 1")
    mine = [Call(1, input_tokens=100), Call(4, input_tokens=400)]
    theirs = [Call(2, input_tokens=200), Call(3, input_tokens=300)]
    assert {outcome.word for outcome in send(GrpcDoor, sidecar, *mine)} == {"kept"}
    assert {outcome.word for outcome in send(GrpcDoor, sidecar, *theirs, key=beta.secret)} == {"kept"}
    hub = launch(f"--grpc-listen={hub.grpc}", name="hub", command="hub")
    until(lambda: sum(entry["records"] for entry in listed(sidecar)) == 2, "both to be set aside", 40)
    entries = listed(hub)
    assert {entry["source"] for entry in entries} == {"web-1"}
    assert '"beta" is none of this source\'s' in entries[0]["reason"]
    here = [{**entry, "source": None, "at": None} for entry in entries]
    assert [{**entry, "at": None} for entry in listed(sidecar)] == here
    for end in (hub, sidecar):
        assert Page.of(end).value("costd_quarantined_records") == 2
    status = json.loads(costd("status", "--json", "--data-dir", str(sidecar.data_dir)).stdout)
    assert status["hub"]["quarantined"] == 2
    assert Page.of(hub).value("costd_hub_records_total", outcome="quarantined") == 2
    assert summed(hub) == (2, sum(call.expected_nano or 0 for call in mine))
    # Tried again while the reason is there, nothing changes.
    code, said = settle(hub, "retry", entries[0]["id"])
    assert (code, "refused again" in said) == (5, True), said
    assert listed(hub) == entries
    # Given the organization, they go in; at the sidecar that is an order to the hub.
    assert hub.stop() == 0
    with_organizations(hub, "INSERT INTO source_org SELECT 1, id, 1 FROM org WHERE name = 'beta'")
    for entry in entries:
        code, said = settle(sidecar, "retry", entry["id"])
        assert (code, "the hub is asked to retry" in said) == (0, True), said
    assert {entry["ordered"] for entry in listed(sidecar)} == {"retry"}
    hub = launch(f"--grpc-listen={hub.grpc}", name="hub", command="hub")
    until(lambda: not listed(sidecar), "the hub to have taken them", 40)
    assert {entry["state"] for entry in listed(sidecar, "--all")} == {"applied"}
    assert summed(hub) == summed(sidecar)
    assert hub.query("SELECT records FROM source") == [(4,)]
    assert len(audit(hub, "quarantine.applied")) == len(audit(sidecar, "quarantine.ordered")) == len(entries)
    code, said = settle(hub, "drop", entries[0]["id"])
    assert (code, "was applied before" in said) == (5, True), said


def test_ids_may_be_shortened_but_must_be_clear(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    assert settle(hub, "retry", "01")[0] == 1
    first, second = (join(launch, hub, name, "default") for name in ("web-1", "web-2"))
    assert send(GrpcDoor, first, *(Call(n, f"id-{n}", input_tokens=10) for n in range(2)))[0].word == "kept"
    until(lambda: summed(hub)[0] == 2, "the first to arrive")
    assert send(GrpcDoor, second, Call(10, "id-0", input_tokens=20))[0].word == "kept"
    until(lambda: len(listed(hub)) == 1, "one to be set aside", 30)
    assert send(GrpcDoor, second, Call(11, "id-1", input_tokens=20))[0].word == "kept"
    until(lambda: len(listed(hub)) == 2, "another to be set aside", 30)
    code, said = settle(hub, "drop", "0")
    assert (code, "several in quarantine" in said) == (2, True), said
    newest, oldest = listed(hub)
    assert newest["at"] >= oldest["at"]
    assert settle(hub, "drop", newest["id"][:-1])[0] == 0
    assert [entry["id"] for entry in listed(hub)] == [oldest["id"]]
    table = costd("quarantine", "list", "--all", "--data-dir", str(hub.data_dir)).stdout
    assert "dropped" in table
    assert "was used for another record at another source" in table


def test_many_that_are_set_aside_between_others_are_counted_alone(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    hub = HubNode(tmp_path / "hub", clock)
    first, second = (SourceNode(tmp_path / name, clock, name) for name in ("a", "b"))
    for number in range(20):
        first.record(f"id-{number}", cost=1)
    first.forward(hub)
    for number in range(20):
        second.record(f"id-{number}", cost=100)
        second.record(f"other-{number}", cost=5)
    second.forward(hub)
    assert hub.total() == (40, 20 * 1 + 20 * 5)
    for end in (hub, second):
        rows = end.query("SELECT sum(records), sum(cost_nano) FROM quarantine WHERE state = 'held'")
        assert rows == [(20, 2_000)]
    for (id_,) in hub.query("SELECT id FROM quarantine"):
        hub.hub.drop(id_)
    gone = [span for (text,) in hub.query("SELECT uncounted FROM quarantine") for span in json.loads(text)]
    assert sum(last - first_ + 1 for first_, last in gone) == 20
    assert hub.query("SELECT DISTINCT state, content FROM quarantine") == [("dropped", None)]
    for node in (first, second, hub):
        node.close()


def test_what_was_dropped_before_its_source_heard_of_it_is_told_after_that(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    hub = HubNode(tmp_path / "hub", clock)
    first, second = (SourceNode(tmp_path / name, clock, name) for name in ("a", "b"))
    first.record("twice", cost=1)
    first.forward(hub)
    second.record("twice", cost=2)
    second.forward(hub, heard=lambda: False)
    [(id_,)] = hub.query("SELECT id FROM quarantine")
    hub.hub.drop(id_)
    [(version,)] = hub.query("SELECT version FROM quarantine")
    assert second.query("SELECT count(*) FROM quarantine") == [(0,)]
    second.forward(hub)
    assert second.query("SELECT id, state FROM quarantine") == [(id_, "held")]
    assert hub.query("SELECT version > ? FROM quarantine", version) == [(1,)]
    for node in (first, second, hub):
        node.close()
