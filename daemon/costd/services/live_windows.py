"""All windows in use at this daemon, found by what falls under them, and the marks that hold for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from costd.domain.budget import Budget
from costd.domain.budget_index import BudgetIndex
from costd.domain.reservation import Till
from costd.domain.series import Series
from costd.domain.usage import Usage
from costd.domain.window import Window
from costd.domain.window_key import WindowKey
from costd.services.attributed import Attributed
from costd.services.live_window import LiveWindow, Noted
from costd.services.marks import MarkKey, Marks
from costd.services.matches import Matches, key_of
from costd.store.attribution import Assigned, Said
from costd.store.budget_rows import WindowRow
from costd.store.charges import Place
from costd.store.commit import QUARTER_MS

#: Series remembered with their windows.
MAX_REMEMBERED = 20_000

#: Windows by their keys, each with its budget.
Wanted = dict[WindowKey, tuple[Budget, Window]]


class Found(NamedTuple):
    """The windows of a series, between two moments; `shared` is what the first of its callers said."""

    shared: tuple[object, ...]
    from_ms: int
    until_ms: int
    all: tuple[LiveWindow, ...]
    hard: tuple[LiveWindow, ...]
    tills: tuple[Till, ...]

    def tightest(self) -> Noted | None:
        """The window with the least left; a plain loop, because every preflight passes here."""
        tightest, least_nano = None, 0
        for live in self.all:
            till = live.till
            left_nano = till.bound_nano - till.used_nano - till.reserved_nano + live.elsewhere_nano
            if tightest is None or left_nano < least_nano:
                tightest, least_nano = live, left_nano
        return None if tightest is None else tightest.noted()


class LiveWindows:
    """Whoever calls this holds the lock of the tills, but for `by_key`, which may be looked into from any thread."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.by_key: dict[WindowKey, LiveWindow] = {}
        self.attributed = Attributed()
        self._matches = Matches(self.attributed)
        self._by_mark: dict[MarkKey, list[LiveWindow]] = {}
        self._found: dict[Series, Found] = {}

    @property
    def has_budgets(self) -> bool:
        """Whether there is any budget in force."""
        return self._matches.has_any

    def use(self, index: BudgetIndex) -> None:
        """Find by these budgets from now on."""
        self._matches.use(index)
        self._found = {}

    def forget(self) -> None:
        """Find everything anew."""
        self._matches.forget()
        self._found = {}

    def renew(self, said: Mapping[Said, Assigned], *, is_whole: bool) -> bool:
        """The catalog says where things belong now; whether that is any news."""
        is_news = self.attributed.renew(said, is_whole=is_whole)
        if is_news:
            self.forget()
        return is_news

    # -- found ------------------------------------------------------------------------------------------------------

    def find(self, series: Series, estimate: Usage, at_ms: int) -> Found | None:
        """The windows that a call falls under at a moment; None where one of them is not in memory."""
        found = self._found.get(series)
        if found is not None and found.from_ms <= at_ms < found.until_ms:
            return found
        if not self.attributed.knows_org(series.org_id):
            return None
        lives = []
        from_ms, until_ms = 0, 2**63
        for match in self._matches.of(series):
            window = self._matches.window(match.budget, at_ms)
            if window is None:
                continue
            live = self.by_key.get(key_of(match, window))
            if live is None:
                return None
            live.is_idle = False
            lives.append(live)
            from_ms, until_ms = max(from_ms, window.start_ms), min(until_ms, window.end_ms)
        hard = tuple(live for live in lives if live.budget.hard)
        if len(self._found) >= MAX_REMEMBERED:
            self._found = {}
        found = Found(estimate.shared(), from_ms, until_ms, tuple(lives), hard, tuple(live.till for live in hard))
        self._found[series] = found
        return found

    def missing(self, series: Series, at_ms: int) -> Wanted:
        """The windows that a series falls under at a moment and that are not in memory."""
        wanted: Wanted = {}
        for match in self._matches.of(series):
            window = self._matches.window(match.budget, at_ms)
            if window is not None and (key := key_of(match, window)) not in self.by_key:
                wanted[key] = match.budget, window
        return wanted

    def present(self, budgets: Iterable[Budget], now_ms: int) -> Wanted:
        """The present windows of budgets; of those with `each`, where something may be reserved."""
        values: dict[str, list[str]] = {}
        for budget_id, value in self.marks.known():
            values.setdefault(budget_id, []).append(value)
        wanted: Wanted = {}
        for budget in budgets:
            window = self._matches.window(budget, now_ms)
            for value in values.get(budget.id, ()) if budget.each else ("",):
                if window is not None:
                    wanted[WindowKey(budget.id, budget.revision, value, window.start_ms)] = budget, window
        return wanted

    def places(self, series: Series, quarter: int) -> list[Place]:
        """The windows that a series falls under in a quarter of an hour, in memory or not."""
        found = []
        for match in self._matches.of(series):
            window = self._matches.window(match.budget, quarter * QUARTER_MS)
            if window is not None:
                found.append(Place(key_of(match, window), window.end_ms, match.budget.amount_nano))
        return found

    def window(self, budget: Budget, at_ms: int) -> Window | None:
        """The window of a budget that holds a moment; None where it is none of the budget's."""
        return self._matches.window(budget, at_ms)

    # -- in memory --------------------------------------------------------------------------------------------------

    def add(self, key: WindowKey, budget: Budget, window: Window, row: WindowRow) -> LiveWindow:
        """A window comes into memory."""
        live = self.by_key[key] = LiveWindow(key, budget, window, row, self.marks.open_till(key, window))
        self._by_mark.setdefault((key.budget_id, key.value), []).append(live)
        return live

    def drop(self, live: LiveWindow) -> None:
        """A window goes from memory."""
        del self.by_key[live.key]
        self._found = {}
        at = live.key.budget_id, live.key.value
        self._by_mark[at].remove(live)
        if not self._by_mark[at]:
            del self._by_mark[at]

    def look_anew(self) -> None:
        """Have every window looked up again by whoever uses it, which tells those that nobody does."""
        self._found = {}

    def of_mark(self, at: MarkKey) -> list[LiveWindow]:
        """The windows in memory that a mark holds for."""
        return self._by_mark.get(at, [])

    def note_mark(self, at: MarkKey, mark_nano: int) -> None:
        """A mark is on disk, or is about to be where it is lower than before."""
        self.marks.note(at, mark_nano)
        for live in self.of_mark(at):
            live.till.raise_mark(mark_nano)
