"""One commit as budgets see it, beside what it charges: which windows it brings into memory, which marks it raises."""

from __future__ import annotations

from costd.domain.budget import Budget
from costd.domain.window import Window
from costd.domain.window_key import WindowKey
from costd.services.marks import MarkKey
from costd.store.attribution import Assigned, Said, read_assigned, read_said
from costd.store.budget_rows import WindowRow, open_windows, read_windows, write_marks
from costd.store.charges import Place
from costd.store.commit import Commit

#: Looked up one by one; where more was said, as by a hub's whole catalog, everything is read at once.
_MANY_SAID = 1_000


class Charging:
    """Collected while the commit is made; taken over by memory once it is durable."""

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.opened: dict[WindowKey, tuple[Budget, Window]] = {}
        self.rows: dict[WindowKey, WindowRow] = {}
        self.marks: dict[MarkKey, int] = {}
        #: Where things of the catalog belong now; with `is_whole`, all that there are.
        self.said: dict[Said, Assigned] = {}
        self.is_whole = False

    def open(self, key: WindowKey, budget: Budget, window: Window) -> None:
        """Bring a window into memory."""
        self.opened[key] = budget, window

    def raise_mark(self, at: MarkKey, mark_nano: int) -> None:
        """Persist a mark, or the higher one that others asked for."""
        self.marks[at] = max(mark_nano, self.marks.get(at, 0))

    def write(self) -> None:
        """Write what was collected, and read what the windows come to; after the commit has charged them."""
        commit = self.commit
        if len(commit.catalog_said) > _MANY_SAID:
            self.said, self.is_whole = read_assigned(commit.connection), True
        elif commit.catalog_said:
            self.said = read_said(commit.connection, commit.catalog_said)
        if self.opened:
            places = [Place(key, window.end_ms, budget.amount_nano) for key, (budget, window) in self.opened.items()]
            open_windows(commit, places)
            self.rows = read_windows(commit.connection, self.opened)
        if self.marks:
            write_marks(commit, self.marks)
