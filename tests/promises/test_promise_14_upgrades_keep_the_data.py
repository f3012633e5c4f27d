"""Promise 14: what a released version has written is there, and counts, whatever version comes after it.

Ledgers of each release are kept beside the tests with what that release said of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.write_released_ledger import batch

import harness
from callers import BatchDoor, Call, ColumnsDoor, GrpcDoor, HttpDoor, StreamDoor, send, stubs
from costd.store.migrate import migrations
from fleet import Fleet, agree, fleet, query
from harness import Daemon
from released import KEEP_ALL, VERSIONS, Released, agrees, without


@pytest.fixture(scope="module", params=VERSIONS)
def released(request: pytest.FixtureRequest) -> Released:
    """A ledger of each release."""
    return Released(request.param)


@pytest.fixture(scope="module")
def upgraded(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The present daemon on it."""
    running = harness.start(released.unpack(tmp_path_factory.mktemp("released") / "data"), *KEEP_ALL)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, running.log


def say(daemon: Daemon, *words: str) -> Any:
    """What a command prints of it."""
    said = harness.costd(*words, "--data-dir", str(daemon.data_dir), "--json")
    assert said.returncode == 0, (words, said)
    return json.loads(said.stdout)


def test_promise_14_a_released_ledger_is_brought_up_to_date_and_is_sound(released: Released, upgraded: Daemon) -> None:
    versions = [version for (version,) in upgraded.query("SELECT version FROM schema_migration ORDER BY version")]
    assert released.expected["schema"] <= versions[-1] == migrations()[-1].version
    checked = harness.costd("check", "--data-dir", str(upgraded.data_dir), "--json")
    assert checked.returncode == 0, checked
    assert json.loads(checked.stdout)["events"] == released.expected["counts"]["event"]
    for table, count in released.expected["counts"].items():
        assert upgraded.query(f"SELECT count(*) FROM {table}") == [(count,)], table
    assert "ERROR" not in upgraded.log


def test_promise_14_reports_say_what_they_said_before(released: Released, upgraded: Daemon) -> None:
    for names, expected in released.expected["reports"].items():
        assert agrees(say(upgraded, "report", "--since", "all", "--by", names), expected), names
    days = say(upgraded, "report", "--since", "all", "--by", "model", "--bucket", "day")
    assert agrees(days, released.expected["days"])
    for month, expected in zip((10, 11), released.expected["months"], strict=True):
        answer = upgraded.client.get(f"/api/costs/all?year=2026&month={month}").json()
        assert agrees(answer["data"]["entries"], expected)


def test_promise_14_single_things_are_what_they_were(released: Released, upgraded: Daemon) -> None:
    for request_id, expected in released.expected["shown"].items():
        assert agrees(say(upgraded, "show", request_id), expected), request_id
    for kind, expected in released.expected["lists"].items():
        assert agrees(say(upgraded, kind, "list")[kind], without(expected, "last_used")), kind
    assert agrees(say(upgraded, "prices", "list", "--removed"), released.expected["prices"])


def test_promise_14_keys_go_on_working_and_revoked_ones_do_not(released: Released, upgraded: Daemon) -> None:
    secrets = released.expected["secrets"]
    assert send(HttpDoor, upgraded, released.calls[0], key=secrets["checkout"])[0].status != "401"
    for door, refusal in ((HttpDoor, "401"), (GrpcDoor, "UNAUTHENTICATED")):
        assert send(door, upgraded, Call(1), key=secrets["revoked"])[0].status == refusal


def test_promise_14_what_was_done_before_is_in_the_audit_trail(released: Released, upgraded: Daemon) -> None:
    items = upgraded.client.get("/api/audit-logs?limit=100").json()["items"]
    told = [(item["action"], json.loads(item["metadata"])["name"]) for item in items if "api_key." in item["action"]]
    assert told[-1] == ("api_key.created", "admin")
    assert ("api_key.revoked", "revoked") in told
    profile = upgraded.client.get("/api/profile").json()
    assert profile["updated_at"] == profile["created_at"]


