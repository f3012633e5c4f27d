"""Retention: events, ids, rollups and windows of budgets that have outlived their time go, in small steps.

Nothing goes that was not forwarded.
"""

from __future__ import annotations

from typing import NamedTuple

from costd.domain.days import month_of_hour
from costd.store.commit import Commit
from costd.store.proxied_bodies import delete_expired
from costd.store.totals import count_latencies, fold_rollups, store_latencies

#: Rows deleted in one transaction: a few milliseconds, so that records never wait long behind it.
STEP_ROWS = 2_000
#: Bodies are large.
STEP_BODIES = 50
_VACUUM_PAGES = 500
_HOUR_MS = 3_600_000


class RetentionLimits(NamedTuple):
    """How long what is kept, in milliseconds; `future_ms` is how far ahead of its receipt a record's time may be."""

    events_ms: int
    rollups_ms: int
    future_ms: int


class Step(NamedTuple):
    """What one step deleted."""

    events: int
    rollups: int
    windows: int
    bodies: int

    @property
    def done(self) -> bool:
        """Whether nothing is left to delete now."""
        return not any(self)


def retain(commit: Commit, limits: RetentionLimits) -> Step:
    """Delete up to STEP_ROWS of each kind that are past their time, and give free pages back to the disk.

    Events go by when they were received: their ids, which go with them, must outlast every retry. A record's time is
    at most `future_ms` past its receipt, so by then its own time is past as well.
    """
    oldest_ms = commit.now_ms - limits.rollups_ms
    step = Step(
        _delete_events(commit, limits),
        _delete_rollups(commit, oldest_ms),
        _delete_windows(commit, oldest_ms),
        delete_expired(commit, STEP_BODIES),
    )
    if step.done:
        _give_back(commit)
    return step


def _delete_windows(commit: Commit, cutoff_ms: int) -> int:
    """Delete windows of budgets that ended before, what sources held of them, and alerts about them.

    So do all windows of a budget that was removed before, or of a revision that was over.
    """
    connection = commit.connection
    alerts = connection.execute(_OLD_ALERTS, (cutoff_ms, STEP_ROWS)).fetchall()
    connection.executemany("DELETE FROM alert_delivery WHERE alert_id = ?", alerts)
    connection.executemany("DELETE FROM budget_alert WHERE id = ?", alerts)
    old = (connection.execute(sql, (cutoff_ms, STEP_ROWS)) for sql in _OLD_WINDOWS)
    keys = {key for rows in old for key in rows}
    for table in ("budget_account", "budget_window"):
        connection.executemany(f"DELETE FROM {table} WHERE {_WINDOW} = (?, ?, ?, ?)", keys)
    return len(alerts) + len(keys)


def _give_back(commit: Commit) -> None:
    """Shorten the file by up to _VACUUM_PAGES free pages."""
    free = commit.connection.execute("PRAGMA freelist_count").fetchone()[0]
    for _ in range(min(free, _VACUUM_PAGES)):
        # sqlite3 steps a statement without columns only once, and each step gives back one page.
        commit.connection.execute("PRAGMA incremental_vacuum(1)")


def _delete_events(commit: Commit, limits: RetentionLimits) -> int:
    connection = commit.connection
    cutoff_ms = _still_needed_from(commit, commit.now_ms - limits.events_ms - limits.future_ms)
    through = _last_to_delete(commit, cutoff_ms)
    if through is None:
        return 0
    connection.execute("UPDATE hub_state SET ids_from_ms = max(ids_from_ms, ?)", (cutoff_ms,))
    _lose_completeness(commit, cutoff_ms + limits.future_ms)
    # Usually long done by upkeep; what is not counted yet must be before it goes.
    while (counts := count_latencies(connection, through)).through_seq > counts.after_seq:
        store_latencies(commit, counts)
    deleted = 0
    for table in ("event", "request", "record_batch", "adjustment", "catalog_change"):
        deleted += connection.execute(f"DELETE FROM {table} WHERE seq <= ?", (through,)).rowcount
    deleted += connection.execute("DELETE FROM ledger_commit WHERE first_seq <= ?", (through,)).rowcount
    connection.execute("DELETE FROM event_block WHERE last_seq <= ?", (through,))
    return deleted


