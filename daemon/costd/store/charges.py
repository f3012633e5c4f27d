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
from costd.store.rows import insert_rows


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


class _Total:
    """What a commit adds to a window: by holder, and what is credited."""

    __slots__ = ("credited", "place", "settled")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.settled: dict[Holder, int] = {None: 0}
        self.credited = 0


def write_charges(commit: Commit, windows_of: WindowsOf) -> list[WindowCharge]:
    """Add the commit's charges to the windows that they fall under; what was added, and the totals after it.

    Sums stop at MOST_NANO. A window that a source's account stands in has a row of its own as well.
    """
    totals = _totals(commit, windows_of)
    windows = [
        (*key, total.place.end_ms, total.place.limit_nano, _capped(total.settled[None]), _capped(total.credited))
        for key, total in totals.items()
    ]
    accounts = [
        (*key, *holder, _capped(added), 0, 0)
        for key, total in totals.items()
        for holder, added in total.settled.items()
        if holder is not None
    ]
    rows = insert_rows(commit.connection, _INTO_WINDOW, 8, windows, _ADD_TO_WINDOW)
    done = []
    for *key, settled, credited in rows:
        total = totals[WindowKey(*key)]
        added = _capped(total.settled[None])
        done.append(WindowCharge(total.place, None, added, _capped(total.credited), settled, credited))
    for *key, source_id, epoch, settled in insert_rows(commit.connection, _INTO_ACCOUNT, 9, accounts, _ADD_TO_ACCOUNT):
        total, holder = totals[WindowKey(*key)], (source_id, epoch)
        done.append(WindowCharge(total.place, holder, _capped(total.settled[holder]), 0, settled, 0))
    return done


def _totals(commit: Commit, windows_of: WindowsOf) -> dict[WindowKey, _Total]:
    sums: dict[tuple[Holder, int, int, bool], int] = {}
    for holder, series_id, quarter, cost in commit.charges or ():
        at = (holder, series_id, quarter, cost < 0)
        sums[at] = sums.get(at, 0) + cost
    totals: dict[WindowKey, _Total] = {}
    for (holder, series_id, quarter, lowers), nano in sums.items():
        for place in windows_of(series_id, quarter):
            if lowers and place.end_ms <= commit.now_ms:
                continue
            total = totals.get(place.key)
            if total is None:
                total = totals[place.key] = _Total(place)
            if lowers:
                total.credited -= nano
            else:
                total.settled[holder] = total.settled.get(holder, 0) + nano
    return totals


def _capped(nano: int) -> int:
    return min(nano, MOST_NANO)


# A sum past 64 bits becomes a float within SQLite, of which min() takes the smaller integer.
_INTO_WINDOW = (
    "INSERT INTO budget_window (budget_id, revision, value, start_ms, end_ms, ceiling_nano, settled_nano, "
    "credited_nano)"
)
_ADD_TO_WINDOW = (
    " ON CONFLICT DO UPDATE SET ceiling_nano = max(ceiling_nano, excluded.ceiling_nano), "
    f"settled_nano = min({MOST_NANO}, settled_nano + excluded.settled_nano), "
    f"credited_nano = min({MOST_NANO}, credited_nano + excluded.credited_nano) "
    "RETURNING budget_id, revision, value, start_ms, settled_nano, credited_nano"
)
_INTO_ACCOUNT = (
    "INSERT INTO budget_account (budget_id, revision, value, start_ms, source_id, epoch, settled_nano, granted_nano, "
    "returned_nano)"
)
_ADD_TO_ACCOUNT = (
    f" ON CONFLICT DO UPDATE SET settled_nano = min({MOST_NANO}, settled_nano + excluded.settled_nano) "
    "RETURNING budget_id, revision, value, start_ms, source_id, epoch, settled_nano"
)
