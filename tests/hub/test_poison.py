"""Poison: what a hub's database refuses is set aside, shown at both ends, and settled by the word of either operator.

The hub's database is made to refuse a record by a trigger; taking the trigger away mends it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import harness
from callers import BatchDoor, Call, send
from fleet import Fleet, Sidecar, agree, fleet, jobs, query, said, spent_requests, totals
from harness import until

POISON_NANO = 666_000_000_000
POISON = (
    f"CREATE TRIGGER poison BEFORE INSERT ON event WHEN NEW.cost_nano = {POISON_NANO} "
    "BEGIN SELECT RAISE(ABORT, 'this database cannot take it'); END"
)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with one sidecar."""
    with fleet(tmp_path, "web-1") as running:
        yield running


@pytest.fixture
def poisoned(one: Fleet) -> Fleet:
    """Ten records arrived, ten were set aside for one of them, ten came after."""
    (web,) = one.sidecars
    record(web, *range(10))
    one.drain()
    execute(one.data_dir, POISON)
    record(web, *range(10, 20), poison=15)
    one.drain()
    record(web, *range(20, 30))
    one.drain()
    return one


def record(web: Sidecar, *numbers: int, poison: int | None = None) -> None:
    """Calls in one request, so that they are forwarded together."""
    calls = [Call(n, f"call-{n}", cost_nano=POISON_NANO if n == poison else None) for n in numbers]
    assert {outcome.word for outcome in send(BatchDoor, web.running, *calls)} == {"kept"}


def execute(data_dir: Path, sql: str) -> None:
    """Change a ledger past its daemon."""
    with closing(sqlite3.connect(data_dir / "costd.db", timeout=30)) as connection, connection:
        connection.execute(sql)


def listed(data_dir: Path, *options: str) -> list[dict[str, Any]]:
    """What `costd quarantine list` says."""
    return list(said("quarantine", "list", *options, data_dir=data_dir)["entries"])


def settle(data_dir: Path, action: str, which: str) -> int:
    """`costd quarantine retry` or `drop`; its exit status."""
    return harness.costd("quarantine", action, which, "--data-dir", str(data_dir)).returncode


def test_what_the_database_refuses_is_set_aside_shown_at_both_ends_and_the_rest_moves_on(poisoned: Fleet) -> None:
    (web,) = poisoned.sidecars
    assert jobs(poisoned.data_dir).found == dict.fromkeys([*range(15), *range(16, 30)], 1)
    there, here = listed(poisoned.data_dir), listed(web.data_dir)
    assert len(there) == len(here) == 1
    for name in ("id", "records", "cost_usd", "state", "reason"):
        assert there[0][name] == here[0][name]
    assert there[0]["source"] == "web-1"
    assert there[0]["records"] == 1
    assert Decimal(str(there[0]["cost_usd"])) == Decimal(POISON_NANO) / 10**9
    assert there[0]["state"] == "held"
    source = poisoned.sources()["web-1"]
    assert (source["quarantined"], source["lag_records"], source["state"]) == (1, 0, "connected")
    assert web.status()["hub"]["quarantined"] == 1
    assert spent_requests(web.data_dir) == 30, "the sidecar counts it until it is dropped"


@pytest.mark.parametrize("end", ["hub", "web-1"])
def test_a_retry_that_is_refused_again_changes_nothing_and_one_that_works_makes_both_agree(
    poisoned: Fleet, end: str
) -> None:
    (web,) = poisoned.sidecars
    folder = poisoned.folder / end
    (entry,) = listed(poisoned.data_dir)
    assert (settle(folder, "retry", entry["id"]) == 0) == (end == "web-1"), "a sidecar can only ask"
    until(lambda: [each["ordered"] for each in listed(web.data_dir)] in ([""], [None]), "an answer of the hub's", 30)
    assert [each["state"] for each in listed(poisoned.data_dir)] == ["held"]
    assert 15 not in jobs(poisoned.data_dir).found
    execute(poisoned.data_dir, "DROP TRIGGER poison")
    assert settle(folder, "retry", entry["id"]) == 0
    until(lambda: not listed(web.data_dir), "the source to hear of it", 30)
    assert listed(poisoned.data_dir) == []
    assert [each["state"] for each in listed(web.data_dir, "--all")] == ["applied"]
    agree(poisoned.data_dir, web.data_dir)
    assert jobs(poisoned.data_dir).found == dict.fromkeys(range(30), 1)
    ended_well(poisoned)


