"""Which windows of which budgets a series falls under at a moment."""

from __future__ import annotations

import logging

from costd.domain.budget import Budget
from costd.domain.budget_index import BudgetIndex, Match
from costd.domain.errors import Invalid
from costd.domain.series import Series
from costd.domain.window import Window, Windows
from costd.domain.window_key import WindowKey
from costd.services.attributed import Attributed

#: Series remembered with the budgets they fall under.
MAX_REMEMBERED = 20_000

_log = logging.getLogger(__name__)


class Matches:
    """Budgets in force by the series that fall under them. One thread's at a time."""

    def __init__(self, attributed: Attributed) -> None:
        self._attributed = attributed
        self._index = BudgetIndex(())
        self.has_any = False
        self._matches: dict[Series, tuple[Match, ...]] = {}
        self._windows: dict[tuple[str, int], Windows | None] = {}
        self._last: dict[tuple[str, int], Window] = {}

    def use(self, index: BudgetIndex) -> None:
        """Find by these budgets from now on."""
        self._index = index
        self.has_any = bool(index)
        self._windows = {}
        self._last = {}
        self.forget()

    def forget(self) -> None:
        """The catalog attributes otherwise than before."""
        self._matches = {}

    def of(self, series: Series) -> tuple[Match, ...]:
        """The budgets that a series falls under."""
        found = self._matches.get(series)
        if found is None:
            if len(self._matches) >= MAX_REMEMBERED:
                self._matches = {}
            found = self._matches[series] = self._index.matching(series.org_id, self._attributed.dimensions(series))
        return found

    def window(self, budget: Budget, at_ms: int) -> Window | None:
        """The window of a budget that holds a moment; None where it is none of the budget's."""
        at = budget.id, budget.revision
        window = self._last.get(at)
        if window is None or not window.start_ms <= at_ms < window.end_ms:
            windows = self._windows_of(budget)
            if windows is None:
                return None
            window = self._last[at] = windows.at(at_ms)
        return window if window.end_ms > budget.since_ms else None

    def _windows_of(self, budget: Budget) -> Windows | None:
        at = budget.id, budget.revision
        if at not in self._windows:
            try:
                self._windows[at] = budget.windows()
            except Invalid as error:
                _log.error('the budget "%s" is not in force here: %s', budget.name, error)
                self._windows[at] = None
        return self._windows[at]


def key_of(match: Match, window: Window) -> WindowKey:
    """The key of a budget's window for the value that matched."""
    return WindowKey(*match.key, window.start_ms)
