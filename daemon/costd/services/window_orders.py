"""What tills have the writer do: bring windows into memory, and persist marks. It takes effect by way of a commit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from costd.domain.errors import Refused
from costd.domain.series import Series
from costd.services.charging import Charging
from costd.services.live_window import LiveWindow
from costd.services.live_windows import LiveWindows, Wanted
from costd.services.marks import MarkKey, wanted_mark
from costd.store.attribution import read_org_names
from costd.store.commit import Change, Commit

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer


class WindowOrders:
    """Collects, in the writer's thread, what is ordered into one Charging for each commit."""

    def __init__(self, writer: Writer, lock: threading.RLock, windows: LiveWindows) -> None:
        self._writer = writer
        self._lock = lock
        self._windows = windows
        self._charging: Charging | None = None

    @property
    def are_refused(self) -> bool:
        """Whether no records are taken now, for want of space: what is spent meanwhile cannot be counted."""
        return self._writer.records_refused is not None

    # -- ordered, from any thread -----------------------------------------------------------------------------------

    def open_for(self, series: Series, at_ms: int) -> Ticket[None]:
        """Bring all windows that a series falls under at a moment into memory."""

        def apply(commit: Commit) -> None:
            charging = self.charging_of(commit)
            with self._lock:
                if not self._windows.attributed.knows_org(series.org_id):
                    self._windows.attributed.name_orgs(read_org_names(commit.connection))
                for key, (budget, window) in self._windows.missing(series, at_ms).items():
                    charging.open(key, budget, window)

        return self._writer.submit(Change(apply))

    def open(self, wanted: Wanted) -> Ticket[None]:
        """Bring these windows into memory."""

        def apply(commit: Commit) -> None:
            charging = self.charging_of(commit)
            for key, (budget, window) in wanted.items():
                charging.open(key, budget, window)

        return self._writer.submit(Change(apply))

    def raise_marks(self, lives: Sequence[LiveWindow], amount_nano: int) -> Ticket[None]:
        """Let this much more, and some, be reserved at one time."""
        wanted = [(live, wanted_mark(live.till, amount_nano)) for live in lives]

        def apply(commit: Commit) -> None:
            charging = self.charging_of(commit)
            for live, mark_nano in wanted:
                at = live.key.budget_id, live.key.value
                charging.raise_mark(at, max(mark_nano, self._windows.marks.persisted(at)))
                live.raising_until_ms = 0

        return self._writer.submit(Change(apply))

    def raise_ahead(self, live: LiveWindow) -> None:
        """Have a mark raised before anybody has to wait for it; what hinders it is told to whoever does wait."""
        if wanted_mark(live.till, 0) > live.till.mark_nano:
            with suppress(Refused):
                self.raise_marks((live,), 0)

    def lower_marks(self, marks: Mapping[MarkKey, int]) -> Ticket[None]:
        """Persist marks that memory keeps to already, unless they have been raised again meanwhile."""

        def apply(commit: Commit) -> None:
            charging = self.charging_of(commit)
            for at, mark_nano in marks.items():
                if self._windows.marks.persisted(at) <= mark_nano:
                    charging.raise_mark(at, mark_nano)

        return self._writer.submit(Change(apply))

    def settle_marks(self, marks: Mapping[MarkKey, int]) -> Ticket[None]:
        """Persist the marks of a process that reserves nothing more."""
        return self._writer.submit(Change(lambda commit: self.charging_of(commit).marks.update(marks)))

    # -- carried out, in the writer's thread ------------------------------------------------------------------------

    def charging_of(self, commit: Commit) -> Charging:
        """What is ordered within a commit."""
        charging = self._charging
        if charging is None or charging.commit is not commit:
            charging = self._charging = Charging(commit)
        return charging

    def has_any(self, commit: Commit) -> bool:
        """Whether anything is ordered within a commit."""
        return self._charging is not None and self._charging.commit is commit

    def taken(self, commit: Commit) -> Charging | None:
        """What was ordered within a commit, which is durable now; what another one left, which failed, is forgotten."""
        charging, self._charging = self._charging, None
        return charging if charging is not None and charging.commit is commit else None
