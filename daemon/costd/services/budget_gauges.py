"""Budgets for Prometheus: which windows have series of their own, and how they stand."""

from __future__ import annotations

from costd.domain.standing import WindowStanding
from costd.domain.window import FOREVER_MS
from costd.metrics.budgets import BudgetReading, BudgetReadings, ReservationReadings
from costd.services.budget_status import BudgetStatus
from costd.services.budgets import Budgets
from costd.services.tills import Tills
from costd.store.budgets import StoredBudget

#: Values of one budget's `each` with series of their own: those of which most is spent or held.
MAX_VALUES = 100


class BudgetGauges:
    """Read at every scrape. A budget has a window at least, the oldest first; what is over goes to further values."""

    def __init__(
        self, budgets: Budgets, status: BudgetStatus, tills: Tills, *, max_series: int, max_reservations: int
    ) -> None:
        self._budgets = budgets
        self._status = status
        self._tills = tills
        self._most = max_series
        self._capacity = max_reservations

    def readings(self) -> BudgetReadings:
        """How budgets in force stand. Raises Unavailable where the ledger does not answer."""
        in_force = sorted(self._budgets.all_in_force(), key=lambda held: (held.created_ms, held.budget.id))
        shown = in_force[: self._most]
        many = sum(1 for held in shown if held.budget.each)
        values = min(MAX_VALUES, 1 + (self._most - len(shown)) // many) if many else 1
        windows, beyond = [], len(in_force) - len(shown)
        for held in shown:
            standing = self._status.standing_of(held, values if held.budget.each else 1)
            beyond += standing.window_count - len(standing.windows)
            windows += [_reading(held, window) for window in standing.windows]
        hard = sum(1 for held in in_force if held.budget.hard)
        return BudgetReadings(windows, beyond, hard, len(in_force) - hard)

    def reservations(self) -> ReservationReadings:
        """What calls under way have reserved."""
        return ReservationReadings(self._tills.open_reservations, self._capacity, self._tills.expired)


def _reading(held: StoredBudget, window: WindowStanding) -> BudgetReading:
    end_ms = window.window.end_ms
    is_whole = not window.is_partial
    return BudgetReading(
        held.organization,
        held.budget.name,
        window.key.value,
        window.limit_nano,
        window.settled_nano,
        window.reserved_nano,
        window.held_nano,
        window.available_nano if is_whole else None,
        window.overshoot_nano if is_whole else None,
        window.forecast_nano if is_whole else None,
        window.exhausted_in_s if is_whole else None,
        None if end_ms >= FOREVER_MS else end_ms,
    )
