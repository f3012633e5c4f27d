"""What had been recorded in the windows of a budget before it was made.

Nearly all of it is read beside the writer, from rollups (and from events at the edges of hours, while these are kept).
What came in meanwhile is counted from its events at the end of the very transaction that makes the budget: the next
one charges it. Rollups go by the time of records and windows by when they were reserved: the few that differ are moved.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from costd.domain.budget import Budget
from costd.domain.days import HOUR_MS, Span
from costd.domain.money import MOST_NANO, NANO_PER_USD
from costd.domain.window import FOREVER_MS, Window
from costd.domain.window_key import WindowKey
from costd.store.budget_scope import BudgetScope, scope_of
from costd.store.commit import QUARTER_MS, Commit
from costd.store.sums import sum_by

#: Records may be ahead of time by minutes, or by as much as the clock of a source is wrong; beyond so many windows
#: what was recorded before the budget does not count in them.
MAX_AHEAD = 50


class Before(NamedTuple):
    """What windows hold of the ledger up to number `seq`: nano-USD by (value, window). `from_ms` begins the first."""

    budget: Budget
    seq: int
    from_ms: int
    spent: dict[tuple[str, Window], int]


class Opened(NamedTuple):
    """A budget whose windows begin with what had been recorded in them before: {window: (its end, nano-USD)}."""

    budget: Budget
    windows: dict[WindowKey, tuple[int, int]]


def read_before(connection: sqlite3.Connection, budget: Budget, now_ms: int) -> Before:
    """What was recorded in the budget's present window, and in later ones, as of a snapshot."""
    present = budget.windows().at(now_ms)
    spent: defaultdict[tuple[str, Window], int] = defaultdict(int)
    scope = scope_of(connection, budget)
    if scope is not None:
        for window in _windows(connection, budget, present):
            for value, nano in (*_by_time(connection, scope, window), *_moved(connection, scope, window)):
                spent[value, window] += nano
    return Before(budget, _last_seq(connection), present.start_ms, dict(spent))


def settle_before(commit: Commit, before: Before) -> None:
    """Begin the budget's windows with what was recorded before, and with all of this commit; its row is there.

    Done at the end of the commit, which tells of it in `opened`.
    """
    commit.at_end.append(lambda commit: _settle(commit, before))


def _settle(commit: Commit, before: Before) -> None:
    connection, budget = commit.connection, before.budget
    spent = defaultdict(int, before.spent)
    scope = scope_of(connection, budget)
    if scope is not None:
        windows = budget.windows()
        for text, quarter, nano in _since(connection, scope, before.seq):
            window = windows.at(quarter * QUARTER_MS)
            if window.start_ms >= before.from_ms:
                for value in scope.values(text):
                    spent[value, window] += nano
    connection.execute(_NOTHING, (budget.id, budget.revision, before.from_ms))
    opened = Opened(budget, {})
    for (value, window), nano in spent.items():
        key = WindowKey(budget.id, budget.revision, value, window.start_ms)
        # What sources brought while the budget was in force is in their accounts.
        own = min(max(0, nano - _of_sources(connection, key)), MOST_NANO)
        connection.execute(_BEGIN, (*key, window.end_ms, budget.amount_nano, own))
        opened.windows[key] = (window.end_ms, own)
    commit.opened.append(opened)


