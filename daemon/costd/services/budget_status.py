"""How budgets stand: what is spent, held and left of their windows, where these are heading, and who holds what.

Windows in memory are read there, all figures at one moment; others, which nobody uses, from the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from costd.clock import Clock
from costd.domain import forecast
from costd.domain.access import Caller
from costd.domain.books import Books
from costd.domain.budget import Budget
from costd.domain.errors import Invalid
from costd.domain.forecast import Pace
from costd.domain.standing import Holding, WindowStanding, stand
from costd.domain.usage import check_string
from costd.domain.window import TOTAL, Window
from costd.domain.window_key import WindowKey
from costd.services.budgets import Budgets
from costd.store import budget_standing as store
from costd.store.budget_standing import WindowRows
from costd.store.budgets import HUB, StoredBudget, StoredChange
from costd.store.reader import Readers

#: Windows in one answer, and by default.
MAX_WINDOWS = 1_000
DEFAULT_WINDOWS = 20
DEFAULT_HISTORY = 100

#: The books of a window at one moment, and what calls under way have reserved of it, in nano-USD; None where it is not
#: in memory, or this daemon does not decide on it.
ReadBooks = Callable[[WindowKey], tuple[Books, int] | None]
#: What calls under way have reserved of a window.
ReadReserved = Callable[[WindowKey], int]


class BudgetStanding(NamedTuple):
    """A budget, its present windows, the fullest first, and how many there are."""

    held: StoredBudget
    windows: Sequence[WindowStanding]
    window_count: int


class BudgetHistory(NamedTuple):
    """What became of a budget, and how its windows ended, both newest first."""

    held: StoredBudget
    changes: Sequence[StoredChange]
    windows: Sequence[WindowStanding]


class BudgetStatus:
    """Answers how budgets stand."""

    def __init__(self, budgets: Budgets, readers: Readers, clock: Clock) -> None:
        self._budgets = budgets
        self._readers = readers
        self._clock = clock
        self._books: ReadBooks = lambda _: None
        self._reserved: ReadReserved = lambda _: 0
        self._burn: Callable[[WindowKey], Pace | None] = lambda _: None

    def read_tills_from(self, books: ReadBooks, reserved: ReadReserved) -> None:
        """Say how windows in memory stand."""
        self._books = books
        self._reserved = reserved

    def read_burn_from(self, burn: Callable[[WindowKey], Pace | None]) -> None:
        """Say how fast a window is being spent at present; None where nothing was lately."""
        self._burn = burn

    def standing(self, caller: Caller, wanted: str, *, value: str | None = None, limit: int = 0) -> BudgetStanding:
        """How a budget stands, by its id or name: its fullest windows, or that of one value of its `each`.

        Raises NotFound, and Invalid where there are no values.
        """
        held = self._budgets.get(caller, wanted)
        limit = _checked(limit, DEFAULT_WINDOWS)
        if value is None:
            return self._standing(held, limit)
        if not held.budget.each:
            raise Invalid("value", "may be named of a budget that is for each of something; this one is for all")
        check_string(value, "value")
        now_ms = self._clock.now_ms()
        if (window := _present(held.budget, now_ms)) is None:
            return BudgetStanding(held, [], 0)
        key = WindowKey(held.budget.id, held.budget.revision, value, window.start_ms)
        return BudgetStanding(held, self._stand(held, window, [key], now_ms), 1)

    def standings(self, caller: Caller) -> list[BudgetStanding]:
        """The organization's budgets by name, each with its fullest window."""
        return [self._standing(held, 1) for held in self._budgets.all(caller)]

    def standing_of(self, held: StoredBudget, limit: int) -> BudgetStanding:
        """How any budget stands, with its fullest windows: for metrics and alerts."""
        return self._standing(held, limit)

    def history(self, caller: Caller, wanted: str, limit: int = 0) -> BudgetHistory:
        """What became of a budget, by its id or name, one that was removed by its id. Raises NotFound."""
        held = self._budgets.get_past(caller, wanted)
        limit = _checked(limit, DEFAULT_HISTORY)
        changes = self._budgets.changes(caller, held.budget.id, limit)
        with self._readers.snapshot() as connection:
            keys = store.ended(connection, held.budget.id, self._clock.now_ms(), limit)
            rows = store.read_rows(connection, keys)
        windows = [self._figures(held, row, row.ceiling_nano, 0) for row in rows.values()]
        return BudgetHistory(held, changes, windows)

    def _standing(self, held: StoredBudget, limit: int) -> BudgetStanding:
        budget, now_ms = held.budget, self._clock.now_ms()
        if (window := _present(budget, now_ms)) is None:
            return BudgetStanding(held, [], 0)
        with self._readers.snapshot() as connection:
            place = (connection, budget.id, budget.revision, window.start_ms)
            keys = store.fullest(*place, limit)
            count = store.count_windows(*place)
        if not budget.each:
            keys, count = [WindowKey(budget.id, budget.revision, "", window.start_ms)], 1
        return BudgetStanding(held, self._stand(held, window, keys, now_ms), count)

    def _stand(
        self, held: StoredBudget, window: Window, keys: Collection[WindowKey], now_ms: int
    ) -> list[WindowStanding]:
        """These windows of one period, the fullest first."""
        budget = held.budget
        live = {key: books for key in keys if (books := self._books(key)) is not None}
        # Before what is settled: what is recorded this very moment may be counted twice, and is never left out.
        reserved = {key: self._reserved(key) for key in keys if key not in live}
        before = _window_before(budget, window)
        earlier = {key: key._replace(start_ms=before.start_ms) for key in keys} if before is not None else {}
        with self._readers.snapshot() as connection:
            rows = store.read_rows(connection, reserved)
            names = store.source_names(connection) if any(books.accounts for books, _ in live.values()) else {}
            rows_before = store.read_rows(connection, [*earlier.values()])
        found = []
        for key in keys:
            if key in live:
                plain = _of_books(key, window, live[key], names)
            else:
                row = rows.get(key) or WindowRows(key, window.end_ms, 0, 0, 0, ())
                plain = self._figures(held, row, budget.amount_nano, reserved[key])
            past = rows_before.get(earlier[key]) if earlier else None
            before_nano = None if past is None else self._figures(held, past, 0, 0).settled_nano
            pace = forecast.pace_of(budget.period, window, plain.settled_nano, before_nano, now_ms)
            found.append(self._projected(plain, pace, now_ms))
        return sorted(found, key=lambda standing: (-standing.charged_nano, standing.key.value))

    def _projected(self, plain: WindowStanding, pace: Pace | None, now_ms: int) -> WindowStanding:
        burn = self._burn(plain.key)
        fastest = burn if pace is None or (burn is not None and burn.is_faster(pace)) else pace
        return plain._replace(
            forecast_nano=forecast.forecast_nano(plain.settled_nano, pace, plain.window, now_ms),
            exhausted_in_s=forecast.exhausted_in_s(plain.available_nano, fastest, plain.window, now_ms),
        )

    def _figures(self, held: StoredBudget, row: WindowRows, limit_nano: int, reserved_nano: int) -> WindowStanding:
        window = Window(row.key.start_ms, row.end_ms)
        if held.origin == HUB:
            return _own_share(row, window, limit_nano, reserved_nano)
        holdings = [
            Holding(account.source, account.granted_nano - account.returned_nano, account.settled_nano)
            for account in row.accounts
        ]
        own_nano = row.settled_nano - row.credited_nano
        return stand(row.key, window, limit_nano, own_nano, reserved_nano, holdings)