@pytest.mark.parametrize("door", [GrpcDoor, HttpDoor, BatchDoor, ColumnsDoor, StreamDoor], ids=lambda door: door.name)
def test_promise_14_a_retry_across_an_upgrade_is_a_duplicate(released: Released, upgraded: Daemon, door: Any) -> None:
    before = upgraded.query("SELECT count(*) FROM event")
    outcomes = send(door, upgraded, *released.calls)
    assert all(outcome.word == "kept" and outcome.duplicate for outcome in outcomes), outcomes
    other = [call._replace(input_tokens=call.input_tokens + 1) for call in released.calls]
    assert {outcome.word for outcome in send(door, upgraded, *other)} == {"refused"}
    assert upgraded.query("SELECT count(*) FROM event") == before


def test_promise_14_the_retry_of_a_batch_across_an_upgrade_is_recognised_whole(
    released: Released, upgraded: Daemon
) -> None:
    with stubs(upgraded) as services:
        for place, batch_id in enumerate(released.expected["batch_ids"]):
            answer = services.usage.RecordBatch(batch(batch_id, place), metadata=services.metadata, timeout=30)
            assert answer.duplicate
            assert answer.accepted == 20


def test_promise_14_new_records_go_in_and_an_upgraded_ledger_starts_again(released: Released, tmp_path: Path) -> None:
    data_dir = released.unpack(tmp_path / "data")
    for start in range(2):
        daemon = harness.start(data_dir, *KEEP_ALL)
        for place, door in enumerate((GrpcDoor, HttpDoor, BatchDoor, ColumnsDoor, StreamDoor)):
            number = 90_000 + start * 10 + place
            assert send(door, daemon, Call(number, f"new-{number}"))[0].word == "kept"
        held = daemon.query("SELECT count(*) FROM event")[0][0]
        assert held == released.expected["counts"]["event"] + (start + 1) * 5
        assert daemon.stop() == 0, daemon.log
        assert harness.costd("check", "--data-dir", str(data_dir)).returncode == 0


@pytest.fixture
def joined(released: Released, tmp_path: Path) -> Iterator[Fleet]:
    """A hub, and a ledger of a release whose daemon has joined it."""
    with fleet(tmp_path, flags=KEEP_ALL) as running:
        released.unpack(tmp_path / "web-1")
        running.add("web-1", *KEEP_ALL)
        running.drain()
        yield running


CATALOG = {
    "catalog_user": "source_app, external_id, email, full_name, team_id",
    "catalog_project": "source_app, external_id, name, workspace_id, team_id, registered",
    "catalog_team": "team_id, name, workspace_id",
    "catalog_workspace": "workspace_id, name",
}


def test_promise_14_a_released_ledger_joins_a_hub_with_everything_it_holds(released: Released, joined: Fleet) -> None:
    (web,) = joined.sidecars
    counts = released.expected["counts"]
    agree(joined.data_dir, web.data_dir)
    for table in ("event", "request", "record_batch", "month_entry", "adjustment"):
        assert query(joined.data_dir, f"SELECT count(*) FROM {table}") == [(counts[table],)], table
    for table, columns in CATALOG.items():
        there = query(web.data_dir, f"SELECT {columns} FROM {table} ORDER BY 1, 2")
        assert there
        assert query(joined.data_dir, f"SELECT {columns} FROM {table} ORDER BY 1, 2") == there, table
    kinds = "SELECT kind, count(*), sum(cost_nano) FROM adjustment GROUP BY 1 ORDER BY 1"
    assert query(joined.data_dir, kinds) == query(web.data_dir, kinds)
    for names, expected in released.expected["reports"].items():
        assert agrees(say(joined.hub, "report", "--since", "all", "--by", names), expected), names
    for request_id, expected in released.expected["shown"].items():
        wanted = without(expected, "received", "price_version")
        assert agrees(say(joined.hub, "show", request_id), wanted), request_id
    web.stop()
    joined.stop_hub(kill=False)
    joined.check()


def test_promise_14_a_retry_across_the_upgrade_and_the_joining_is_a_duplicate_at_both_ends(
    released: Released, joined: Fleet
) -> None:
    (web,) = joined.sidecars
    for daemon in (web.running, joined.hub):
        outcomes = send(BatchDoor, daemon, *released.calls)
        assert all(outcome.word == "kept" and outcome.duplicate for outcome in outcomes), outcomes
    for door in (GrpcDoor, HttpDoor, BatchDoor, ColumnsDoor, StreamDoor):
        assert send(door, web.running, Call(95_000, f"new-{door.name}"))[0].word == "kept"
    joined.drain()
    agree(joined.data_dir, web.data_dir)
    assert query(joined.data_dir, "SELECT count(*) FROM event")[0][0] == released.expected["counts"]["event"] + 5
