"""Tills: what every window has left, what callers reserve of it before a call, and what is charged to it after one.

Everything is in memory behind one lock, and every amount an integer. What a commit charges is added to the windows'
rows in its own transaction; once it is durable, memory takes the rows' sums over and lets go of the reservations that
it settles, in one step. A window comes into memory, and a mark is raised, by the same way: through a commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence, Set
from itertools import islice
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain.books import Books
from costd.domain.budget import ALLOW, DENY
from costd.domain.errors import Conflict, Overloaded
from costd.domain.reservation import MARK, Reservations
from costd.domain.window_key import WindowKey
from costd.services.ask import Ask, Held, Pause, RequestName, Verdict
from costd.services.charging import Charging
from costd.services.funding import LEASE_UNAVAILABLE, MODEL_BLOCKED, Authority, Funding
from costd.services.live_window import LiveWindow
from costd.services.live_windows import MAX_REMEMBERED, Found, LiveWindows, Wanted
from costd.services.marks import LOWER_ABOVE, RAISE_TO, MarkKey, Marks
from costd.services.window_orders import WindowOrders
from costd.store.attribution import read_assigned, read_org_names
from costd.store.budget_rows import read_marks
from costd.store.charges import Place, WindowCharge, write_charges
from costd.store.commit import Commit
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.services.budgets import Budgets
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: Reservations let go of at a time, so that no caller waits for more.
_EXPIRE_AT_ONCE = 500
#: How long before a window ends the next one is brought into memory.
AHEAD_MS = 30_000
#: Windows that are brought into memory, and marks that are lowered, in one commit: no record waits for more.
_AT_ONCE = 500
#: From how many windows in memory on those that nobody uses are let go; about 1 KB each.
MANY_LIVES = 20_000
#: A higher mark that was asked for so long ago is asked for again: its commit may have failed.
_RAISING_MS = 1_000
_OPEN_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)

_NOTHING = Verdict("", None)
_UNCOUNTED = "no records are taken for want of space, so that hard budgets deny: what is spent could not be counted"


class Tills:
    """The windows in memory. Implements costd.store.budgeting.Budgeting."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        budgets: Budgets,
        clock: Clock,
        *,
        reservation_minutes: float,
        max_reservations: int,
        is_joined: bool = False,
    ) -> None:
        self.lock = threading.RLock()
        self.funding: Funding = Authority()
        self.is_joined = is_joined
        #: Called after each commit that charged windows, with what they come to; in the writer's thread, quick.
        self.charged_watchers: list[Callable[[Sequence[WindowCharge]], None]] = []
        self.expired = 0
        self._readers = readers
        self._budgets = budgets
        self._clock = clock
        self._most = max_reservations
        ttl_ms = round(reservation_minutes * 60_000)
        self._reservations = Reservations(ttl_ms)
        self._is_loaded = False
        #: Where series were charged last: {number: (quarter of an hour, windows)}; the writer's thread's own.
        self._placed: dict[int, tuple[int, list[Place]]] = {}
        #: When a window ends next, and which marks were found too high at the last look.
        self._next_turn_ms = 2**63
        self._high: Set[MarkKey] = frozenset()
        with readers.snapshot() as connection:
            persisted = read_marks(connection)
        self.marks = Marks(persisted, clock.now_ms(), clock.elapsed_ms() + ttl_ms)
        self._windows = LiveWindows(self.marks)
        self._orders = WindowOrders(writer, self.lock, self._windows)
        self._follow_budgets()
        budgets.watch(self._follow_budgets)

    # -- looked at --------------------------------------------------------------------------------------------------

    def live(self, key: WindowKey) -> LiveWindow | None:
        """A window that is in memory."""
        return self._windows.by_key.get(key)

    def lives(self) -> list[LiveWindow]:
        """All windows that are in memory."""
        with self.lock:
            return list(self._windows.by_key.values())

    @property
    def open_reservations(self) -> int:
        """How many calls have something reserved."""
        return len(self._reservations)

    def reserved_at(self, name: RequestName) -> int | None:
        """When a call that is not settled yet reserved, UTC milliseconds: it is charged at that time. None: it did not.

        From any thread, without waiting.
        """
        held = self._reservations.get(name)
        return None if held is None else held.said.at_ms

    # -- a call's way -----------------------------------------------------------------------------------------------

    def reserve(self, ask: Ask, *, is_last: bool = False) -> Verdict | Pause:
        """Reserve in all hard windows that the call falls under, or in none.

        A Pause is to be waited for in the thread or coroutine that asked; then it asks again, at last with `is_last`,
        when no hub is asked any more. Raises Conflict where other content is reserved under this id, Overloaded where
        no more may be reserved.
        """
        if not self._windows.has_budgets:
            return _NOTHING
        with self.lock:
            reservation = self._reservations.get(ask.name)
            if reservation is not None:
                return self._repeated(reservation.said, ask)
            found = self._windows.find(ask.series, ask.estimate, ask.at_ms)
            if found is None:
                return Pause(self._orders.open_for(ask.series, ask.at_ms), is_hubs=False)
            if found.hard and self._orders.are_refused:
                return Verdict(LEASE_UNAVAILABLE, found.hard[0].noted(), warning=_UNCOUNTED)
            return self._decide(ask, found, is_last=is_last)

    def books_of(self, key: WindowKey) -> tuple[Books, int] | None:
        """The books of a window in memory, and what is reserved of it, at one moment; None where there are none."""
        with self.lock:
            live = None if self.is_joined else self.live(key)
            return None if live is None else (live.books, live.till.reserved_nano)

    def reserved_in(self, key: WindowKey) -> int:
        """What calls under way have reserved of a window, in nano-USD; from any thread, without waiting."""
        live = self.live(key)
        return 0 if live is None else live.till.reserved_nano

    def release(self, name: RequestName) -> bool:
        """Let go of what a call reserved; whether it had."""
        with self.lock:
            return self._reservations.release(name)

    def _decide(self, ask: Ask, found: Found, *, is_last: bool) -> Verdict | Pause:
        amount = ask.amount_nano
        if amount is None:
            blocking = next((live for live in found.hard if live.budget.on_unpriced == DENY), None)
            return Verdict(MODEL_BLOCKED, blocking.noted()) if blocking else Verdict("", found.tightest())
        if not amount or not found.hard:
            return Verdict("", found.tightest())
        if len(self._reservations) >= self._most:
            raise Overloaded("more calls have money reserved than may at one time (budgets.max_reservations)")
        shared = ask.estimate.shared()
        held = Held(ask, found.shared if shared == found.shared else shared)
        lives, tills = found.hard, found.tills
        elapsed_ms = self._clock.elapsed_ms()
        while (short := self._reservations.reserve(ask.name, tills, amount, elapsed_ms, held)) is not None:
            if short.reason == MARK:
                return Pause(self._orders.raise_marks(lives, amount), is_hubs=False)
            waitable = None if is_last else self.funding.shortage(lives, amount)
            if waitable is not None:
                return Pause(waitable, is_hubs=True)
            refusing = lives[tills.index(short.till)]
            reason = self.funding.reason(refusing)
            if reason != LEASE_UNAVAILABLE or refusing.budget.on_hub_down != ALLOW:
                return self._refused(reason, refusing)
            lives = tuple(live for live in lives if live is not refusing)
            tills = tuple(live.till for live in lives)
        for live in lives:
            till = live.till
            if till.reserved_nano * 2 > till.mark_nano and live.raising_until_ms <= elapsed_ms:
                live.raising_until_ms = elapsed_ms + _RAISING_MS
                self._orders.raise_ahead(live)
        return Verdict("", found.tightest())

    def _refused(self, reason: str, live: LiveWindow) -> Verdict:
        why = self.funding.explained(live) if reason == LEASE_UNAVAILABLE else ""
        return Verdict(reason, live.noted(), warning=why)

    def _repeated(self, held: Held, ask: Ask) -> Verdict:
        """The same was asked before: what was reserved then."""
        if not held.is_of(ask.estimate):
            raise Conflict("this request id has money reserved for a call with other content")
        found = self._windows.find(ask.series, ask.estimate, held.at_ms)
        return Verdict("", None if found is None else found.tightest(), held)

    # -- brought into memory ----------------------------------------------------------------------------------------

    def bring(self, keys: Iterable[WindowKey]) -> Ticket[None] | None:
        """Bring windows into memory that others name, as far as they are hard budgets'; None: nothing to do."""
        with self.lock:
            wanted: Wanted = {}
            for key in keys:
                budget = self._budgets.in_force(key.budget_id)
                if self.live(key) is not None or budget is None or budget.revision != key.revision or not budget.hard:
                    continue
                window = self._windows.window(budget, key.start_ms)
                if window is not None and window.start_ms == key.start_ms and (budget.each or not key.value):
                    wanted[key] = budget, window
        return self._orders.open(wanted) if wanted else None

    def open_present(self) -> None:
        """Bring the present windows of budgets into memory, of those with `each` where something may be reserved.

        Blocks until they are there.
        """
        with self.lock:
            wanted = self._windows.present(self._budgets.index, self._clock.now_ms())
        if wanted:
            self._orders.open(wanted).wait(_OPEN_TIMEOUT_S)

    # -- costd.store.budgeting --------------------------------------------------------------------------------------

    @property
    def is_needed(self) -> bool:
        """Whether there is any budget in force."""
        return self._windows.has_budgets

    def charge(self, commit: Commit) -> None:
        """Add what a commit charges to the rows of its windows, and read those that come into memory."""
        if commit.charges:
            commit.window_charges = write_charges(commit, lambda *at: self._places(commit, *at))
        if (commit.catalog_said and self._is_loaded) or self._orders.has_any(commit):
            self._orders.charging_of(commit).write()

    def charged(self, commit: Commit) -> None:
        """Take over what a commit did, now that it is durable."""
        charging = self._orders.taken(commit)
        if charging is None and not commit.named and not commit.window_charges:
            return
        try:
            with self.lock:
                self._take_over(commit, charging)
        except Exception:
            _log.exception("a commit is not in the budgets' windows in memory; a restart puts that right")
        try:
            for watcher in self.charged_watchers if commit.window_charges else ():
                watcher(commit.window_charges)
        except Exception:
            _log.exception("what a commit charged was not told on")

    def _places(self, commit: Commit, series_id: int, quarter: int) -> list[Place]:
        """The windows that a series falls under in a quarter of an hour."""
        placed = self._placed.get(series_id)
        if placed is not None and placed[0] == quarter:
            return placed[1]
        series = commit.series_of(series_id)
        with self.lock:
            if not self._windows.attributed.knows_org(series.org_id):
                self._windows.attributed.name_orgs(read_org_names(commit.connection))
            found = self._windows.places(series, quarter)
        if len(self._placed) >= MAX_REMEMBERED:
            self._placed = {}
        self._placed[series_id] = quarter, found
        return found

    def abandoned(self, commit: Commit) -> None:
        """A commit failed: numbers that it gave to series and organizations will be those of others."""
        with self.lock:
            self._placed = {}
            self._windows.attributed.forget_orgs()
            self._windows.forget()

    def _take_over(self, commit: Commit, charging: Charging | None) -> None:
        for charge in commit.window_charges:
            live = self.live(charge.place.key)
            if live is not None:
                live.charge(charge)
                self.funding.recorded(live, charge, commit.next_seq - 1)
        for name in commit.named:
            self._reservations.release(name)
        if charging is None:
            return
        if (charging.said or charging.is_whole) and self._windows.renew(charging.said, is_whole=charging.is_whole):
            self._placed = {}
        for at, mark_nano in charging.marks.items():
            self._windows.note_mark(at, mark_nano)
        for key, (_, window) in charging.opened.items():
            budget = self._budgets.in_force(key.budget_id)
            # It may have changed meanwhile.
            if self.live(key) is None and budget is not None and budget.revision == key.revision:
                live = self._windows.add(key, budget, window, charging.rows[key])
                self._next_turn_ms = min(self._next_turn_ms, window.end_ms)
                self.funding.opened(live)

    # -- as time passes ---------------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Let go of what was reserved too long ago, former processes' reservations among it; how many they were."""
        elapsed_ms = self._clock.elapsed_ms()
        total = 0
        while True:
            with self.lock:
                expired = self._reservations.expire(elapsed_ms, _EXPIRE_AT_ONCE)
                self.expired += expired
                if not total and self.marks.ghosts_are_over(elapsed_ms):
                    for live in self._windows.by_key.values():
                        live.till.let_ghost_go()
            total += expired
            if expired < _EXPIRE_AT_ONCE:
                return total

    def roll_over(self) -> None:
        """Bring the next windows into memory shortly before their time, and let go of those that have ended."""
        now_ms = self._clock.now_ms()
        if now_ms + AHEAD_MS < self._next_turn_ms:
            return
        with self.lock:
            wanted: Wanted = {}
            self._next_turn_ms = 2**63
            for live in list(self._windows.by_key.values()):
                end_ms = live.window.end_ms
                if end_ms <= now_ms and not live.till.reserved_nano and self.funding.may_drop(live):
                    self._windows.drop(live)
                    continue
                is_used = not live.is_idle or not live.budget.each
                is_due = end_ms <= now_ms + AHEAD_MS and is_used and not live.next_is_asked
                if is_due and len(wanted) < _AT_ONCE:
                    live.next_is_asked = True
                    window = self._windows.window(live.budget, end_ms)
                    if window is not None:
                        wanted[live.key._replace(start_ms=window.start_ms)] = live.budget, window
                self._next_turn_ms = min(self._next_turn_ms, max(end_ms, now_ms))
        if wanted:
            self._orders.open(wanted)

    def lower_marks(self) -> None:
        """Lower marks that are far above what is reserved, at two looks; called every half minute or so."""
        with self.lock:
            high = {}
            for at, mark_nano in self.marks.known().items():
                reserved = max((live.till.reserved_nano for live in self._windows.of_mark(at)), default=0)
                if mark_nano > LOWER_ABOVE * reserved and not self.marks.has_ghosts:
                    high[at] = RAISE_TO * reserved
            again = ((at, mark_nano) for at, mark_nano in high.items() if at in self._high)
            lowered = dict(islice(again, _AT_ONCE))
            self._high = high.keys() - lowered.keys()
            # In memory first: what is on disk is never below what may be reserved.
            for at, mark_nano in lowered.items():
                self._windows.note_mark(at, mark_nano)
        if lowered:
            self._orders.lower_marks(lowered)

    def sweep(self) -> None:
        """Let go of windows that nobody has looked up since the last sweep, where there are very many."""
        with self.lock:
            if len(self._windows.by_key) <= MANY_LIVES:
                return
            self._windows.look_anew()
            for live in list(self._windows.by_key.values()):
                if live.is_idle and not live.till.reserved_nano and self.funding.may_drop(live):
                    self._windows.drop(live)
                live.is_idle = True

    def close(self) -> None:
        """Write down what is reserved now, for the process after this one."""
        now_ms = self._clock.now_ms()
        with self.lock:
            known = self.marks.known()
            marks = dict(known) if self.marks.has_ghosts else dict.fromkeys(known, 0)
            for at in marks:
                if lives := self._windows.of_mark(at):
                    # In a window that has ended nobody can reserve any more.
                    present = (live.till.reserved_nano for live in lives if live.window.holds(now_ms))
                    marks[at] = max(present, default=0)
        if marks:
            self._orders.settle_marks(marks).wait(_CLOSE_TIMEOUT_S)

    # -- definitions ------------------------------------------------------------------------------------------------

    def _follow_budgets(self) -> None:
        """Budgets have changed: amounts take effect at once, other revisions have windows of their own."""
        with self.lock:
            self._windows.use(self._budgets.index)
            self._placed = {}
            if self._windows.has_budgets and not self._is_loaded:
                with self._readers.snapshot() as connection:
                    self._windows.attributed.load(read_assigned(connection), read_org_names(connection))
                self._is_loaded = True
            for key, live in list(self._windows.by_key.items()):
                budget = self._budgets.in_force(key.budget_id)
                if budget is None or budget.revision != key.revision:
                    self._windows.drop(live)
                    self.funding.dropped(live)
                elif budget != live.budget:
                    live.budget = budget
                    self.funding.changed(live)
