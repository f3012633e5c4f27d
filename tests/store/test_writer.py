"""The writer against readers that stay and a disk that fails: the log stays bounded, and every answer is true."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import harness
from costd.clock import Clock
from costd.domain.errors import Overloaded, Unavailable
from costd.store import reader
from costd.store import writer as writing_
from costd.store.connection import DATABASE_NAME
from costd.store.integrity import check_ledger
from costd.store.reader import Readers
from costd.store.writer import Writer
from ledger import draft, record, submit, writing

BULKY = '{"job":"' + "j" * 2_000 + '"}'
RECURSE = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def count(folder: Path) -> int:
    """The events that are held."""
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        assert check_ledger(connection).ok
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


# -- readers -----------------------------------------------------------------------------------------------------------


def test_a_long_reader_holds_up_no_writer_and_keeps_its_moment(tmp_path: Path) -> None:
    with writing(tmp_path, Clock()) as writer:
        record(writer, draft())
        readers = Readers(tmp_path / DATABASE_NAME, Clock())
        with readers.snapshot() as snapshot:
            assert snapshot.execute("SELECT count(*) FROM event").fetchone() == (1,)
            started_s = time.monotonic()
            for _ in range(50):
                record(writer, draft())
            assert time.monotonic() - started_s < 5
            assert snapshot.execute("SELECT count(*) FROM event").fetchone() == (1,)
        with readers.snapshot() as snapshot:
            assert snapshot.execute("SELECT count(*) FROM event").fetchone() == (51,)
        readers.close()


def test_readers_who_always_overlap_cannot_make_the_log_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 << 20
    monkeypatch.setattr(writing_, "RESET_BYTES", limit)
    monkeypatch.setattr(writing_, "RESET_PAUSE_S", 0.0)
    with writing(tmp_path, Clock()) as writer:
        readers = Readers(tmp_path / DATABASE_NAME, Clock())
        done = threading.Event()
        inside = [0]

        def read() -> None:
            while not done.is_set():
                with readers.snapshot() as connection:
                    connection.execute("SELECT count(*) FROM event").fetchone()
                    inside[0] += 1
                    done.wait(0.02)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        largest = 0
        for _ in range(30):
            record(writer, *(draft(extra=BULKY) for _ in range(200)))
            largest = max(largest, writer.wal_bytes())
        done.set()
        for thread in threads:
            thread.join()
        readers.close()
        assert inside[0] > 20
        assert writer.path.stat().st_size > 7 * limit
        # The log is looked at after each commit, and one of these is about half the limit.
        assert largest < 4 * limit, f"{largest >> 10} KiB"


def test_a_reader_who_stays_for_long_does_not_hold_up_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup or a check of a large ledger: the log grows meanwhile, and is reset once it has left."""
    monkeypatch.setattr(writing_, "RESET_BYTES", 1 << 16)
    monkeypatch.setattr(writing_, "RESET_PAUSE_S", 0.0)
    with writing(tmp_path, Clock()) as writer:
        record(writer, draft())
        readers = Readers(tmp_path / DATABASE_NAME, Clock())
        with readers.snapshot(unbounded=True) as snapshot:
            assert snapshot.execute("SELECT count(*) FROM event").fetchone() == (1,)
            started_s = time.monotonic()
            for _ in range(10):
                record(writer, *(draft(extra=BULKY) for _ in range(100)))
            assert time.monotonic() - started_s < 20, "it waited for the reader, 5 s at a time"
            assert writer.wal_bytes() > 1 << 20
        record(writer, draft())
        harness.until(lambda: writer.wal_bytes() < 1 << 16, "the log to be reset")
        readers.close()


