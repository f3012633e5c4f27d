"""A window that is in use at this daemon: its budget, its row, and the till that callers reserve from."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from costd.domain.books import open_books
from costd.domain.budget import Budget
from costd.domain.reservation import Till
from costd.domain.window import FOREVER_MS, Window
from costd.domain.window_key import WindowKey
from costd.store.budget_rows import AccountRow, WindowRow
from costd.store.charges import WindowCharge


class Noted(NamedTuple):
    """A budget as a preflight saw it, in nano-USD; `resets_ms` is None where its window never ends."""

    id: str
    name: str
    scope_type: str
    limit_nano: int
    spent_nano: int
    remaining_nano: int
    resets_ms: int | None


class LiveWindow:
    """One window in memory. Whoever reads or changes it holds the lock of the tills, or reads single values.

    `books` are kept where this daemon decides itself; where they do not balance, which is a bug, they are not sound.

    `elsewhere_nano` is what is left beyond the till, as far as this daemon knows: nothing at an authority. `recorded`
    is, at a joined sidecar, what had been recorded in it (row.settled_nano) as of numbers of the ledger.
    """

    __slots__ = (
        "_resets_ms",
        "_scope_type",
        "books",
        "budget",
        "elsewhere_nano",
        "is_idle",
        "is_sound",
        "key",
        "next_is_asked",
        "raising_until_ms",
        "recorded",
        "row",
        "till",
        "window",
    )

    def __init__(self, key: WindowKey, budget: Budget, window: Window, row: WindowRow, till: Till) -> None:
        self.key = key
        self.budget = budget
        self.window = window
        self.row = row
        self.till = till
        self.books = open_books(budget.amount_nano)
        self.is_sound = True
        self.elsewhere_nano = 0
        self.recorded: deque[tuple[int, int]] = deque()
        #: Whether the window after it was asked for; until when a higher mark is waited for, in elapsed time.
        self.next_is_asked = False
        self.raising_until_ms = 0
        #: Whether nobody has looked it up since it came into memory, or since the last sweep.
        self.is_idle = True
        # The same for every answer: the scope is its revision's.
        dimensions = [dimension for dimension, _ in budget.scope]
        self._scope_type = ",".join([*dimensions, *([budget.each] if budget.each else [])])
        self._resets_ms = None if window.end_ms >= FOREVER_MS else window.end_ms

    def charge(self, charge: WindowCharge) -> None:
        """Take over what its row comes to after a commit."""
        row = self.row
        if charge.holder is None:
            row.settled_nano, row.credited_nano = charge.settled_nano, charge.credited_nano
        else:
            account = row.accounts.get(charge.holder, AccountRow(0, 0, 0))
            row.accounts[charge.holder] = account._replace(settled_nano=charge.settled_nano)

    @property
    def left_nano(self) -> int:
        """What may still be reserved, as far as this daemon knows; below 0 where the limit is passed."""
        till = self.till
        return till.bound_nano - till.used_nano - till.reserved_nano + self.elsewhere_nano

    def noted(self) -> Noted:
        """How it stands, for the answer to a preflight."""
        budget, left_nano = self.budget, self.left_nano
        return Noted(
            budget.id,
            budget.name,
            self._scope_type,
            budget.amount_nano,
            budget.amount_nano - left_nano,
            max(0, left_nano),
            self._resets_ms,
        )