def _still_needed_from(commit: Commit, cutoff_ms: int) -> int:
    """The cutoff, or the moment up to which a hub has heard of every source, where that is earlier.

    A source may still bring, under ids that are known here, what it received after that moment.
    """
    (forwarded_ms,) = commit.connection.execute(
        "SELECT min(forwarded_ms) FROM source WHERE forgotten_ms IS NULL"
    ).fetchone()
    return cutoff_ms if forwarded_ms is None else min(cutoff_ms, int(forwarded_ms))


def _last_to_delete(commit: Commit, cutoff_ms: int) -> int | None:
    """The last number of the oldest commits that are past their time: whole commits, about STEP_ROWS items."""
    newest, forwarded = commit.connection.execute(
        "SELECT (SELECT max(first_seq) FROM ledger_commit), forwarded_seq FROM ledger_state"
    ).fetchone()
    through = None
    items = 0
    for first_seq, size, at_ms in commit.connection.execute(
        "SELECT first_seq, items, at_ms FROM ledger_commit ORDER BY first_seq LIMIT ?", (STEP_ROWS,)
    ):
        last = first_seq + size - 1
        if at_ms >= cutoff_ms or first_seq == newest or (forwarded is not None and last > forwarded):
            break
        through = last
        items += size
        if items >= STEP_ROWS:
            break
    return through


def _lose_completeness(commit: Commit, gone_before_ms: int) -> None:
    """Remember that hours up to this moment may lack events from now on, so that nobody compares them."""
    commit.connection.execute(
        "UPDATE ledger_state SET complete_from_hour = max(complete_from_hour, ?)", (gone_before_ms // _HOUR_MS + 1,)
    )


def _delete_rollups(commit: Commit, cutoff_ms: int) -> int:
    deleted = 0
    # In whole days: no sum of a day may hold hours that are gone.
    day = cutoff_ms // _HOUR_MS // 24
    hour = day * 24
    while commit.totalled[0] < hour and fold_rollups(commit):
        pass
    # Records that came late may still be held as events when the rollup of their hour goes.
    _lose_completeness(commit, (hour - 1) * _HOUR_MS)
    commit.connection.execute("UPDATE ledger_state SET rollups_from_hour = max(rollups_from_hour, ?)", (hour,))
    for table, time, keys, first in (
        ("rollup", "hour", "hour, series_id", hour),
        ("rollup_unit", "hour", "hour, series_id, unit", hour),
        ("rollup_day", "day", "day, series_id", day),
        # A month stays as long as any of its hours; reads do not take it whole once its first are gone.
        ("rollup_month", "month", "month, series_id", month_of_hour(hour)),
    ):
        deleted += commit.connection.execute(
            f"DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {time} < ? LIMIT ?)",
            (first, STEP_ROWS),
        ).rowcount
    return deleted


_WINDOW = "(budget_id, revision, value, start_ms)"
_OLD_ALERTS = "SELECT id FROM budget_alert WHERE end_ms < ? LIMIT ?"
# Three ways, by an index each: there may be millions of windows, and few of them are old.
_OLD_WINDOWS = (
    f"SELECT {_WINDOW[1:-1]} FROM budget_window WHERE end_ms < ? LIMIT ?",
    (
        "SELECT w.budget_id, w.revision, w.value, w.start_ms FROM budget b CROSS JOIN budget_window w "
        "ON w.budget_id = b.id WHERE b.removed_ms < ? LIMIT ?"
    ),
    (
        "SELECT w.budget_id, w.revision, w.value, w.start_ms FROM budget b CROSS JOIN budget_window w "
        "ON w.budget_id = b.id AND w.revision < b.revision WHERE b.since_ms < ? LIMIT ?"
    ),
)