def _windows(connection: sqlite3.Connection, budget: Budget, present: Window) -> Iterator[Window]:
    """The present window, and those after it that something was recorded in."""
    windows, window = budget.windows(), present
    yield window
    for _ in range(MAX_AHEAD):
        later = "SELECT min(hour) FROM rollup WHERE hour >= ?"
        hour = connection.execute(later, (window.end_ms // HOUR_MS,)).fetchone()[0]
        if window.end_ms == FOREVER_MS or hour is None:
            return
        window = windows.at(max(hour * HOUR_MS, window.end_ms))
        yield window


def _by_time(connection: sqlite3.Connection, scope: BudgetScope, window: Window) -> Iterator[tuple[str, int]]:
    end_ms = None if window.end_ms == FOREVER_MS else window.end_ms
    by = [scope.by] if scope.by else []
    for row in sum_by(connection, scope.wanted, by, Span(window.start_ms, end_ms)).rows:
        for value in scope.values(row.names[0] if by else ""):
            yield value, row.spend.cost_nano


def _moved(connection: sqlite3.Connection, scope: BudgetScope, window: Window) -> Iterator[tuple[str, int]]:
    """What was reserved in this window and recorded in another, and, below zero, the other way round."""
    where, values = scope.where()
    sql = (
        f"SELECT {scope.column()}, charged_ms >= ? AND charged_ms < ? AS here, sum(usd), sum(nano) FROM ("
        f"SELECT e.series_id, e.charged_ms, {_cost('e')} FROM event e WHERE {_MOVED} UNION ALL "
        f"SELECT e.series_id, e.charged_ms, {_cost('a')} FROM event e JOIN adjustment a ON a.event_seq = e.seq "
        f"WHERE {_MOVED}) m JOIN series s ON s.id = m.series_id WHERE {where} GROUP BY 1, 2"
    )
    bounds = [*window, *window]
    for text, is_here, usd, nano in connection.execute(sql, [*window, *bounds, *bounds, *values]):
        amount = usd * NANO_PER_USD + nano
        for value in scope.values(text):
            yield value, amount if is_here else -amount


def _since(connection: sqlite3.Connection, scope: BudgetScope, seq: int) -> Iterator[tuple[str, int, int]]:
    """(text of the column, quarter of an hour, nano-USD) of what has come into the ledger after a number."""
    where, values = scope.where()
    sql = (
        f"SELECT {scope.column()}, coalesce(charged_ms, at_ms) / {QUARTER_MS}, sum(usd), sum(nano) FROM ("
        f"SELECT e.series_id, e.charged_ms, e.at_ms, {_cost('e')} FROM event e WHERE e.seq > ? UNION ALL "
        f"SELECT a.series_id, e.charged_ms, a.at_ms, {_cost('a')} FROM adjustment a LEFT JOIN event e "
        "ON e.seq = a.event_seq WHERE a.seq > ?"
        f") m JOIN series s ON s.id = m.series_id WHERE {where} GROUP BY 1, 2"
    )
    for text, quarter, usd, nano in connection.execute(sql, [seq, seq, *values]):
        yield text, quarter, usd * NANO_PER_USD + nano


def _last_seq(connection: sqlite3.Connection) -> int:
    row = connection.execute(
        "SELECT first_seq + items - 1 FROM ledger_commit ORDER BY first_seq DESC LIMIT 1"
    ).fetchone()
    return int(row[0]) if row else 0


def _of_sources(connection: sqlite3.Connection, key: WindowKey) -> int:
    sql = (
        "SELECT settled_nano FROM budget_account "
        "WHERE (budget_id, revision, value, start_ms) = (?, ?, ?, ?) AND source_id <> 0"
    )
    return sum(settled for (settled,) in connection.execute(sql, key))


def _cost(of: str) -> str:
    """A cost in two halves, so that no sum overflows."""
    cost = f"coalesce({of}.cost_nano, 0)"
    return f"{cost} / {NANO_PER_USD} AS usd, {cost} % {NANO_PER_USD} AS nano"


# The first line is the condition of the index event_moved.
_MOVED = (
    f"e.charged_ms IS NOT NULL AND e.charged_ms / {QUARTER_MS} <> e.at_ms / {QUARTER_MS} "
    "AND (e.charged_ms >= ? AND e.charged_ms < ?) <> (e.at_ms >= ? AND e.at_ms < ?)"
)
_NOTHING = (
    "UPDATE budget_window SET settled_nano = 0, credited_nano = 0 "
    "WHERE budget_id = ? AND revision = ? AND start_ms >= ?"
)
_BEGIN = (
    "INSERT INTO budget_window (budget_id, revision, value, start_ms, end_ms, ceiling_nano, settled_nano, "
    "credited_nano) VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET "
    "ceiling_nano = max(ceiling_nano, excluded.ceiling_nano), settled_nano = excluded.settled_nano"
)
