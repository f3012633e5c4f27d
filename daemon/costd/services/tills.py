"""Tills: what every window has left, what callers reserve of it before a call, and what is charged to it after one.

Everything is in memory behind one lock, and every amount an integer. What a commit charges is added to the windows'
rows in its own transaction; once it is durable, memory takes the rows' sums over and lets go of the reservations that
it settles, in one step. A window comes into memory, and a mark is raised, by the same way: through a commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.books import Books
from costd.domain.budget import ALLOW, DENY, Budget
from costd.domain.errors import Conflict, Overloaded, Refused
from costd.domain.reservation import MARK, Reservations, Till
from costd.domain.series import Series
from costd.domain.units import Quantity
from costd.domain.usage import Usage
from costd.domain.window import Window
from costd.domain.window_key import WindowKey
from costd.services.attributed import Attributed
from costd.services.charging import Charging
from costd.services.funding import LEASE_UNAVAILABLE, MODEL_BLOCKED, Authority, Funding, Waitable
from costd.services.live_window import LiveWindow, Noted
from costd.services.marks import LOWER_ABOVE, RAISE_TO, MarkKey, Marks, wanted_mark
from costd.services.matches import Matches, key_of
from costd.store.attribution import read_assigned, read_org_names
from costd.store.budget_rows import WindowRow, read_marks
from costd.store.charges import Place, WindowCharge, write_charges
from costd.store.commit import QUARTER_MS, Change, Commit
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.services.budgets import Budgets
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: (organization, request id in its stored form)
RequestName = tuple[int, bytes | str]

#: Series remembered with their windows.
MAX_REMEMBERED = 20_000
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


class Ask(NamedTuple):
    """A call that wants to be made: what it may cost (None: nobody knows), and at what time it is charged.

    `amount_nano` is what is to be reserved for it: `cost_nano`, or a little where that is nothing.
    """

    name: RequestName
    series: Series
    estimate: Usage
    amount_nano: int | None
    cost_nano: int | None
    at_ms: int


class Held:
    """What is remembered with a reservation, no more than is needed: there may be very many.

    `shared`, `units` and `job` are what the caller said of the call, `shared` one object for all that say the same.
    """

    __slots__ = ("at_ms", "cost_nano", "job", "shared", "units")

    def __init__(self, ask: Ask, shared: tuple[object, ...]) -> None:
        self.at_ms = ask.at_ms
        self.cost_nano = ask.cost_nano
        self.shared = shared
        self.units = ask.estimate.units
        self.job = ask.estimate.job

    def is_of(self, estimate: Usage) -> bool:
        """Whether this was reserved for a call of the same content; a count of zero says nothing."""
        if self.shared != estimate.shared() or self.job != estimate.job:
            return False
        return self.units == estimate.units or _counted(self.units) == _counted(estimate.units)


class Verdict(NamedTuple):
    """Whether a call may be made: "" or why not, and the budget that says so or is the tightest.

    `repeated` is what was reserved before, where the same was asked again.
    """

    deny_reason: str
    noted: Noted | None
    repeated: Held | None = None


class Pause(NamedTuple):
    """Something has to happen first: what is to be waited for, and whether that is the hub's to do."""

    waitable: Waitable
    is_hubs: bool


class _Found(NamedTuple):
    """The windows of a series, between two moments; `shared` is what the first of its callers said."""

    shared: tuple[object, ...]
    from_ms: int
    until_ms: int
    all: tuple[LiveWindow, ...]
    hard: tuple[LiveWindow, ...]
    tills: tuple[Till, ...]