def _of_books(key: WindowKey, window: Window, live: tuple[Books, int], names: Mapping[int, str]) -> WindowStanding:
    """A window at its authority, in memory; `names` are those of sources."""
    books, reserved_nano = live
    holdings = [
        Holding(names.get(holder.source, ""), account.bound_nano, account.settled_nano)
        for holder, account in books.accounts.items()
    ]
    own_nano = books.own_settled_nano - books.credited_nano
    return stand(key, window, books.limit_nano, own_nano, reserved_nano, holdings)


def _own_share(row: WindowRows, window: Window, limit_nano: int, reserved_nano: int) -> WindowStanding:
    """A window at a sidecar that has a hub: what was recorded here, and what it holds of the hub's money."""
    own_nano = row.settled_nano - row.credited_nano
    bound_nano = sum(account.granted_nano - account.returned_nano for account in row.accounts)
    idle_nano = max(0, bound_nano - own_nano - reserved_nano)
    plain = stand(row.key, window, limit_nano, own_nano, reserved_nano + idle_nano, ())
    return plain._replace(reserved_nano=reserved_nano, is_partial=True)


def _present(budget: Budget, now_ms: int) -> Window | None:
    """The present window; None where this machine does not know the time zone that a hub has."""
    try:
        return budget.windows().at(now_ms)
    except Invalid:
        return None


def _window_before(budget: Budget, window: Window) -> Window | None:
    return None if budget.period == TOTAL or window.start_ms <= 0 else budget.windows().at(window.start_ms - 1)


def _checked(limit: int, default: int) -> int:
    if not 0 <= limit <= MAX_WINDOWS:
        raise Invalid("limit", f"must be between 1 and {MAX_WINDOWS}")
    return limit or default
