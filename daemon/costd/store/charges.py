"""What a commit's records come to in the windows of budgets, written in the commit's own transaction.

What costs something is settled: in the window itself where it was recorded here, in the account of a source and its
epoch where a source brought it. What a correction lowers is credited to the window, by whomever, and only while the
window is open: what is over is not spent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from costd.domain.money import MOST_NANO
from costd.domain.window_key import WindowKey
from costd.store.commit import Commit, Holder


class Place(NamedTuple):
    """A window that is charged, its end and its limit."""

    key: WindowKey
    end_ms: int
    limit_nano: int


#: The windows that a series falls under in a quarter of an hour (its number since 1970).
WindowsOf = Callable[[int, int], Sequence[Place]]


class WindowCharge(NamedTuple):
    """What a commit adds to a window by one holder, and what that comes to.

    `settled_nano` is the holder's own; what is credited is told with the holder None, whoever brought it.
    """

    place: Place
    holder: Holder
    added_nano: int
    added_credit_nano: int
    settled_nano: int
    credited_nano: int


def write_charges(commit: Commit, windows_of: WindowsOf) -> list[WindowCharge]:
    """Add the commit's charges to the windows that they fall under; what was added, and the totals after it.

    Sums stop at MOST_NANO. A window that a source's account stands in has a row of its own as well.
    """
    settled: dict[tuple[WindowKey, Holder], int] = {}
    credited: dict[WindowKey, int] = {}
    places: dict[WindowKey, Place] = {}
    for charge in commit.charges or ():
        cost = charge.cost_nano
        for place in windows_of(charge.series_id, charge.quarter):
            key = place.key
            if cost < 0 and place.end_ms <= commit.now_ms:
                continue
            places[key] = place
            settled.setdefault((key, None), 0)
            if cost < 0:
                credited[key] = credited.get(key, 0) - cost
            else:
                settled[key, charge.holder] = settled.get((key, charge.holder), 0) + cost
    return [
        _add(commit, places[key], holder, added, credited.get(key, 0) if holder is None else 0)
        for (key, holder), added in settled.items()
    ]


def _add(commit: Commit, place: Place, holder: Holder, added: int, credited: int) -> WindowCharge:
    added, credited = min(added, MOST_NANO), min(credited, MOST_NANO)
    if holder is None:
        row = (*place.key, place.end_ms, place.limit_nano, added, credited)
        totals = commit.connection.execute(_INTO_WINDOW, row).fetchone()
        return WindowCharge(place, None, added, credited, *totals)
    (total,) = commit.connection.execute(_INTO_ACCOUNT, (*place.key, *holder, added)).fetchone()
    return WindowCharge(place, holder, added, 0, total, 0)


# A sum past 64 bits becomes a float within SQLite, of which min() takes the smaller integer.
_INTO_WINDOW = (
    "INSERT INTO budget_window (budget_id, revision, value, start_ms, end_ms, ceiling_nano, settled_nano, "
    "credited_nano) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "ceiling_nano = max(ceiling_nano, excluded.ceiling_nano), "
    f"settled_nano = min({MOST_NANO}, settled_nano + excluded.settled_nano), "
    f"credited_nano = min({MOST_NANO}, credited_nano + excluded.credited_nano) "
    "RETURNING settled_nano, credited_nano"
)
_INTO_ACCOUNT = (
    "INSERT INTO budget_account (budget_id, revision, value, start_ms, source_id, epoch, granted_nano, "
    "returned_nano, settled_nano) VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT DO UPDATE SET "
    f"settled_nano = min({MOST_NANO}, settled_nano + excluded.settled_nano) RETURNING settled_nano"
)