@pytest.mark.parametrize("end", ["hub", "web-1"])
def test_what_is_dropped_counts_at_neither_end(poisoned: Fleet, end: str) -> None:
    (web,) = poisoned.sidecars
    (entry,) = listed(poisoned.data_dir)
    assert settle(poisoned.folder / end, "drop", entry["id"][:18]) == 0
    until(lambda: not listed(web.data_dir), "the source to hear of it", 30)
    poisoned.drain()
    assert listed(poisoned.data_dir) == []
    for data_dir in (poisoned.data_dir, web.data_dir):
        assert [each["state"] for each in listed(data_dir, "--all")] == ["dropped"]
    assert totals(poisoned.data_dir) == totals(web.data_dir)
    assert spent_requests(web.data_dir) == 29
    assert settle(poisoned.folder / end, "retry", entry["id"]) != 0
    record(web, 40)
    poisoned.drain()
    assert totals(poisoned.data_dir) == totals(web.data_dir)
    ended_well(poisoned)


def ended_well(running: Fleet) -> None:
    """Everything stops, and both ledgers are sound."""
    running.sidecars[0].stop()
    running.stop_hub(kill=False)
    running.check()


def test_a_request_id_with_other_content_at_another_sidecar_is_set_aside_with_its_amount(tmp_path: Path) -> None:
    with fleet(tmp_path, "web-1", "web-2") as running:
        first, second = running.sidecars
        record(first, 0, 1, 2)
        running.drain()
        others = [Call(n, f"call-{n}", input_tokens=99, cost_nano=5_000_000_000) for n in range(3)]
        assert {outcome.word for outcome in send(BatchDoor, second.running, *others, Call(9))} == {"kept"}
        running.drain()
        assert spent_requests(running.data_dir) == 4
        for data_dir in (running.data_dir, second.data_dir):
            entries = listed(data_dir)
            assert sum(entry["records"] for entry in entries) == 3
            assert sum(Decimal(str(entry["cost_usd"])) for entry in entries) == 15
            assert all("request id" in entry["reason"] for entry in entries)
        assert running.sources()["web-2"]["quarantined"] == 3
        assert second.status()["hub"]["quarantined"] == 3
        assert first.status()["hub"]["quarantined"] == 0
        for entry in listed(running.data_dir):
            assert settle(running.data_dir, "retry", entry["id"]) != 0, "it is refused again"
            assert settle(running.data_dir, "drop", entry["id"]) == 0
        until(lambda: not listed(second.data_dir), "the source to hear of it", 30)
        running.drain()
        assert totals(running.data_dir) == totals(first.data_dir, second.data_dir)


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_what_lies_beside_a_poisoned_record_in_its_batch_does_not_share_its_fate(one: Fleet, action: str) -> None:
    (web,) = one.sidecars
    record(web, *range(5))
    one.drain()
    execute(one.data_dir, POISON)
    web.proxy.refuse()  # so that all of it is forwarded together
    record(web, *range(5, 10), poison=7)
    cost = {"type": "cost", "service": "OpenAI", "data": {"amount": 12, "month": 5, "year": 2026}}
    user = {"external_id": "ada", "source_app": "tests", "full_name": "Ada Lovelace"}
    for path, body in (("/api/ingest", cost), ("/v1/users/upsert", user)):
        assert web.running.client.post(path, json=body).status_code == 200
    voided = harness.costd("void", "call-2", "--reason", "a test", "--data-dir", str(web.data_dir))
    assert voided.returncode == 0, voided
    web.proxy.heal()
    one.drain()
    assert jobs(one.data_dir).found == dict.fromkeys([0, 1, 3, 4, 5, 6, 8, 9], 1)
    execute(one.data_dir, "DROP TRIGGER poison")
    record(web, *range(10, 15))
    one.drain()
    for entry in listed(one.data_dir):
        assert settle(one.data_dir, action, entry["id"]) == 0
    until(lambda: not listed(web.data_dir), "the source to hear of it", 30)
    one.drain()
    names = "SELECT external_id, full_name FROM catalog_user WHERE full_name IS NOT NULL"
    assert query(one.data_dir, names) == [("ada", "Ada Lovelace")]
    if action == "retry":
        agree(one.data_dir, web.data_dir)
        assert jobs(one.data_dir).found == dict.fromkeys([0, 1, *range(3, 15)], 1)
    assert totals(one.data_dir) == totals(web.data_dir)
    entries = "SELECT id, cost_nano FROM month_entry"
    assert query(one.data_dir, entries) == query(web.data_dir, entries)
    ended_well(one)