def test_a_report_that_takes_too_long_is_ended_and_the_pool_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_READ_S", 0.2)
    with writing(tmp_path) as writer:
        record(writer, draft())
        readers = Readers(tmp_path / DATABASE_NAME, Clock())
        for _ in range(reader.READERS + 1):
            with pytest.raises(Unavailable, match="shorter period"), readers.snapshot() as snapshot:
                snapshot.execute(RECURSE)
        with readers.snapshot() as snapshot:
            assert snapshot.execute("SELECT count(*) FROM event").fetchone() == (1,)
        readers.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    with writing(tmp_path):
        readers = Readers(tmp_path / DATABASE_NAME, Clock())
        with pytest.raises(Unavailable, match="readonly"), readers.snapshot() as snapshot:
            snapshot.execute("DELETE FROM event")
        readers.close()


# -- a disk that fails -------------------------------------------------------------------------------------------------


class Failing:
    """A connection whose next COMMIT reports an I/O error, after or instead of doing it."""

    def __init__(self, connection: sqlite3.Connection, *, takes_effect: bool) -> None:
        self._connection = connection
        self._takes_effect = takes_effect

    def execute(self, sql: str, *values: Any) -> Any:
        """Run it, but for COMMIT."""
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        if self._takes_effect:
            self._connection.execute("COMMIT")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("takes_effect", [True, False], ids=["it took effect", "it did not"])
def test_a_commit_that_reports_an_error_is_looked_up_before_anybody_is_answered(
    tmp_path: Path, *, takes_effect: bool
) -> None:
    with writing(tmp_path, Clock(), started=False) as writer:
        first = submit(writer, draft(request_id="first", fingerprint=b"f"), draft())
        writer._connection = Failing(writer._connection, takes_effect=takes_effect)  # type: ignore[assignment]
        writer.start()
        if takes_effect:
            kept = [ticket.wait(20) for ticket in first]
            assert [stored.duplicate for stored in kept] == [False, False]
        else:
            for ticket in first:
                with pytest.raises(Unavailable):
                    ticket.wait(20)
        harness.until(lambda: writer.records_refused is None, "records to be taken again")
        again = record(writer, draft(request_id="first", fingerprint=b"f"))[0]
        assert again.duplicate is takes_effect
        if takes_effect:
            assert again.event_id == kept[0].event_id
    assert count(tmp_path) == (2 if takes_effect else 1)


# -- the queue ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"max_records": 3}, {"max_bytes": 4_000}], ids=str)
def test_a_full_queue_refuses_at_once_and_takes_what_it_promised(tmp_path: Path, limits: dict[str, int]) -> None:
    with writing(tmp_path, started=False, **limits) as writer:
        taken = []
        while not writer.queue.is_full:
            taken += submit(writer, draft())
        with pytest.raises(Overloaded):
            submit(writer, draft(request_id="r" * 256), draft())
        assert len(taken) in {3, 4}
        writer.start()
        assert all(not ticket.wait(20).duplicate for ticket in taken)
        harness.until(lambda: writer.queue.records == writer.queue.bytes == 0, "the queue to be empty")
        record(writer, draft())
    assert count(tmp_path) == len(taken) + 1


def test_whoever_comes_while_it_stops_is_refused_and_whoever_came_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_, "MAX_GROUP", 7)  # many commits' worth waits when the stop comes
    with writing(tmp_path, started=False) as writer:
        taken = submit(writer, *(draft() for _ in range(500)))
        writer.start()
        assert writer.stop(20)
        with pytest.raises(Unavailable, match="stopping"):
            submit(writer, draft())
        assert all(not ticket.wait(1).duplicate for ticket in taken)
    assert count(tmp_path) == 500


def test_nobody_is_told_kept_before_the_commit(tmp_path: Path) -> None:
    held_when_told: list[bool] = []

    def told(writer: Writer, wait: Callable[[], Any], number: int) -> None:
        wait()
        with closing(sqlite3.connect(writer.path)) as connection:
            held = connection.execute("SELECT count(*) FROM request WHERE request_id = ?", (f"r{number}",)).fetchone()
            held_when_told.append(held == (1,))

    with writing(tmp_path) as writer:
        for number in range(100):
            ticket = submit(writer, draft(request_id=f"r{number}", fingerprint=b"f"))[0]
            told(writer, ticket.wait, number)
    assert held_when_told == [True] * 100
