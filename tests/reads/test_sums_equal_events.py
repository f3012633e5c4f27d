"""Sums over any span, by any dimension, in any zone, folded or not, are those of the events: to the nano-dollar."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costd.clock import Clock, ManualClock
from costd.domain.access import Caller
from costd.domain.days import DAY_MS, HOUR_MS, Span, day_bounds_ms, day_start_ms
from costd.domain.spend import Spend
from costd.services.spending import Spending
from costd.services.usage_log import UsageLog
from costd.store import event_blocks, retention
from costd.store import migrate as migrating
from costd.store.commit import Change
from costd.store.connection import DATABASE_NAME, open_database
from costd.store.folded import compare_folded
from costd.store.integrity import check_ledger
from costd.store.migrate import migrations
from costd.store.reader import Readers
from costd.store.retention import RetentionLimits, retain
from costd.store.sums import Wanted, sum_buckets, sum_by
from costd.store.writer import Writer
from ledger import draft, record, writing
from reads import brute
from reads.ledgers import DAYS, NOW_MS, a_ledger, fold, make_blocks, traffic

#: The zones: whole hours, half hours, three quarters, and both ways of changing the clock.
ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/Berlin")
FIRST = datetime.fromtimestamp(NOW_MS / 1000, UTC).date() - timedelta(days=DAYS)
READER = Caller(1, "", "reader", frozenset({"read"}))
FILTERS = ({}, {"provider": ("openai",)}, {"provider": ("", "unknown")}, {"model": ("m1",), "provider": ("acme",)})


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Writer, Readers]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_blocks, "BLOCK_EVENTS", 64)
        with a_ledger(tmp_path_factory.mktemp("reads")) as made:
            yield made


@pytest.fixture(scope="module")
def held(ledger: tuple[Writer, Readers]) -> list[brute.Record]:
    return brute.records(ledger[0].path)


def kept(held: list[brute.Record], filters: dict[str, tuple[str, ...]]) -> list[brute.Record]:
    return [one for one in held if all(getattr(one, name) in wanted for name, wanted in filters.items())]


#: Every day's and every month's beginning in UTC, near enough to what is held.
MONTHS = [day_start_ms(date(2026, month, 1), UTC) for month in (8, 9, 10, 11, 12)]
moments = st.integers(NOW_MS - (DAYS + 2) * DAY_MS, NOW_MS + DAY_MS)
ends = st.one_of(
    st.none(),
    moments,
    moments.map(lambda ms: ms // HOUR_MS * HOUR_MS),
    moments.map(lambda ms: ms // DAY_MS * DAY_MS),
    st.sampled_from(MONTHS),
)
quick = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


def test_blocks_were_made_and_days_were_folded(ledger: tuple[Writer, Readers]) -> None:
    """Else the tests below prove less than they say."""
    with ledger[1].snapshot() as connection:
        assert connection.execute("SELECT count(*) FROM event_block").fetchone()[0] > 20
        assert connection.execute("SELECT count(*) FROM rollup_day").fetchone()[0] > 500
        assert connection.execute("SELECT count(DISTINCT month) FROM rollup_month").fetchone()[0] == 4
        assert check_ledger(connection).findings == []


@quick
@given(
    start=ends,
    end=ends,
    by=st.sampled_from([(), ("model",), ("provider", "model"), ("tags",), ("team",)]),
    filters=st.sampled_from(FILTERS),
)
def test_any_span_by_any_dimension(
    ledger: tuple[Writer, Readers],
    held: list[brute.Record],
    start: int | None,
    end: int | None,
    by: tuple[str, ...],
    filters: dict[str, tuple[str, ...]],
) -> None:
    if start is not None and end is not None and end < start:
        start, end = end, start
    mine = [
        one for one in kept(held, filters) if (start is None or one.at_ms >= start) and (end is None or one.at_ms < end)
    ]
    with ledger[1].snapshot() as connection:
        table = sum_by(connection, Wanted(1, filters), by, Span(start, end))
    assert {row.names: row.spend for row in table.rows} == brute.grouped(
        mine, lambda one: tuple(getattr(one, name) for name in by)
    )
    assert table.exact


@quick
@given(
    zone=st.sampled_from(ZONES),
    first=st.integers(-2, DAYS),
    count=st.integers(1, DAYS + 4),
    filters=st.sampled_from(FILTERS),
)
def test_days_of_any_zone(
    ledger: tuple[Writer, Readers],
    held: list[brute.Record],
    zone: str,
    first: int,
    count: int,
    filters: dict[str, tuple[str, ...]],
) -> None:
    where = ZoneInfo(zone)
    days = [FIRST + timedelta(days=first + number) for number in range(count)]
    with ledger[1].snapshot() as connection:
        sums, exact = sum_buckets(connection, Wanted(1, filters), day_bounds_ms(days[0], days[-1], where))
    expected = brute.grouped(kept(held, filters), lambda one: one.day(where))
    assert sums == [expected.get(day, Spend()) for day in days]
    assert exact


def test_any_boundaries_within_hours(ledger: tuple[Writer, Readers], held: list[brute.Record]) -> None:
    """Several within one hour too, and none of any length."""
    chance = random.Random(5)
    for _ in range(100):
        near = chance.randrange(NOW_MS - 10 * DAY_MS, NOW_MS)
        bounds = sorted(near + chance.randrange(-2 * HOUR_MS, 2 * HOUR_MS) for _ in range(6))
        bounds.insert(3, bounds[3])
        with ledger[1].snapshot() as connection:
            sums, exact = sum_buckets(connection, Wanted(1, {}), bounds)
        expected = [brute.total(one for one in held if low <= one.at_ms < high) for low, high in pairwise(bounds)]
        assert (sums, exact) == (expected, True)


def test_the_log_finds_exactly_what_matches_newest_first(
    ledger: tuple[Writer, Readers], held: list[brute.Record]
) -> None:
    """By model, by time and by both, through all pages, blocks or none."""
    log = UsageLog(ledger[1])
    chance = random.Random(6)
    for _ in range(25):
        filters = chance.choice(FILTERS)
        start, end = sorted(chance.randrange(NOW_MS - (DAYS + 1) * DAY_MS, NOW_MS + HOUR_MS) for _ in range(2))
        span = chance.choice([Span(), Span(start, end), Span(start, None), Span(None, end)])
        wanted = [
            one.at_ms
            for one in reversed(kept(held, filters))
            if (span.start_ms is None or one.at_ms >= span.start_ms)
            and (span.end_ms is None or one.at_ms < span.end_ms)
        ]
        found, cursor = [], ""
        while True:
            page = log.page(READER, span, filters, cursor, chance.choice([7, 100]))
            found += [event.at_ms for event in page.events]
            cursor = page.next_cursor
            if not cursor:
                break
        assert found == wanted


@pytest.mark.parametrize("hours", [1, 5, 24, 24 * 7, 24 * 40])
def test_the_burn_rate_is_of_exactly_its_hours(
    ledger: tuple[Writer, Readers], held: list[brute.Record], hours: int
) -> None:
    spending = Spending(ledger[1], ManualClock(NOW_MS), str)
    found = spending.burn_rate(READER, hours, "")
    mine = [one for one in held if one.at_ms >= NOW_MS - hours * HOUR_MS]
    assert found.total == brute.total(mine)
    assert {row.names[0]: row.spend for row in found.providers} == brute.grouped(
        mine, lambda one: one.provider or "unknown"
    )
    only = spending.burn_rate(READER, hours, "openai")
    assert only.total == brute.total(one for one in mine if one.provider == "openai")


def test_what_was_cut_is_said_once_the_events_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After retention the hour at a zone's midnight counts whole; whole hours stay exact; nothing is lost."""
    monkeypatch.setattr(event_blocks, "BLOCK_EVENTS", 64)
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        readers = Readers(writer.path, Clock())
        record(writer, *traffic(random.Random(8), 900, NOW_MS - 30 * DAY_MS, NOW_MS))
        record(writer, draft(at_ms=NOW_MS))  # commits go whole: the newest stays
        held = brute.records(writer.path)
        fold(writer)
        make_blocks(writer, readers)
        clock.advance(10 * DAY_MS / 1000)
        while (
            not writer.submit(Change(lambda commit: retain(commit, RetentionLimits(5 * DAY_MS, 400 * DAY_MS, 0))))
            .wait(20)
            .done
        ):
            pass
        assert len(brute.records(writer.path)) < len(held)
        with readers.snapshot() as connection:
            for zone, is_exact in (("UTC", True), ("America/New_York", True), ("Asia/Kolkata", False)):
                where = ZoneInfo(zone)
                bounds = day_bounds_ms(date(2026, 10, 1), date(2026, 11, 10), where)
                sums, exact = sum_buckets(connection, Wanted(1, {}), bounds)
                assert exact is is_exact, zone
                assert sum(one.requests for one in sums) == len(held)
                assert sum(one.cost_nano for one in sums) == brute.total(held).cost_nano
                span = Span(day_start_ms(date(2026, 10, 12), where), day_start_ms(date(2026, 10, 14), where))
                table = sum_by(connection, Wanted(1, {}), ("model",), span)
                assert table.exact is is_exact, zone
                if is_exact:
                    assert table.total() == brute.total(one for one in held if span.start_ms <= one.at_ms < span.end_ms)
            assert connection.execute("SELECT count(*) FROM event_block").fetchone()[0] < len(held) // 64
        readers.close()


