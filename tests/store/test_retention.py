"""Retention: what is past its time goes, nothing goes before it, and nothing that went is ever missed or used again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from costd.clock import ManualClock
from costd.domain.errors import Conflict
from costd.store.commit import Change
from costd.store.connection import DATABASE_NAME
from costd.store.integrity import check_ledger
from costd.store.requests import Stored
from costd.store.retention import STEP_ROWS, RetentionLimits, Step, retain
from costd.store.writer import Writer
from ledger import DAY_MS, HOUR_MS, NOW_MS, draft, record, series, writing

FUTURE_MS = 5 * 60_000
LIMITS = RetentionLimits(45 * DAY_MS, 400 * DAY_MS, FUTURE_MS)
DAY_S = 86_400


def step(writer: Writer) -> Step:
    """One step of retention."""
    return writer.submit(Change(lambda commit: retain(commit, LIMITS))).wait(20)


def retain_all(writer: Writer) -> int:
    """Steps until nothing is left to do; how many it took."""
    steps = 1
    while not step(writer).done:
        steps += 1
    return steps


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the database."""
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        return connection.execute(sql).fetchall()


def held(folder: Path) -> list[int]:
    """The numbers of the events that are held."""
    return [seq for (seq,) in query(folder, "SELECT seq FROM event ORDER BY seq")]


def assert_sound(folder: Path) -> None:
    """The check finds nothing."""
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        assert check_ledger(connection).findings == []


def named(request_id: str, **fields: Any) -> Any:
    """A record with an id."""
    return draft(request_id=request_id, fingerprint=b"f" * 8, **fields)


def test_events_are_kept_for_45_days_after_receipt_and_after_their_own_time(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        late = record(writer, named("late", at_ms=NOW_MS - 35 * DAY_MS))[0]  # back-dated: kept from its receipt on
        early = record(writer, named("early", at_ms=NOW_MS + FUTURE_MS))[0]  # ahead: kept until its own time is past
        record(writer, draft())  # the newest commit always stays
        clock.advance(45 * DAY_S + FUTURE_MS / 1000)
        assert step(writer).done
        assert held(tmp_path)[:2] == [late.seq, early.seq]
        for request_id, first in (("late", late), ("early", early)):
            again = record(writer, named(request_id))[0]
            assert (again.event_id, again.duplicate) == (first.event_id, True)
        clock.advance(1)
        assert retain_all(writer) == 2
        assert not {late.seq, early.seq} & set(held(tmp_path))
        assert record(writer, named("late"))[0].duplicate is False
        assert_sound(tmp_path)


def test_totals_stay_for_400_days_when_their_events_have_gone(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        record(writer, *(draft(cost_nano=7, series=series(user=f"u{n}")) for n in range(10)))
        record(writer, draft(cost_nano=0, rare=(("pages", 3),), extra='{"units":{"pages":"3"}}'))
        clock.advance(46 * DAY_S)
        record(writer, draft(at_ms=clock.now_ms(), cost_nano=0))
        retain_all(writer)
        assert len(held(tmp_path)) == 1
        totals = "SELECT sum(requests), sum(cost_nano) FROM rollup"
        assert query(tmp_path, totals) == [(12, 70)]
        assert query(tmp_path, "SELECT unit, whole FROM rollup_unit") == [("pages", 3)]
        assert_sound(tmp_path)
        clock.advance(353 * DAY_S)  # 399 days after the first
        retain_all(writer)
        assert query(tmp_path, totals) == [(12, 70)]
        clock.advance(3 * DAY_S)
        retain_all(writer)
        assert query(tmp_path, totals) == [(1, 0)]
        assert query(tmp_path, "SELECT * FROM rollup_unit") == []
        assert_sound(tmp_path)


def test_nothing_goes_before_it_is_forwarded(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        for _ in range(5):
            record(writer, draft(), draft())
        for forwarded, left in ((0, 10), (3, 8), (4, 6), (7, 4), (10, 2)):
            sql = f"UPDATE ledger_state SET forwarded_seq = {forwarded}"
            writer.submit(Change(lambda commit, sql=sql: commit.connection.execute(sql).rowcount)).wait(20)
            clock.advance(60 * DAY_S)
            retain_all(writer)
            assert len(held(tmp_path)) == left, f"forwarded up to {forwarded}"
            assert_sound(tmp_path)


def test_hours_that_may_lack_events_are_no_longer_compared_and_all_later_ones_are(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        record(writer, draft(at_ms=NOW_MS), draft(at_ms=NOW_MS + FUTURE_MS), draft(at_ms=NOW_MS - 30 * DAY_MS))
        clock.advance(20 * DAY_S)
        record(writer, draft(at_ms=NOW_MS), draft(at_ms=clock.now_ms()))  # one more for an hour that will lose events
        clock.advance(26 * DAY_S)
        record(writer, draft(at_ms=clock.now_ms()))
        retain_all(writer)
        complete = query(tmp_path, "SELECT complete_from_hour FROM ledger_state")[0][0]
        assert (NOW_MS + FUTURE_MS) // HOUR_MS < complete <= (NOW_MS + 2 * DAY_MS) // HOUR_MS
        assert_sound(tmp_path)
        # The hours that are still whole are compared: an event that vanishes from one is missed.
        writer.submit(Change(lambda c: c.connection.execute("DELETE FROM event WHERE seq = 5").rowcount)).wait(20)
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
            assert check_ledger(connection).findings


def test_a_number_is_never_used_twice_even_when_everything_has_gone(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    seen: list[Stored | Conflict] = []
    for _ in range(4):
        with writing(tmp_path, clock) as writer:
            seen += record(writer, draft(), draft())
            clock.advance(500 * DAY_S)
            retain_all(writer)
            seen += record(writer, draft())
            clock.advance(500 * DAY_S)
            retain_all(writer)
        assert_sound(tmp_path)
    numbers = [stored.seq for stored in seen if isinstance(stored, Stored)]
    assert numbers == sorted(set(numbers))
    assert len({stored.event_id for stored in seen if isinstance(stored, Stored)}) == len(seen)


def test_it_goes_in_small_steps_and_gives_the_space_back(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        for number in range(4):
            record(writer, *(named(f"{number}-{n}", extra='{"job":"' + "j" * 200 + '"}') for n in range(STEP_ROWS)))
        record(writer, draft())
        writer.submit(Change(lambda c: c.connection.execute("SELECT 1").fetchone())).wait(20)
        clock.advance(46 * DAY_S)
        assert retain_all(writer) >= 4
        pages, free = query(tmp_path, "SELECT * FROM pragma_page_count, pragma_freelist_count")[0]
        for _ in range(20):
            retain_all(writer)
        fewer, left = query(tmp_path, "SELECT * FROM pragma_page_count, pragma_freelist_count")[0]
        assert left == 0
        assert fewer <= pages - free
        assert_sound(tmp_path)
