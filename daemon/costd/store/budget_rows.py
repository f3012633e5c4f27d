"""Windows of budgets as they are kept: what was spent in them, what sources hold of them, how much may be reserved."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from costd.domain.money import MOST_NANO
from costd.domain.window_key import WindowKey
from costd.store.charges import Place
from costd.store.commit import Commit

#: Keys looked up in one statement: four parameters each.
_LOOKUP = 200


class AccountRow(NamedTuple):
    """What a source holds of a window in one of its epochs: counters that only grow, in nano-USD."""

    granted_nano: int
    returned_nano: int
    settled_nano: int


@dataclass(slots=True)
class WindowRow:
    """A window, and the accounts in it by (source, epoch). What was recorded here is `settled_nano`."""

    end_ms: int
    ceiling_nano: int
    settled_nano: int
    credited_nano: int
    accounts: dict[tuple[int, bytes], AccountRow] = field(default_factory=dict)


def read_open_windows(connection: sqlite3.Connection, now_ms: int) -> dict[WindowKey, WindowRow]:
    """Every window that is not over, of the present revisions of budgets that are not removed."""
    where = f"w.end_ms > ? AND {_PRESENT}"
    return _read(connection, where, (now_ms,), _PRESENT_JOIN)


def read_windows(connection: sqlite3.Connection, keys: Collection[WindowKey]) -> dict[WindowKey, WindowRow]:
    """These windows, as far as there are rows of them."""
    found: dict[WindowKey, WindowRow] = {}
    every = list(keys)
    for start in range(0, len(every), _LOOKUP):
        chunk = every[start : start + _LOOKUP]
        where = f"(w.budget_id, w.revision, w.value, w.start_ms) IN (VALUES {', '.join(['(?, ?, ?, ?)'] * len(chunk))})"
        found.update(_read(connection, where, [part for key in chunk for part in key]))
    return found


def read_budget_windows(connection: sqlite3.Connection, budget_id: str, since_ms: int) -> dict[WindowKey, WindowRow]:
    """The windows of a budget, of every revision, that end after a moment."""
    return _read(connection, "w.budget_id = ? AND w.end_ms > ?", (budget_id, since_ms))


def _read(
    connection: sqlite3.Connection, where: str, values: Sequence[object], join: str = ""
) -> dict[WindowKey, WindowRow]:
    found: dict[WindowKey, WindowRow] = {}
    for *key, end_ms, ceiling, settled, credited in connection.execute(
        f"SELECT {_KEY}, w.end_ms, w.ceiling_nano, w.settled_nano, w.credited_nano FROM budget_window w {join} "
        f"WHERE {where}",
        values,
    ):
        found[WindowKey(*key)] = WindowRow(end_ms, ceiling, settled, credited)
    for *key, source_id, epoch, granted, returned, settled in connection.execute(
        f"SELECT {_KEY}, a.source_id, a.epoch, a.granted_nano, a.returned_nano, a.settled_nano FROM budget_window w "
        f"{join} JOIN budget_account a ON {_OF_WINDOW} WHERE {where}",
        values,
    ):
        found[WindowKey(*key)].accounts[source_id, epoch] = AccountRow(granted, returned, settled)
    return found


def open_windows(commit: Commit, places: Iterable[Place]) -> None:
    """Make rows of windows that have none, and raise the ceilings of the others to their limits."""
    commit.connection.executemany(_OPEN, [(*place.key, place.end_ms, place.limit_nano) for place in places])


def write_accounts(commit: Commit, accounts: Mapping[tuple[WindowKey, int, bytes], tuple[int, int]]) -> None:
    """Raise what is granted and returned in all, by window, source and epoch; neither ever goes down.

    The windows have rows (see open_windows).
    """
    rows = [(*key, source_id, epoch, *pair) for (key, source_id, epoch), pair in accounts.items()]
    commit.connection.executemany(_RAISE, rows)


def return_all(commit: Commit, source_id: int) -> None:
    """A source is forgotten: what was granted to it in any epoch and not spent comes back."""
    commit.connection.execute(
        "UPDATE budget_account SET returned_nano = granted_nano WHERE source_id = ?", (source_id,)
    )


def read_marks(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """{(budget, value): the most that may be reserved at one time}."""
    rows = connection.execute("SELECT budget_id, value, mark_nano FROM budget_mark")
    return {(budget_id, value): mark for budget_id, value, mark in rows}


def write_marks(commit: Commit, marks: Mapping[tuple[str, str], int]) -> None:
    """Set marks; one of nothing is taken away."""
    connection = commit.connection
    connection.executemany(
        "INSERT INTO budget_mark (budget_id, value, mark_nano) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET mark_nano = excluded.mark_nano",
        [(*key, min(mark, MOST_NANO)) for key, mark in marks.items() if mark > 0],
    )
    connection.executemany(
        "DELETE FROM budget_mark WHERE budget_id = ? AND value = ?", [key for key, mark in marks.items() if mark <= 0]
    )


_KEY = "w.budget_id, w.revision, w.value, w.start_ms"
_OF_WINDOW = "a.budget_id = w.budget_id AND a.revision = w.revision AND a.value = w.value AND a.start_ms = w.start_ms"
_PRESENT_JOIN = "JOIN budget b ON b.id = w.budget_id"
_PRESENT = "b.revision = w.revision AND b.removed_ms IS NULL"
_OPEN = (
    "INSERT INTO budget_window (budget_id, revision, value, start_ms, end_ms, ceiling_nano, settled_nano, "
    "credited_nano) VALUES (?, ?, ?, ?, ?, ?, 0, 0) ON CONFLICT DO UPDATE SET "
    "ceiling_nano = max(ceiling_nano, excluded.ceiling_nano)"
)
_RAISE = (
    "INSERT INTO budget_account (budget_id, revision, value, start_ms, source_id, epoch, granted_nano, "
    "returned_nano, settled_nano) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET "
    "granted_nano = max(granted_nano, excluded.granted_nano), "
    "returned_nano = max(returned_nano, excluded.returned_nano)"
)
