"""What is recorded is charged to the windows it falls under, once, in the transaction that keeps it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from charging import Charging, keep
from costd.clock import ManualClock
from costd.domain.budget import Budget
from costd.domain.errors import Conflict, Unavailable
from costd.domain.ids import uuid_text
from costd.domain.money import MAX_RECORD_NANO, MOST_NANO
from costd.domain.window import TOTAL
from costd.store.batches import INVALID, ColumnBatch, RefusedRecord
from costd.store.commit import Change, Commit
from costd.store.corrections import void_event
from costd.store.requests import stored_request_id
from costd.store.writer import Writer
from ledger import DAY_MS, HOUR_MS, NOW_MS, draft, record, series, writing

DAY = NOW_MS - NOW_MS % DAY_MS
EVERYTHING = Budget("b", 1, "everything", (("org", "default"),), 1_000, period="day")


@contextmanager
def charging(folder: Path, *budgets: Budget, clock: ManualClock | None = None) -> Iterator[tuple[Writer, Charging]]:
    """A writer that charges these budgets."""
    with writing(folder, clock) as writer:
        keep(writer, *budgets)
        writer.budgeting = books = Charging(*budgets)
        yield writer, books


def windows(writer: Writer) -> list[tuple[Any, ...]]:
    """(budget, value, start, settled, credited) of every window there is."""
    with closing(sqlite3.connect(writer.path)) as connection:
        return connection.execute(
            "SELECT budget_id, value, start_ms, settled_nano, credited_nano FROM budget_window ORDER BY 1, 2, 3"
        ).fetchall()


def columns(*costs: int | None, **fields: Any) -> ColumnBatch:
    """A batch of records of one series, which cost so much."""
    many = len(costs)
    plain: dict[str, Any] = {
        "org_id": 1,
        "batch_id": "",
        "fingerprint": b"",
        "sent": many,
        "series": [series()],
        "positions": range(many),
        "place": [0] * many,
        "at_ms": [NOW_MS] * many,
        "counts": ([1] * many,) * 5,
        "cost_nano": costs,
        "source_id": [None] * many,
        "latency_ms": [None] * many,
        "extra": [None] * many,
        "unrated": frozenset(),
        "rare": {},
        "request_ids": None,
        "fingerprints": None,
        "refused": (),
        "door": "test",
    }
    return ColumnBatch(**(plain | fields))


def void(writer: Writer, wanted: str) -> None:
    """Take a record back."""
    change = Change(lambda commit: void_event(commit, 1, wanted, "wrong", "tester"))
    assert writer.submit(change).wait(20) is not None


def test_a_record_is_charged_once_however_often_it_comes(tmp_path: Path) -> None:
    with charging(tmp_path, EVERYTHING) as (writer, books):
        one = draft(cost_nano=5, request_id="a", fingerprint=b"1")
        record(writer, one, one)
        record(writer, one, draft(cost_nano=7))
        with pytest.raises(Conflict):
            record(writer, one._replace(fingerprint=b"2", cost_nano=11))
        assert windows(writer) == [("b", "", DAY, 12, 0)]
        assert list(books.held.values()) == [(12, 0)]
        assert books.named == [(1, "a"), (1, "a"), (1, "a")]


def test_a_batch_is_charged_once_by_the_quarters_of_its_records(tmp_path: Path) -> None:
    kathmandu = Budget("k", 1, "kathmandu", (("model", "gpt-4o"),), 1_000, period="day", timezone="Asia/Kathmandu")
    midnight = DAY + 18 * HOUR_MS + HOUR_MS // 4
    at_ms = [midnight - 1, midnight, midnight + 1, midnight + HOUR_MS]
    with charging(tmp_path, EVERYTHING, kathmandu) as (writer, _):
        batch = columns(1, 20, None, 300, at_ms=at_ms, batch_id="once", fingerprint=b"f")
        for _ in range(2):
            writer.submit_batch(batch, lambda stored: stored).wait(20)
        writer.submit_batch(columns(4_000, at_ms=[midnight - 1]), lambda stored: stored).wait(20)
        assert windows(writer) == [
            ("b", "", DAY, 4_321, 0),
            ("k", "", midnight - DAY_MS, 4_001, 0),
            ("k", "", midnight, 320, 0),
        ]


def test_records_of_a_batch_are_named_once_they_are_held(tmp_path: Path) -> None:
    ids = [stored_request_id(each) for each in (uuid_text(1 << 100), "b", "b", "")]
    with charging(tmp_path, EVERYTHING) as (writer, books):
        record(writer, draft(cost_nano=1, request_id="b", fingerprint=b"2"))
        batch = columns(
            *(1, 2, 2, 4),
            sent=6,
            request_ids=ids,
            fingerprints=[b"1", b"2", b"other", b""],
            refused=[
                RefusedRecord(4, INVALID, "model", "is missing", "b", b"2"),
                RefusedRecord(5, INVALID, "model", "is missing", "never", b"3"),
            ],
            batch_id="x",
        )
        books.named.clear()
        for _ in range(2):
            writer.submit_batch(batch, lambda stored: stored).wait(20)
            assert sorted(books.named, key=str) == sorted([(1, ids[0]), (1, "b")], key=str)
            books.named.clear()
        assert windows(writer) == [("b", "", DAY, 1 + 1 + 4, 0)]


def test_a_window_is_that_of_the_reservation(tmp_path: Path) -> None:
    with charging(tmp_path, EVERYTHING) as (writer, _):
        record(writer, draft(cost_nano=1, at_ms=DAY, charged_ms=DAY - 1), draft(cost_nano=20, at_ms=DAY))
        batch = columns(300, 4_000, at_ms=[DAY, DAY], charged_ms=[None, DAY - 1])
        writer.submit_batch(batch, lambda stored: stored).wait(20)
        assert windows(writer) == [("b", "", DAY - DAY_MS, 4_001, 0), ("b", "", DAY, 320, 0)]
        with closing(sqlite3.connect(writer.path)) as connection:
            held = connection.execute("SELECT cost_nano, charged_ms FROM event ORDER BY cost_nano").fetchall()
        assert held == [(1, DAY - 1), (20, None), (300, None), (4_000, DAY - 1)]


def test_a_correction_is_credited_while_the_window_is_open_and_at_the_time_of_the_reservation(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with charging(tmp_path, EVERYTHING, clock=clock) as (writer, books):
        record(
            writer,
            draft(cost_nano=5, request_id="open", at_ms=DAY + DAY_MS, charged_ms=NOW_MS),
            draft(cost_nano=7, request_id="over", at_ms=DAY - 1),
            draft(cost_nano=11),
        )
        void(writer, "open")
        void(writer, "over")
        void(writer, "open")
        assert windows(writer) == [("b", "", DAY - DAY_MS, 7, 0), ("b", "", DAY, 16, 5)]
        assert sorted(books.held.values()) == [(7, 0), (16, 5)]
        clock.advance(DAY_MS / 1000)
        with pytest.raises(AssertionError):
            void(writer, "unknown")
        assert windows(writer) == [("b", "", DAY - DAY_MS, 7, 0), ("b", "", DAY, 16, 5)]


def test_what_a_change_did_before_it_refused_is_charged_to_nobody(tmp_path: Path) -> None:
    def refuses(commit: Commit) -> None:
        commit.charge(1, NOW_MS, 1_000)
        commit.named.append((1, "never"))
        commit.at_end.append(lambda commit: commit.charge(1, NOW_MS, 1_000))
        raise Conflict("no")

    with charging(tmp_path, EVERYTHING) as (writer, books):
        record(writer, draft(cost_nano=5))
        with pytest.raises(Conflict):
            writer.submit(Change(refuses)).wait(20)
        assert windows(writer) == [("b", "", DAY, 5, 0)]
        assert books.named == []


def test_sums_stop_growing_before_they_overflow(tmp_path: Path) -> None:
    ever = EVERYTHING._replace(period=TOTAL)
    with charging(tmp_path, ever) as (writer, books):
        batch = columns(*[MAX_RECORD_NANO] * 10_000)
        for _ in range(2):
            writer.submit_batch(batch, lambda stored: stored).wait(20)
        assert windows(writer) == [("b", "", 0, MOST_NANO, 0)]
        assert list(books.held.values()) == [(MOST_NANO, 0)]


class Failing:
    """A connection that fails at COMMIT, after or instead of doing it."""

    def __init__(self, connection: sqlite3.Connection, *, takes_effect: bool) -> None:
        self._connection = connection
        self._takes_effect = takes_effect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *rest: Any) -> Any:
        """Run a statement."""
        if sql != "COMMIT":
            return self._connection.execute(sql, *rest)
        self._connection.execute("COMMIT" if self._takes_effect else "ROLLBACK")
        raise _failure()


def _failure() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    error.sqlite_errorname = "SQLITE_IOERR"
    return error


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_commit_that_fails_changes_nothing_in_memory(tmp_path: Path, takes_effect: bool) -> None:
    with charging(tmp_path, EVERYTHING) as (writer, books):
        record(writer, draft(cost_nano=5))
        writer._connection = Failing(writer._connection, takes_effect=takes_effect)  # type: ignore[assignment]
        if takes_effect:
            record(writer, draft(cost_nano=7, request_id="r"))
        else:
            with pytest.raises(Unavailable):
                record(writer, draft(cost_nano=7, request_id="r"))
        settled = 12 if takes_effect else 5
        assert list(books.held.values()) == [(settled, 0)]
        assert books.named == ([(1, "r")] if takes_effect else [])
        assert windows(writer) == [("b", "", DAY, settled, 0)]


def test_nothing_is_collected_where_there_is_no_budget(tmp_path: Path) -> None:
    collected = []
    with charging(tmp_path) as (writer, _):
        record(writer, draft(cost_nano=5, request_id="r"))
        writer.submit(Change(lambda commit: collected.append(commit.charges))).wait(20)
        assert (collected, windows(writer)) == ([None], [])
