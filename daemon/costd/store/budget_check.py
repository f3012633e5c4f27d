"""The check of budgets' windows: each holds what the events come to that fall under it, while these are kept.

Rollups stand for the events, to which they were compared before, but for the parts of hours. Left out are budgets on
which the catalog has a say: what it says today need not be what it said when a record was charged.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from costd.domain.budget import Budget
from costd.domain.days import HOUR_MS
from costd.domain.errors import Invalid
from costd.domain.money import MOST_NANO, NANO_PER_USD, usd_text
from costd.domain.window import TOTAL, Window, Windows
from costd.store.budget_scope import BudgetScope, is_attributed, scope_of
from costd.store.budgets import HUB, StoredBudget, load_budgets
from costd.store.commit import QUARTER_MS

#: {(value, window): nano-USD}
_Spent = dict[tuple[str, Window], int]


class _Asked(NamedTuple):
    """A budget to look at: in windows from `from_ms` on."""

    budget: Budget
    windows: Windows
    scope: BudgetScope
    from_ms: int
    known_seq: int
    is_copy: bool


def compare_windows(connection: sqlite3.Connection) -> list[str]:
    """Windows that differ from their events: a sentence for each."""
    findings = []
    for held in load_budgets(connection):
        asked = _asked(connection, held)
        if asked is not None:
            findings += _compare(connection, asked)
    return findings


def _asked(connection: sqlite3.Connection, held: StoredBudget) -> _Asked | None:
    budget = held.budget
    scope = scope_of(connection, budget)
    # Below zero: it was not in force lately, and nobody counted.
    if scope is None or is_attributed(budget) or held.known_seq < 0:
        return None
    try:
        windows = budget.windows()
    except Invalid:  # a zone that this machine does not know
        return None
    known_ms = _known_ms(connection, held)
    if known_ms is None:
        return None
    kept_ms = connection.execute("SELECT complete_from_hour FROM ledger_state").fetchone()[0] * HOUR_MS
    is_copy = held.origin == HUB
    first = windows.at(max(known_ms, kept_ms))
    # A copy was charged from some moment within its first window on, and may have been left alone before.
    if first.start_ms < kept_ms or is_copy:
        if budget.period == TOTAL:
            return None
        first = windows.after(first)
    return _Asked(budget, windows, scope, first.start_ms, held.known_seq, is_copy)


def _known_ms(connection: sqlite3.Connection, held: StoredBudget) -> int | None:
    """Since when all of a window is counted; None where nothing was recorded since."""
    since_ms = held.budget.since_ms
    before = connection.execute(
        "SELECT at_ms FROM ledger_commit WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1", (held.known_seq,)
    ).fetchone()
    if held.origin != HUB and (held.known_seq == 0 or (before is not None and before[0] <= since_ms)):
        return since_ms
    # Counted (anew) from later on: the windows between are nobody's.
    after = connection.execute(
        "SELECT at_ms FROM ledger_commit WHERE first_seq > ? ORDER BY first_seq LIMIT 1", (held.known_seq,)
    ).fetchone()
    return None if after is None else max(since_ms, int(after[0]))


def _compare(connection: sqlite3.Connection, asked: _Asked) -> list[str]:
    expected: defaultdict[tuple[str, Window], int] = defaultdict(int)
    pieces = [_of_events(connection, asked) if _has_edges(connection, asked) else _of_rollups(connection, asked)]
    pieces.append(_not_credited(connection, asked))
    if asked.is_copy:
        pieces.append(_before(connection, asked))
    for piece in pieces:
        for text, window, nano in piece:
            for value in asked.scope.values(text):
                expected[value, window] += nano
    held = _held(connection, asked)
    findings = []
    for value, window in sorted({*expected, *held}):
        wanted, found = expected.get((value, window), 0), held.get((value, window), 0)
        if window.start_ms >= asked.from_ms and wanted != found and max(wanted, found) < MOST_NANO:
            of_value = f" of {value!r}" if asked.budget.each else ""
            since = datetime.fromtimestamp(window.start_ms / 1000, UTC).isoformat(timespec="minutes")
            findings.append(
                f'budget "{asked.budget.name}": its window{of_value} since {since} holds {usd_text(found)} USD, and '
                f"its events come to {usd_text(wanted)}"
            )
    return findings


def _held(connection: sqlite3.Connection, asked: _Asked) -> _Spent:
    """What the windows hold."""
    budget = asked.budget
    key = (budget.id, budget.revision, asked.from_ms)
    held: _Spent = {}
    for value, start_ms, end_ms, settled, credited in connection.execute(_WINDOWS, key):
        held[value, Window(start_ms, end_ms)] = settled - credited
    for value, start_ms, end_ms, settled in connection.execute(_ACCOUNTS, key):
        held[value, Window(start_ms, end_ms)] += settled
    return held


def _has_edges(connection: sqlite3.Connection, asked: _Asked) -> bool:
    """Whether windows that anything was recorded in begin or end within an hour of UTC."""
    hours = connection.execute("SELECT min(hour), max(hour) FROM rollup WHERE hour >= ?", (asked.from_ms // HOUR_MS,))
    first, last = hours.fetchone()
    if first is None:
        return False
    window = asked.windows.at(max(asked.from_ms, first * HOUR_MS))
    while window.start_ms % HOUR_MS == 0:
        if window.end_ms > last * HOUR_MS:
            return False
        window = asked.windows.after(window)
    return True


def _of_rollups(connection: sqlite3.Connection, asked: _Asked) -> Iterator[tuple[str, Window, int]]:
    """What whole hours come to, those events moved that were reserved in another window than their own."""
    where, values = asked.scope.where()
    column, windows = asked.scope.column(), asked.windows
    sql = (
        f"SELECT {column}, r.hour, sum(r.cost_usd), sum(r.cost_nano) FROM rollup r JOIN series s ON s.id = r.series_id "
        f"WHERE r.hour >= ? AND {where} GROUP BY 1, 2"
    )
    for text, hour, usd, nano in connection.execute(sql, [asked.from_ms // HOUR_MS, *values]):
        yield text, windows.at(hour * HOUR_MS), usd * NANO_PER_USD + nano
    sql = (
        f"SELECT {column}, e.charged_ms / {QUARTER_MS}, e.at_ms / {QUARTER_MS}, coalesce(e.cost_nano, 0) + "
        "coalesce((SELECT sum(a.cost_nano) FROM adjustment a WHERE a.event_seq = e.seq), 0) "
        f"FROM event e JOIN series s ON s.id = e.series_id WHERE e.charged_ms IS NOT NULL "
        f"AND e.charged_ms / {QUARTER_MS} <> e.at_ms / {QUARTER_MS} AND {where}"
    )
    for text, charged, at, nano in connection.execute(sql, values):
        yield text, windows.at(charged * QUARTER_MS), nano
        yield text, windows.at(at * QUARTER_MS), -nano


def _of_events(connection: sqlite3.Connection, asked: _Asked) -> Iterator[tuple[str, Window, int]]:
    """The same from every event and adjustment, by quarters of an hour."""
    return _added(connection, asked, f"m.time >= {asked.from_ms}", 1)


def _before(connection: sqlite3.Connection, asked: _Asked) -> Iterator[tuple[str, Window, int]]:
    """What came before a copy of a hub's budget, ahead of its time: below zero, as only the hub counts it."""
    return _added(connection, asked, f"m.seq <= {asked.known_seq} AND m.time >= {asked.from_ms}", -1)


