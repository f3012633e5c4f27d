"""How windows of budgets stand by the ledger: the fullest of a period, those that ended, and who holds what."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from costd.domain.window_key import WindowKey


class Account(NamedTuple):
    """What a source has of a window in one of its epochs, in nano-USD; `source` is its name, "" for this daemon."""

    source: str
    granted_nano: int
    returned_nano: int
    settled_nano: int


class WindowRows(NamedTuple):
    """A window as it is kept: what was recorded here, corrections that lower it, and the accounts of sources."""

    key: WindowKey
    end_ms: int
    ceiling_nano: int
    settled_nano: int
    credited_nano: int
    accounts: Sequence[Account]


def count_windows(connection: sqlite3.Connection, budget_id: str, revision: int, start_ms: int) -> int:
    """How many windows a budget has in a period: one, or one for each value."""
    row = connection.execute(
        "SELECT count(*) FROM budget_window WHERE budget_id = ? AND revision = ? AND start_ms = ?",
        (budget_id, revision, start_ms),
    ).fetchone()
    return int(row[0])


def fullest(
    connection: sqlite3.Connection, budget_id: str, revision: int, start_ms: int, limit: int
) -> list[WindowKey]:
    """Those of a period of which most is spent or held, at most `limit`."""
    # As floats, which cannot overflow: only for the order.
    rows = connection.execute(
        "SELECT w.value FROM budget_window w LEFT JOIN (SELECT value, total(max(settled_nano, granted_nano - "
        "returned_nano)) AS charge FROM budget_account WHERE budget_id = ?1 AND revision = ?2 AND start_ms = ?3 "
        "GROUP BY value) a USING (value) WHERE w.budget_id = ?1 AND w.revision = ?2 AND w.start_ms = ?3 "
        "ORDER BY 1.0 * w.settled_nano - w.credited_nano + coalesce(a.charge, 0) DESC, w.value LIMIT ?4",
        (budget_id, revision, start_ms, limit),
    )
    return [WindowKey(budget_id, revision, value, start_ms) for (value,) in rows]


def ended(connection: sqlite3.Connection, budget_id: str, now_ms: int, limit: int) -> list[WindowKey]:
    """Windows of any revision that have ended, newest first, at most `limit`."""
    rows = connection.execute(
        "SELECT revision, value, start_ms FROM budget_window WHERE budget_id = ? AND end_ms <= ? "
        "ORDER BY start_ms DESC, revision DESC, value LIMIT ?",
        (budget_id, now_ms, limit),
    )
    return [WindowKey(budget_id, *row) for row in rows]


def read_rows(connection: sqlite3.Connection, keys: Collection[WindowKey]) -> dict[WindowKey, WindowRows]:
    """These windows, as far as there are rows of them."""
    found = {}
    for key in keys:
        row = connection.execute(
            "SELECT end_ms, ceiling_nano, settled_nano, credited_nano FROM budget_window "
            "WHERE budget_id = ? AND revision = ? AND value = ? AND start_ms = ?",
            key,
        ).fetchone()
        if row is not None:
            end_ms, ceiling_nano, settled_nano, credited_nano = row
            accounts = _accounts(connection, key)
            found[key] = WindowRows(key, end_ms, ceiling_nano, settled_nano, credited_nano, accounts)
    return found


def source_names(connection: sqlite3.Connection) -> dict[int, str]:
    """The names of a hub's sources by their numbers."""
    return dict(connection.execute("SELECT id, name FROM source").fetchall())


def _accounts(connection: sqlite3.Connection, key: WindowKey) -> list[Account]:
    rows = connection.execute(
        "SELECT coalesce(s.name, ''), a.granted_nano, a.returned_nano, a.settled_nano FROM budget_account a "
        "LEFT JOIN source s ON s.id = a.source_id "
        "WHERE a.budget_id = ? AND a.revision = ? AND a.value = ? AND a.start_ms = ? ORDER BY s.name",
        key,
    )
    return [Account(*row) for row in rows]
