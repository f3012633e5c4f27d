"""Totals since the ledger began: what rollups and events are folded into before retention may take them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from costd.domain.money import NANO_PER_USD
from costd.domain.rollup import LATENCY_BOUNDS_MS, AdjustmentCounts, LabelledLatencies, LabelledTotals
from costd.domain.series import DIMENSIONS
from costd.store.commit import ADD_AMOUNTS, AMOUNT_COLUMNS, Commit
from costd.store.rows import insert_rows

#: Rollups folded in one transaction: a few milliseconds, so that records never wait long behind it.
STEP_ROLLUPS = 2_000
#: Events whose latencies are counted at once. Readers do that, beside the writer; it is told only the counts.
STEP_EVENTS = 200_000
#: Rollups are folded once their hour is this many hours past: until then most records still go to them.
OPEN_HOURS = 2
_HOUR_MS = 3_600_000


class LatencyCounts(NamedTuple):
    """How many events numbered (after_seq, through_seq] had a latency, by (series_id, bucket)."""

    after_seq: int
    through_seq: int
    rows: list[tuple[int, int, int]]


def fold_rollups(commit: Commit) -> int:
    """Add the next rollups whose hour has passed to the totals, days and months; how many. 0 when none is left."""
    connection = commit.connection
    closed_hour = commit.now_ms // _HOUR_MS - OPEN_HOURS + 1
    rows = connection.execute(
        "SELECT hour, series_id FROM rollup WHERE (hour, series_id) > (?, ?) AND hour < ? "
        "ORDER BY hour, series_id LIMIT ?",
        (*commit.totalled, closed_hour, STEP_ROLLUPS),
    ).fetchall()
    if not rows:
        return 0
    connection.execute(_FOLD, (*commit.totalled, *rows[-1]))
    connection.execute(_FOLD_INTO_DAY, (*commit.totalled, *rows[-1]))
    connection.execute(_FOLD_INTO_MONTH, (*commit.totalled, *rows[-1]))
    connection.execute("UPDATE ledger_state SET totalled_hour = ?, totalled_series_id = ?", rows[-1])
    # Last: where anything above fails, its savepoint is rolled back and this must stay as it was.
    commit.totalled = rows[-1]
    return len(rows)


def count_latencies(connection: sqlite3.Connection, last_seq: int | None = None) -> LatencyCounts:
    """Count the latencies of the next STEP_EVENTS events, of those up to `last_seq` if given.

    Where none are left, `through_seq` equals `after_seq`.
    """
    after_seq, newest = connection.execute(
        "SELECT latency_seq, (SELECT max(seq) FROM event) FROM ledger_state"
    ).fetchone()
    if last_seq is not None:
        newest = last_seq
    through_seq = min(max(after_seq, newest or 0), after_seq + STEP_EVENTS)
    rows = connection.execute(
        f"SELECT key / {_KEYS}, key % {_KEYS}, events FROM (SELECT {_KEY} AS key, count(*) AS events FROM event "
        "WHERE seq > ? AND seq <= ? AND latency_ms IS NOT NULL GROUP BY key)",
        (after_seq, through_seq),
    ).fetchall()
    return LatencyCounts(after_seq, through_seq, rows)


def store_latencies(commit: Commit, counts: LatencyCounts) -> None:
    """Add counts to those that are stored, unless somebody else got ahead."""
    moved = commit.connection.execute(
        "UPDATE ledger_state SET latency_seq = ? WHERE latency_seq = ?", (counts.through_seq, counts.after_seq)
    ).rowcount
    if moved:
        insert_rows(commit.connection, _INTO_LATENCY, 3, counts.rows, _ADD_LATENCY)


def load_totals(connection: sqlite3.Connection, labels: Sequence[str]) -> Iterator[LabelledTotals]:
    """What the ledger has ever held, by label set, in the order they were first seen; `labels` are of DIMENSIONS.

    Reads the totals, and of the rollups only the hours that are not in them yet.
    """
    assert set(labels) <= set(DIMENSIONS), labels
    watermark = connection.execute("SELECT totalled_hour, totalled_series_id FROM ledger_state").fetchone()
    names = "".join(f", s.{name}" for name in labels)
    group = f"GROUP BY {names[2:]}" if labels else ""
    for first_series_id, *row in connection.execute(
        f"SELECT min(s.id){names}, {_SUMS} FROM ({_TOTALS}) t JOIN series s ON s.id = t.series_id {group} ORDER BY 1",
        watermark,
    ):
        if first_series_id is None:  # without labels an empty ledger sums to one row of nothing
            return
        sums = row[len(labels) :]
        usd, nano = sums[_USD : _USD + 2]
        amounts = (*sums[:_USD], usd * NANO_PER_USD + nano, *sums[_USD + 2 :])
        yield LabelledTotals(tuple(row[: len(labels)]), amounts)


def load_adjustments(connection: sqlite3.Connection) -> AdjustmentCounts:
    """All corrections there ever were."""
    counts = AdjustmentCounts()
    for kind, adjustments, *halves in connection.execute(
        "SELECT kind, adjustments, up_usd, up_nano, down_usd, down_nano FROM adjustment_total"
    ):
        up_usd, up_nano, down_usd, down_nano = halves
        counts.add(kind, adjustments, up_usd * NANO_PER_USD + up_nano, down_usd * NANO_PER_USD + down_nano)
    return counts


def load_latencies(connection: sqlite3.Connection, labels: Sequence[str]) -> Iterator[LabelledLatencies]:
    """How many latencies there ever were in each bucket, by label set.

    Reads what is stored, and of the events only those that are not in it yet.
    """
    assert set(labels) <= set(DIMENSIONS), labels
    latency_seq = connection.execute("SELECT latency_seq FROM ledger_state").fetchone()
    names = "".join(f"s.{name}, " for name in labels)
    for *values, bucket, events in connection.execute(
        f"SELECT {names}t.bucket, sum(t.events) FROM ({_LATENCIES}) t JOIN series s ON s.id = t.series_id "
        f"GROUP BY {names}t.bucket",
        latency_seq,
    ):
        yield LabelledLatencies(tuple(values), bucket, events)


_COLUMNS = AMOUNT_COLUMNS.split(", ")
_USD = _COLUMNS.index("cost_usd")
_SUMS = ", ".join(f"sum(t.{name})" for name in _COLUMNS)
#: Without corrections: the counters that continue from this show what was recorded.
_TOTALS = (
    f"SELECT series_id, {AMOUNT_COLUMNS} FROM series_total UNION ALL "
    f"SELECT series_id, {', '.join(f'-{name}' for name in _COLUMNS)} FROM series_adjusted UNION ALL "
    f"SELECT series_id, {AMOUNT_COLUMNS} FROM rollup WHERE (hour, series_id) > (?, ?)"
)
_FOLD = (
    f"INSERT INTO series_total (series_id, {AMOUNT_COLUMNS}) SELECT series_id, {AMOUNT_COLUMNS} FROM rollup "
    f"WHERE (hour, series_id) > (?, ?) AND (hour, series_id) <= (?, ?){ADD_AMOUNTS}"
)
_FOLD_INTO_DAY = (
    f"INSERT INTO rollup_day (day, series_id, {AMOUNT_COLUMNS}) SELECT hour / 24, series_id, {AMOUNT_COLUMNS} "
    f"FROM rollup WHERE (hour, series_id) > (?, ?) AND (hour, series_id) <= (?, ?){ADD_AMOUNTS}"
)
_MONTH = "strftime('%Y', hour * 3600, 'unixepoch') * 12 + strftime('%m', hour * 3600, 'unixepoch') - 1"
_FOLD_INTO_MONTH = (
    f"INSERT INTO rollup_month (month, series_id, {AMOUNT_COLUMNS}) SELECT {_MONTH}, series_id, {AMOUNT_COLUMNS} "
    f"FROM rollup WHERE (hour, series_id) > (?, ?) AND (hour, series_id) <= (?, ?){ADD_AMOUNTS}"
)
_BUCKET = (
    "CASE "
    + " ".join(f"WHEN latency_ms <= {bound_ms} THEN {place}" for place, bound_ms in enumerate(LATENCY_BOUNDS_MS))
    + f" ELSE {len(LATENCY_BOUNDS_MS)} END"
)
#: Series and bucket as one number: SQLite groups by sorting, and sorts by one number nearly twice as fast as by two.
_KEYS = 16
assert len(LATENCY_BOUNDS_MS) < _KEYS
_KEY = f"series_id * {_KEYS} + {_BUCKET}"
_LATENCIES = (
    "SELECT series_id, bucket, events FROM series_latency UNION ALL "
    f"SELECT key / {_KEYS}, key % {_KEYS}, events FROM "
    f"(SELECT {_KEY} AS key, count(*) AS events FROM event WHERE seq > ? AND latency_ms IS NOT NULL GROUP BY key)"
)
_INTO_LATENCY = "INSERT INTO series_latency (series_id, bucket, events)"
_ADD_LATENCY = " ON CONFLICT DO UPDATE SET events = events + excluded.events"