def _added(connection: sqlite3.Connection, asked: _Asked, which: str, sign: int) -> Iterator[tuple[str, Window, int]]:
    where, values = asked.scope.where()
    sql = (
        f"SELECT {asked.scope.column()}, m.time / {QUARTER_MS}, sum(m.cost / {NANO_PER_USD}), "
        f"sum(m.cost % {NANO_PER_USD}) FROM ({_CHANGES}) m JOIN series s ON s.id = m.series_id "
        f"WHERE {which} AND {where} GROUP BY 1, 2"
    )
    for text, quarter, usd, nano in connection.execute(sql, values):
        yield text, asked.windows.at(quarter * QUARTER_MS), sign * (usd * NANO_PER_USD + nano)


def _not_credited(connection: sqlite3.Connection, asked: _Asked) -> Iterator[tuple[str, Window, int]]:
    """What corrections lowered once the window was over: it stays spent in it."""
    where, values = asked.scope.where()
    sql = (
        f"SELECT {asked.scope.column()}, coalesce(e.charged_ms, a.at_ms), -a.cost_nano, (SELECT at_ms FROM "
        "ledger_commit WHERE first_seq <= a.seq ORDER BY first_seq DESC LIMIT 1) FROM adjustment a "
        "JOIN series s ON s.id = a.series_id LEFT JOIN event e ON e.seq = a.event_seq "
        f"WHERE a.cost_nano < 0 AND a.seq > ? AND {where}"
    )
    for text, time_ms, nano, corrected_ms in connection.execute(sql, [asked.known_seq, *values]):
        window = asked.windows.at(time_ms // QUARTER_MS * QUARTER_MS)
        if window.end_ms <= corrected_ms:
            yield text, window, nano


_CHANGES = (
    "SELECT seq, series_id, coalesce(charged_ms, at_ms) AS time, coalesce(cost_nano, 0) AS cost FROM event UNION ALL "
    "SELECT a.seq, a.series_id, coalesce(e.charged_ms, a.at_ms), a.cost_nano FROM adjustment a "
    "LEFT JOIN event e ON e.seq = a.event_seq"
)
_WINDOWS = (
    "SELECT value, start_ms, end_ms, settled_nano, credited_nano FROM budget_window "
    "WHERE budget_id = ? AND revision = ? AND start_ms >= ?"
)
_ACCOUNTS = (
    "SELECT a.value, a.start_ms, w.end_ms, a.settled_nano FROM budget_account a JOIN budget_window w "
    "ON w.budget_id = a.budget_id AND w.revision = a.revision AND w.value = a.value AND w.start_ms = a.start_ms "
    "WHERE a.budget_id = ? AND a.revision = ? AND a.start_ms >= ? AND a.source_id <> 0"
)
