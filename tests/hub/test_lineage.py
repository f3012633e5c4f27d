"""Ledgers that go back in time or are there twice: it is noticed, said, and nothing is lost or counted twice.

Sidecars and hubs are restored from backups and cloned as operators do it, with real daemons.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import harness
from callers import BatchDoor, Call, send
from fleet import Fleet, Sidecar, agree, drained, event_ids, fleet, jobs, log_of, query, taken_back
from harness import until

PRICE = Call(0).expected_nano


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with one sidecar."""
    with fleet(tmp_path, "web-1") as running:
        yield running


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with two sidecars."""
    with fleet(tmp_path, "web-1", "web-2") as running:
        yield running


def record(sidecar: Sidecar, first: int, last: int) -> None:
    """Calls of these numbers, each with an id."""
    outcomes = send(BatchDoor, sidecar.running, *(Call(n, f"call-{n}") for n in range(first, last + 1)))
    assert {outcome.word for outcome in outcomes} == {"kept"}, outcomes


def back_up(data_dir: Path, to: Path) -> Path:
    """Copy a ledger while its daemon runs."""
    done = harness.costd("backup", str(to), "--data-dir", str(data_dir))
    assert done.returncode == 0, done
    return to


def restore(data_dir: Path, backup: Path) -> None:
    """Put the copy in the ledger's place; no daemon may run."""
    done = harness.costd("restore", str(backup), "--yes", "--data-dir", str(data_dir))
    assert done.returncode == 0, done


def holds(running: Fleet, first: int, last: int) -> None:
    """The hub must hold the calls of these numbers, once each, and no others."""
    held = jobs(running.data_dir)
    assert held.found == dict.fromkeys(range(first, last + 1), 1)
    assert set(held.costs.values()) == {PRICE}
    ids = event_ids(running.data_dir)
    assert len(set(ids)) == len(ids)


def seals(data_dir: Path) -> set[bytes]:
    """The seals of a sidecar's ranges that are not acknowledged."""
    return {seal for (seal,) in query(data_dir, "SELECT seal FROM forward_seal WHERE content IS NOT NULL")}


def epochs(data_dir: Path) -> list[bytes]:
    """The epochs of a sidecar, the oldest first."""
    return [epoch for (epoch,) in query(data_dir, "SELECT epoch FROM forward_epoch ORDER BY number")]


def test_a_sidecar_restored_from_an_old_copy_begins_a_new_epoch_and_nothing_is_doubled_or_lost(
    one: Fleet, tmp_path: Path
) -> None:
    (web,) = one.sidecars
    record(web, 1, 40)
    one.drain()
    backup = back_up(web.data_dir, tmp_path / "web-1.db")
    record(web, 41, 80)
    one.drain()
    web.stop()
    restore(web.data_dir, backup)
    web.start()
    record(web, 81, 100)
    record(web, 61, 80)  # retried by callers: this ledger has forgotten them, the hub has not
    one.drain()
    holds(one, 1, 100)
    assert set(event_ids(web.data_dir)) - taken_back(web.data_dir) <= set(event_ids(one.data_dir))
    assert len(taken_back(web.data_dir)) == 20
    assert len(epochs(web.data_dir)) == 2
    assert "restored from a backup or cloned" in web.log
    listed = one.sources()["web-1"]
    assert (listed["epochs"], listed["duplicates"], listed["lost"]) == (2, 20, 0)
    assert "restored" in listed["problem"]
    assert web.status()["hub"]["state"] == "connected"
    web.stop()
    one.stop_hub(kill=False)
    one.check()