_NOTHING = Verdict("", None)


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
        self._writer = writer
        self._readers = readers
        self._budgets = budgets
        self._clock = clock
        self._most = max_reservations
        ttl_ms = round(reservation_minutes * 60_000)
        self._reservations = Reservations(ttl_ms)
        self._attributed = Attributed()
        self._matches = Matches(self._attributed)
        self._is_loaded = False
        self._lives: dict[WindowKey, LiveWindow] = {}
        self._of_mark: dict[MarkKey, list[LiveWindow]] = {}
        #: Where series were charged last: {number: (quarter of an hour, windows)}; the writer's thread's own.
        self._placed: dict[int, tuple[int, list[Place]]] = {}
        self._found: dict[Series, _Found] = {}
        self._charging: Charging | None = None
        #: When a window ends next, and which marks were found too high at the last look.
        self._next_turn_ms = 2**63
        self._high: Set[MarkKey] = frozenset()
        with readers.snapshot() as connection:
            persisted = read_marks(connection)
        self.marks = Marks(persisted, clock.now_ms(), clock.elapsed_ms() + ttl_ms)
        self._follow_budgets()
        budgets.watch(self._follow_budgets)

    # -- looked at --------------------------------------------------------------------------------------------------

    def live(self, key: WindowKey) -> LiveWindow | None:
        """A window that is in memory."""
        return self._lives.get(key)

    def lives(self) -> list[LiveWindow]:
        """All windows that are in memory."""
        with self.lock:
            return list(self._lives.values())

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
        if not self._matches.has_any:
            return _NOTHING
        with self.lock:
            reservation = self._reservations.get(ask.name)
            if reservation is not None:
                return self._repeated(reservation.said, ask)
            found = self._found.get(ask.series)
            if found is None or not found.from_ms <= ask.at_ms < found.until_ms:
                found = self._find(ask, ask.at_ms)
                if found is None:
                    return Pause(self._open(ask.series, ask.at_ms), is_hubs=False)
            return self._decide(ask, found, is_last=is_last)

    def books_of(self, key: WindowKey) -> tuple[Books, int] | None:
        """The books of a window in memory, and what is reserved of it, at one moment; None where there are none."""
        with self.lock:
            live = None if self.is_joined else self._lives.get(key)
            return None if live is None else (live.books, live.till.reserved_nano)

    def reserved_in(self, key: WindowKey) -> int:
        """What calls under way have reserved of a window, in nano-USD; from any thread, without waiting."""
        live = self._lives.get(key)
        return 0 if live is None else live.till.reserved_nano

    def release(self, name: RequestName) -> bool:
        """Let go of what a call reserved; whether it had."""
        with self.lock:
            return self._reservations.release(name)

    def _decide(self, ask: Ask, found: _Found, *, is_last: bool) -> Verdict | Pause:
        amount = ask.amount_nano
        if amount is None:
            blocking = next((live for live in found.hard if live.budget.on_unpriced == DENY), None)
            return Verdict(MODEL_BLOCKED, blocking.noted()) if blocking else Verdict("", _tightest(found))
        if not amount or not found.hard:
            return Verdict("", _tightest(found))
        if len(self._reservations) >= self._most:
            raise Overloaded("more calls have money reserved than may at one time (budgets.max_reservations)")
        shared = ask.estimate.shared()
        held = Held(ask, found.shared if shared == found.shared else shared)
        lives, tills = found.hard, found.tills
        elapsed_ms = self._clock.elapsed_ms()
        while (short := self._reservations.reserve(ask.name, tills, amount, elapsed_ms, held)) is not None:
            if short.reason == MARK:
                return Pause(self._raise_marks(lives, amount), is_hubs=False)
            waitable = None if is_last else self.funding.shortage(lives, amount)
            if waitable is not None:
                return Pause(waitable, is_hubs=True)
            refusing = lives[tills.index(short.till)]
            reason = self.funding.reason(refusing)
            if reason != LEASE_UNAVAILABLE or refusing.budget.on_hub_down != ALLOW:
                return Verdict(reason, refusing.noted())
            lives = tuple(live for live in lives if live is not refusing)
            tills = tuple(live.till for live in lives)
        for live in lives:
            till = live.till
            if till.reserved_nano * 2 > till.mark_nano and live.raising_until_ms <= elapsed_ms:
                live.raising_until_ms = elapsed_ms + _RAISING_MS
                self._raise_ahead(live)
        return Verdict("", _tightest(found))

    def _repeated(self, held: Held, ask: Ask) -> Verdict:
        """The same was asked before: what was reserved then."""
        if not held.is_of(ask.estimate):
            raise Conflict("this request id has money reserved for a call with other content")
        found = self._find(ask, held.at_ms)
        return Verdict("", None if found is None else _tightest(found), held)

    def _find(self, ask: Ask, at_ms: int) -> _Found | None:
        """The windows of a call's series at a moment; None where one of them is not in memory."""
        series = ask.series
        if not self._attributed.knows_org(series.org_id):
            return None
        lives = []
        from_ms, until_ms = 0, 2**63
        for match in self._matches.of(series):
            window = self._matches.window(match.budget, at_ms)
            if window is None:
                continue
            live = self._lives.get(key_of(match, window))
            if live is None:
                return None
            live.is_idle = False
            lives.append(live)
            from_ms, until_ms = max(from_ms, window.start_ms), min(until_ms, window.end_ms)
        hard = tuple(live for live in lives if live.budget.hard)
        if len(self._found) >= MAX_REMEMBERED:
            self._found = {}
        found = _Found(ask.estimate.shared(), from_ms, until_ms, tuple(lives), hard, tuple(live.till for live in hard))
        self._found[series] = found
        return found

    # -- by way of a commit -----------------------------------------------------------------------------------------

    def _open(self, series: Series, at_ms: int) -> Ticket[None]:
        """Bring the windows of a series into memory."""

        def apply(commit: Commit) -> None:
            charging = self._charging_of(commit)
            with self.lock:
                if not self._attributed.knows_org(series.org_id):
                    self._attributed.name_orgs(read_org_names(commit.connection))
                for match in self._matches.of(series):
                    window = self._matches.window(match.budget, at_ms)
                    if window is not None and key_of(match, window) not in self._lives:
                        charging.open(key_of(match, window), match.budget, window)

        return self._writer.submit(Change(apply))

    def bring(self, keys: Iterable[WindowKey]) -> Ticket[None] | None:
        """Bring windows into memory that others name, as far as they are hard budgets'; None: nothing to do."""
        with self.lock:
            wanted: dict[WindowKey, tuple[Budget, Window]] = {}
            for key in keys:
                budget = self._budgets.in_force(key.budget_id)
                if key in self._lives or budget is None or budget.revision != key.revision or not budget.hard:
                    continue
                window = self._matches.window(budget, key.start_ms)
                if window is not None and window.start_ms == key.start_ms and (budget.each or not key.value):
                    wanted[key] = budget, window
        return self._open_all(wanted) if wanted else None

    def _raise_marks(self, lives: Sequence[LiveWindow], amount_nano: int) -> Ticket[None]:
        """Let more be reserved at one time."""
        wanted = [(live, wanted_mark(live.till, amount_nano)) for live in lives]

        def apply(commit: Commit) -> None:
            charging = self._charging_of(commit)
            for live, mark_nano in wanted:
                at = live.key.budget_id, live.key.value
                charging.raise_mark(at, max(mark_nano, self.marks.persisted(at)))
                live.raising_until_ms = 0

        return self._writer.submit(Change(apply))

    def _raise_ahead(self, live: LiveWindow) -> None:
        """The same before anybody has to wait for it; what hinders it is told to whoever does wait."""
        if wanted_mark(live.till, 0) > live.till.mark_nano:
            with suppress(Refused):
                self._raise_marks((live,), 0)

    def _charging_of(self, commit: Commit) -> Charging:
        charging = self._charging
        if charging is None or charging.commit is not commit:
            charging = self._charging = Charging(commit)
        return charging

    # -- costd.store.budgeting --------------------------------------------------------------------------------------

    @property
    def is_needed(self) -> bool:
        """Whether there is any budget in force."""
        return self._matches.has_any

    def charge(self, commit: Commit) -> None:
        """Add what a commit charges to the rows of its windows, and read those that come into memory."""
        if commit.charges:
            commit.window_charges = write_charges(commit, lambda *at: self._places(commit, *at))
        if (commit.catalog_said and self._is_loaded) or (
            self._charging is not None and self._charging.commit is commit
        ):
            self._charging_of(commit).write()

    def charged(self, commit: Commit) -> None:
        """Take over what a commit did, now that it is durable."""
        charging, self._charging = self._charging, None
        if charging is not None and charging.commit is not commit:
            charging = None  # of a commit that failed
        if charging is None and not commit.named and not commit.window_charges:
            return
        try:
            with self.lock:
                self._take_over(commit, charging)
            if commit.window_charges:
                for watcher in self.charged_watchers:
                    watcher(commit.window_charges)
        except Exception:
            _log.exception("a commit is not in the budgets' windows in memory; a restart puts that right")

    def _places(self, commit: Commit, series_id: int, quarter: int) -> list[Place]:
        """The windows that a series falls under in a quarter of an hour."""
        placed = self._placed.get(series_id)
        if placed is not None and placed[0] == quarter:
            return placed[1]
        series = commit.series_of(series_id)
        found = []
        with self.lock:
            if not self._attributed.knows_org(series.org_id):
                self._attributed.name_orgs(read_org_names(commit.connection))
            for match in self._matches.of(series):
                window = self._matches.window(match.budget, quarter * QUARTER_MS)
                if window is not None:
                    found.append(Place(key_of(match, window), window.end_ms, match.budget.amount_nano))
        if len(self._placed) >= MAX_REMEMBERED:
            self._placed = {}
        self._placed[series_id] = quarter, found
        return found

    def abandoned(self, commit: Commit) -> None:
        """A commit failed: numbers that it gave to series and organizations will be those of others."""
        with self.lock:
            self._placed = {}
            self._attributed.forget_orgs()
            self._matches.forget()
            self._found = {}

    def _take_over(self, commit: Commit, charging: Charging | None) -> None:
        for charge in commit.window_charges:
            live = self._lives.get(charge.place.key)
            if live is not None:
                live.charge(charge)
                self.funding.recorded(live, charge, commit.next_seq - 1)
        for name in commit.named:
            self._reservations.release(name)
        if charging is None:
            return
        if (charging.said or charging.is_whole) and self._attributed.renew(charging.said, is_whole=charging.is_whole):
            self._matches.forget()
            self._found = {}
            self._placed = {}
        for at, mark_nano in charging.marks.items():
            self._note_mark(at, mark_nano)
        for key, (_, window) in charging.opened.items():
            if key not in self._lives:
                self._open_live(key, window, charging.rows[key])

    def _open_live(self, key: WindowKey, window: Window, row: WindowRow) -> None:
        """A window comes into memory, unless its budget has changed meanwhile."""
        budget = self._budgets.in_force(key.budget_id)
        if budget is None or budget.revision != key.revision:
            return
        live = self._lives[key] = LiveWindow(key, budget, window, row, self.marks.open_till(key, window))
        self._next_turn_ms = min(self._next_turn_ms, window.end_ms)
        self._of_mark.setdefault((key.budget_id, key.value), []).append(live)
        self.funding.opened(live)

    def _drop(self, live: LiveWindow) -> None:
        del self._lives[live.key]
        self._found = {}
        at = live.key.budget_id, live.key.value
        self._of_mark[at].remove(live)
        if not self._of_mark[at]:
            del self._of_mark[at]

    def _note_mark(self, at: MarkKey, mark_nano: int) -> None:
        self.marks.note(at, mark_nano)
        for live in self._of_mark.get(at, ()):
            live.till.raise_mark(mark_nano)

    # -- as time passes ---------------------------------------------------------------------------------------------

    def open_present(self) -> None:
        """Bring the present windows of budgets into memory, of those with `each` where something may be reserved.

        Blocks until they are there.
        """
        now_ms = self._clock.now_ms()
        with self.lock:
            values: dict[str, list[str]] = {}
            for budget_id, value in self.marks.known():
                values.setdefault(budget_id, []).append(value)
            wanted = {}
            for budget in self._budgets.index:
                window = self._matches.window(budget, now_ms)
                for value in values.get(budget.id, ()) if budget.each else ("",):
                    if window is not None:
                        wanted[WindowKey(budget.id, budget.revision, value, window.start_ms)] = budget, window
        if wanted:
            self._open_all(wanted).wait(_OPEN_TIMEOUT_S)

    def expire(self) -> int:
        """Let go of what was reserved too long ago, former processes' reservations among it; how many they were."""
        elapsed_ms = self._clock.elapsed_ms()
        total = 0
        while True:
            with self.lock:
                expired = self._reservations.expire(elapsed_ms, _EXPIRE_AT_ONCE)
                self.expired += expired
                if not total and self.marks.ghosts_are_over(elapsed_ms):
                    for live in self._lives.values():
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
            wanted: dict[WindowKey, tuple[Budget, Window]] = {}
            self._next_turn_ms = 2**63
            for live in list(self._lives.values()):
                end_ms = live.window.end_ms
                if end_ms <= now_ms and not live.till.reserved_nano and self.funding.may_drop(live):
                    self._drop(live)
                    continue
                is_used = not live.is_idle or not live.budget.each
                is_due = end_ms <= now_ms + AHEAD_MS and is_used and not live.next_is_asked
                if is_due and len(wanted) < _AT_ONCE:
                    live.next_is_asked = True
                    window = self._matches.window(live.budget, end_ms)
                    if window is not None:
                        wanted[live.key._replace(start_ms=window.start_ms)] = live.budget, window
                self._next_turn_ms = min(self._next_turn_ms, max(end_ms, now_ms))
        if wanted:
            self._open_all(wanted)

    def lower_marks(self) -> None:
        """Lower marks that are far above what is reserved, at two looks; called every half minute or so."""
        with self.lock:
            high = {}
            for at, mark_nano in self.marks.known().items():
                reserved = max((live.till.reserved_nano for live in self._of_mark.get(at, ())), default=0)
                if mark_nano > LOWER_ABOVE * reserved and not self.marks.has_ghosts:
                    high[at] = RAISE_TO * reserved
            again = ((at, mark_nano) for at, mark_nano in high.items() if at in self._high)
            lowered = dict(islice(again, _AT_ONCE))
            self._high = high.keys() - lowered.keys()
            # In memory first: what is on disk is never below what may be reserved.
            for at, mark_nano in lowered.items():
                self._note_mark(at, mark_nano)
        if lowered:
            self._write_marks(lowered)

    def sweep(self) -> None:
        """Let go of windows that nobody has looked up since the last sweep, where there are very many."""
        with self.lock:
            if len(self._lives) <= MANY_LIVES:
                return
            self._found = {}
            for live in list(self._lives.values()):
                if live.is_idle and not live.till.reserved_nano and self.funding.may_drop(live):
                    self._drop(live)
                live.is_idle = True

    def close(self) -> None:
        """Write down what is reserved now, for the process after this one."""
        now_ms = self._clock.now_ms()
        with self.lock:
            known = self.marks.known()
            marks = dict(known) if self.marks.has_ghosts else dict.fromkeys(known, 0)
            for at, lives in self._of_mark.items():
                if at in marks:
                    # In a window that has ended nobody can reserve any more.
                    present = (live.till.reserved_nano for live in lives if live.window.holds(now_ms))
                    marks[at] = max(present, default=0)
        if marks:
            self._write_marks(marks, is_last=True).wait(_CLOSE_TIMEOUT_S)

    def _open_all(self, wanted: Mapping[WindowKey, tuple[Budget, Window]]) -> Ticket[None]:
        def apply(commit: Commit) -> None:
            charging = self._charging_of(commit)
            for key, (budget, window) in wanted.items():
                charging.open(key, budget, window)

        return self._writer.submit(Change(apply))

    def _write_marks(self, marks: Mapping[MarkKey, int], *, is_last: bool = False) -> Ticket[None]:
        def apply(commit: Commit) -> None:
            charging = self._charging_of(commit)
            for at, mark_nano in marks.items():
                if is_last:
                    charging.marks[at] = mark_nano
                elif self.marks.persisted(at) <= mark_nano:  # meanwhile it may have been raised again
                    charging.raise_mark(at, mark_nano)

        return self._writer.submit(Change(apply))

    # -- definitions ------------------------------------------------------------------------------------------------

    def _follow_budgets(self) -> None:
        """Budgets have changed: amounts take effect at once, other revisions have windows of their own."""
        with self.lock:
            self._matches.use(self._budgets.index)
            self._found = {}
            self._placed = {}
            if self._matches.has_any and not self._is_loaded:
                with self._readers.snapshot() as connection:
                    self._attributed.load(read_assigned(connection), read_org_names(connection))
                self._is_loaded = True
            for key, live in list(self._lives.items()):
                budget = self._budgets.in_force(key.budget_id)
                if budget is None or budget.revision != key.revision:
                    self._drop(live)
                elif budget != live.budget:
                    live.budget = budget
                    self.funding.changed(live)


def _counted(units: Sequence[tuple[str, Quantity]]) -> list[tuple[str, Quantity]]:
    return [(name, amount) for name, amount in units if amount]


def _tightest(found: _Found) -> Noted | None:
    """The window with the least left; a plain loop, because every preflight passes here."""
    tightest, least_nano = None, 0
    for live in found.all:
        till = live.till
        left_nano = till.bound_nano - till.used_nano - till.reserved_nano + live.elsewhere_nano
        if tightest is None or left_nano < least_nano:
            tightest, least_nano = live, left_nano
    return None if tightest is None else tightest.noted()