def test_what_was_folded_before_days_there_were_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of the schema before comes with its totals: the migration makes its days and months."""
    known = migrations()
    path = tmp_path / DATABASE_NAME
    with closing(open_database(path, NOW_MS)) as connection:
        for table in ("rollup_day", "rollup_month", "event_block"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE ledger_state DROP COLUMN rollups_from_hour")
        connection.execute("DELETE FROM schema_migration WHERE version >= 3")
        connection.execute(_TOTALLED)
        connection.executemany(_SERIES, [(number, bytes([number])) for number in range(1, 4)])
        chance = random.Random(9)
        hours = sorted({(500_000 + chance.randrange(2000), chance.randrange(1, 4)) for _ in range(3000)})
        connection.executemany(_ROLLUP, [(*key, chance.randrange(5), chance.randrange(10**9)) for key in hours])
        connection.execute(_TOTALS)
    monkeypatch.setattr(migrating, "migrations", lambda: known[:3])
    with closing(open_database(path, NOW_MS)) as connection:
        assert compare_folded(connection) == []
        assert connection.execute("SELECT sum(requests) FROM rollup_month").fetchone()[0] < len(hours)
        connection.execute("UPDATE rollup_day SET requests = requests + 1 WHERE day = 500000 / 24 + 10")
        connection.execute("DELETE FROM rollup_month WHERE series_id = 2")
        found = compare_folded(connection)
        assert any(finding.startswith(f"the day {500_000 // 24 + 10} of series 1 differs") for finding in found)
        assert any("of series 2 differs" in finding for finding in found)
        assert check_ledger(connection).findings


_TOTALLED = "UPDATE ledger_state SET totalled_hour = 501700, totalled_series_id = 2, complete_from_hour = 600000"
_SERIES = "INSERT INTO series VALUES (?, ?, 1, '', '', '', '', '', '', '', '', '', '', '', '', '', 'success')"
_ROLLUP = "INSERT INTO rollup VALUES (?, ?, 1, 0, 2, 3, 0, 0, 0, ?, ?, 0, 0, 0, 0)"
_TOTALS = """
INSERT INTO series_total SELECT series_id, sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), 0, 0, 0,
  sum(cost_usd) + sum(cost_nano) / 1000000000, sum(cost_nano) % 1000000000, 0, 0, 0, 0