def test_a_sidecar_restored_while_its_hub_is_away_sends_what_the_copy_had_not_sent(one: Fleet, tmp_path: Path) -> None:
    (web,) = one.sidecars
    record(web, 1, 10)
    one.drain()
    web.proxy.refuse()
    record(web, 11, 30)
    month = {"type": "cost", "service": "OpenAI", "data": {"amount": 12, "month": 5, "year": 2026}}
    answer = web.running.client.post("/api/ingest", json=month, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 200
    backup = back_up(web.data_dir, tmp_path / "web-1.db")
    web.proxy.heal()
    record(web, 31, 40)
    one.drain()
    web.stop()
    restore(web.data_dir, backup)
    web.start()
    record(web, 41, 50)
    one.drain()
    holds(one, 1, 50)
    for data_dir in (one.data_dir, web.data_dir):
        assert query(data_dir, "SELECT cost_nano FROM month_entry") == [(12_000_000_000,)], "sent twice, and kept"


@pytest.mark.parametrize("waiting", [False, True], ids=["all-forwarded", "records-waiting"])
def test_a_cloned_sidecar_is_told_apart_and_both_are_counted_once(one: Fleet, tmp_path: Path, *, waiting: bool) -> None:
    (web,) = one.sidecars
    record(web, 1, 20)
    one.drain()
    if waiting:
        web.proxy.refuse()
        record(web, 21, 40)
    else:
        record(web, 21, 40)
        one.drain()
    web.stop()
    shutil.copytree(web.data_dir, tmp_path / "clone")
    clone = Sidecar("clone", tmp_path / "clone", web.key, one.hub.grpc)
    one.sidecars.append(clone)
    web.proxy.heal()
    web.start()
    clone.start()
    record(web, 41, 60)
    record(clone, 61, 80)
    one.drain()
    record(web, 81, 90)
    record(clone, 91, 100)
    record(clone, 85, 90)  # sent to both by their callers
    one.drain()
    until(lambda: epochs(web.data_dir)[-1] != epochs(clone.data_dir)[-1], "two epochs")
    one.drain()
    holds(one, 1, 100)
    until(lambda: "cloned" in (one.sources()["web-1"]["problem"] or ""), "the clone to be shown")
    assert "cloned" in web.log + clone.log
    assert "cloned" in one.hub.log
    clone.stop()
    record(web, 101, 110)
    drained(web.running)
    holds(one, 1, 110)
    web.stop()
    one.stop_hub(kill=False)
    one.check()


def test_ranges_that_were_sealed_before_the_power_went_are_sent_as_they_were_sealed(one: Fleet) -> None:
    (web,) = one.sidecars
    record(web, 1, 10)
    one.drain()
    web.proxy.blackhole()
    record(web, 11, 20)
    until(lambda: seals(web.data_dir), "a range to be sealed")
    record(web, 21, 30)
    until(lambda: len(seals(web.data_dir)) > 1, "the next to be sealed")
    sealed = seals(web.data_dir)
    for _ in range(2):
        web.kill()
        web.start()
        assert seals(web.data_dir) == sealed, "a sealed range is never cut again"
    record(web, 31, 40)
    web.proxy.heal()
    one.drain()
    holds(one, 1, 40)
    taken = {seal for (seal,) in query(one.data_dir, "SELECT seal FROM source_seal")}
    assert sealed <= taken
    assert len(epochs(web.data_dir)) == 1


def test_a_hub_restored_from_an_old_copy_gets_everything_again(two: Fleet, tmp_path: Path) -> None:
    first, second = two.sidecars
    record(first, 1, 20)
    record(second, 21, 40)
    two.drain()
    backup = back_up(two.data_dir, tmp_path / "hub.db")
    record(first, 41, 60)
    record(second, 61, 70)
    record(second, 41, 45)  # the first had brought them: they are taken back at the second
    two.drain()
    before = query(two.data_dir, "SELECT epoch FROM hub_state")
    two.stop_hub(kill=False)
    restore(two.data_dir, backup)
    two.start_hub()
    for each in (first, second):  # their own watermarks say that all is well until they have met the hub again
        until(lambda each=each: len(epochs(each.data_dir)) == 2, f"{each.name} to have noticed")
    record(first, 71, 80)
    two.drain()
    holds(two, 1, 80)
    agree(two.data_dir, first.data_dir, second.data_dir)
    assert query(two.data_dir, "SELECT epoch FROM hub_state") != before
    for each in (first, second):
        assert "restored" in each.log
        assert each.status()["hub"]["lost"] == 0
    assert {source["lost"] for source in two.sources().values()} == {0}
    for each in (first, second):
        each.stop()
    two.stop_hub(kill=False)
    two.check()


def prune(data_dir: Path, through_job: int) -> None:
    """Delete what retention would: whole commits up to the one with this call, as if they were old."""
    with closing(sqlite3.connect(data_dir / "costd.db", timeout=30)) as connection, connection:
        (through,) = connection.execute(
            "SELECT c.first_seq + c.items - 1 FROM event e JOIN ledger_commit c ON e.seq BETWEEN c.first_seq AND "
            "c.first_seq + c.items - 1 WHERE json_extract(e.extra, '$.job') = ?",
            (f"n{through_job}",),
        ).fetchone()
        for table in ("event", "request", "record_batch", "adjustment"):
            connection.execute(f"DELETE FROM {table} WHERE seq <= ?", (through,))
        connection.execute("DELETE FROM ledger_commit WHERE first_seq <= ?", (through,))
        connection.execute("UPDATE ledger_state SET complete_from_hour = 10000000")


def test_what_a_restored_hub_lacks_and_a_source_has_pruned_is_shown_as_lost_by_both(one: Fleet, tmp_path: Path) -> None:
    (web,) = one.sidecars
    record(web, 1, 20)
    one.drain()
    backup = back_up(one.data_dir, tmp_path / "hub.db")
    record(web, 21, 40)
    one.drain()
    record(web, 41, 60)
    one.drain()
    web.stop()
    one.stop_hub(kill=False)
    prune(web.data_dir, 40)
    restore(one.data_dir, backup)
    one.start_hub()
    web.start()
    record(web, 61, 70)
    one.drain()
    held = jobs(one.data_dir).found
    assert held == dict.fromkeys([*range(1, 21), *range(41, 71)], 1)
    lost = one.sources()["web-1"]["lost"]
    assert lost >= 20
    assert web.status()["hub"]["lost"] == lost
    for log in (web.log, log_of(one.data_dir)):
        assert "lost" in log
    record(web, 71, 80)
    one.drain()
    assert one.sources()["web-1"]["lost"] == lost


def test_a_hub_and_a_sidecar_that_were_both_restored_agree_on_what_either_still_has(one: Fleet, tmp_path: Path) -> None:
    (web,) = one.sidecars
    record(web, 1, 20)
    one.drain()
    old_hub = back_up(one.data_dir, tmp_path / "hub.db")
    record(web, 21, 40)
    one.drain()
    old_web = back_up(web.data_dir, tmp_path / "web-1.db")
    record(web, 41, 50)
    one.drain()
    web.stop()
    restore(web.data_dir, old_web)
    web.start()  # begins a new epoch, of which the hub hears before it goes back itself
    until(lambda: len(epochs(web.data_dir)) == 2, "the new epoch")
    one.drain()
    one.stop_hub(kill=False)
    restore(one.data_dir, old_hub)
    one.start_hub()
    record(web, 51, 60)
    one.drain()
    held = jobs(one.data_dir).found
    assert held == dict.fromkeys([*range(1, 41), *range(51, 61)], 1), "21 to 40 are still at the sidecar"
    agree(one.data_dir, web.data_dir)