FROM rollup WHERE (hour, series_id) <= (501700, 2) GROUP BY series_id
"""


def test_many_stretches_are_joined_across_the_smallest_gaps() -> None:
    """Few statements, and nothing left out."""
    ranges = [(first, first + 3) for first in (1, 5 + 10, 30, 40, 50, 60, 900, 1000, 2000, 2010, 2020, 3000)]
    for most in range(1, 13):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(event_blocks, "MAX_RANGES", most)
            joined = event_blocks._fewer(list(ranges))
        assert len(joined) == min(most, len(ranges))
        assert all(any(low <= first and last <= high for low, high in joined) for first, last in ranges)
        assert joined == sorted(joined)
    assert event_blocks._fewer(ranges[:6]) == ranges[:6]


def test_days_and_months_that_lost_hours_are_read_by_what_is_left(tmp_path: Path) -> None:
    """Retention of rollups, in the middle of a month and one step at a time: sums are of the hours there are."""
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        readers = Readers(writer.path, clock)
        record(writer, *traffic(random.Random(10), 2500, NOW_MS - 60 * DAY_MS, NOW_MS))
        fold(writer)
        limits = RetentionLimits(400 * DAY_MS, 40 * DAY_MS, 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retention, "STEP_ROWS", 100)
            for _ in range(12):
                writer.submit(Change(lambda commit: retain(commit, limits))).wait(20)
                with readers.snapshot() as connection:
                    for start_ms in (None, NOW_MS - 45 * DAY_MS, NOW_MS - 30 * DAY_MS):
                        table = sum_by(connection, Wanted(1, {}), (), Span(start_ms and start_ms // HOUR_MS * HOUR_MS))
                        left = connection.execute(
                            "SELECT sum(requests) FROM rollup WHERE hour >= ?",
                            (0 if start_ms is None else start_ms // HOUR_MS,),
                        ).fetchone()[0]
                        assert table.total().requests == left
                    assert compare_folded(connection) == []
        readers.close()
