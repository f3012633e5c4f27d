"""What a sidecar has of its hub's budgets: slices of windows, which its callers reserve from. In memory.

Everything is done under the lock of the tills. What changes a slice is written by whoever asks the hub (Leasing): a
grant before it is used here, a return before the hub hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain.held_slice import HeldSlice
from costd.domain.lease import MAX_ITEMS, LeaseAnswer, Return, Want
from costd.domain.reservation import NEVER_MS
from costd.domain.window_key import WindowKey
from costd.services.funding import BUDGET_EXCEEDED, LEASE_UNAVAILABLE, Waitable
from costd.services.held_window import NONE_NANO, HeldWindow
from costd.services.live_window import LiveWindow
from costd.services.returns import Persisted, Returns
from costd.store.budget_rows import AccountRow
from costd.store.charges import WindowCharge
from costd.store.lease_rows import OWN
from costd.store.ticket import Ticket, wake

if TYPE_CHECKING:
    from costd.services.tills import Tills

#: Money that nobody used or reserved for so long goes back.
IDLE_MS = 30_000
#: A window counts as in use for so long after it was.
ACTIVE_MS = 10_000
#: How old the hub's word that it has no more may be. Until then nobody who is denied asks again.
FRESH_MS = 100
#: How old it may be at all to say that the money is spent, and not just out of reach.
KNOWN_MS = 2_000
#: How often whoever is denied because the hub is out of reach has it looked for again at once.
HURRY_MS = 500
#: Use ends this part of its time early: clocks of two machines do not run alike.
_MARGIN = 10
#: How often in that time all slices are bound to the hub's word, whether or not it spoke of them.
_REFRESHES = 4
#: Windows looked at under the lock at a time.
_AT_ONCE = 200
#: Numbers of the ledger that are remembered with what had been recorded until then, for each window.
MAX_NOTED = 2_048
_HUB_IS_AWAY = "the hub is out of reach"
_HUB_AWAITS = "the hub was restored, and waits for its sidecars to tell what they hold"
_NOT_CONFIRMED = "has not confirmed what this sidecar has of its money"
_UNANSWERED = "the hub did not grant more in time"


class Slices:
    """Implements costd.services.funding.Funding for a sidecar; the rest is for the one thread that asks the hub."""

    def __init__(
        self, tills: Tills, clock: Clock, known_seq: Callable[[str], int], last_seq: Callable[[], int]
    ) -> None:
        """`known_seq` is from which number of the ledger on a budget is known here, `last_seq` the last number."""
        self._tills = tills
        self._clock = clock
        self._known_seq = known_seq
        self._last_seq = last_seq
        self._held: dict[WindowKey, HeldWindow] = {}
        self._epoch = b""
        #: Slices of this epoch may be used until then; the hub confirmed it once it is above 0.
        self._usable_until_ms = 0
        self._is_awaiting = False
        #: Windows of which somebody waits for more, and who waits.
        self._asking: set[WindowKey] = set()
        self._waiters: list[Ticket[None]] = []
        #: When any of them was in use last, and when all were bound to the hub's word last.
        self._active_ms = self._refreshed_ms = -NEVER_MS
        self._returns = Returns(last_seq)
        #: Whether the hub is out of reach: nobody waits for it then.
        self.is_away = False
        self._hurried_ms = -NEVER_MS
        #: Called where more is wanted, and where somebody is denied because the hub is out of reach; quick.
        self.on_demand: Callable[[], object] = bool
        self.on_loss: Callable[[], object] = bool

    # -- as costd.services.funding says ------------------------------------------------------------------------------

    def opened(self, live: LiveWindow) -> None:
        """Nothing can be used of it before the hub has answered."""
        row = live.row
        seq = self._last_seq() if row.settled_nano else self._known_seq(live.key.budget_id)
        live.recorded.clear()
        live.recorded.append((seq, row.settled_nano))
        live.till.used_nano = row.settled_nano
        live.elsewhere_nano = max(0, live.budget.amount_nano - row.settled_nano)
        self._hold(live)

    def recorded(self, live: LiveWindow, charge: WindowCharge, seq: int) -> None:
        """What was recorded here is used; corrections are the hub's to credit."""
        if charge.holder is not None:
            return
        noted = live.recorded
        noted.append((seq, charge.settled_nano))
        if len(noted) > MAX_NOTED:  # less is known of what the hub has seen, so that more counts as used
            thinned = [pair for at, pair in enumerate(noted) if not at or at % 2]
            noted.clear()
            noted.extend(thinned)
        live.till.charge(charge.added_nano)
        held = self._held.get(live.key)
        if held is not None and not self.is_away and held.is_low(live):
            self.on_demand()

    def changed(self, live: LiveWindow) -> None:
        """The hub knows of it, too, and says what follows."""
        self._hold(live)

    def shortage(self, lives: Sequence[LiveWindow], amount_nano: int) -> Waitable | None:
        """Ask the hub for more, unless it is out of reach or has just said that it has no more."""
        now_ms = self._clock.elapsed_ms()
        if self.is_away:
            if now_ms - self._hurried_ms >= HURRY_MS:
                self._hurried_ms = now_ms
                self.on_loss()
            return None
        asks = False
        for live in lives:
            held, till = self._held.get(live.key), live.till
            is_short = till.used_nano + till.reserved_nano + amount_nano > till.bound_nano
            if held is None or not (is_short or now_ms >= till.usable_until_ms):
                continue
            if is_short and now_ms - held.answered_ms < FRESH_MS:
                needed_nano = held.held.granted_nano + amount_nano - held.free_nano(live)
                if needed_nano >= held.refused_nano:
                    return None
            held.waiting.append(amount_nano if is_short else 0)
            self._asking.add(live.key)
            asks = True
        if not asks:
            return None
        ticket: Ticket[None] = Ticket(None, 0, lambda _: None)
        self._waiters.append(ticket)
        self.on_demand()
        return ticket

    def reason(self, live: LiveWindow) -> str:
        """Spent where the hub has just said so, else out of reach."""
        held = self._held.get(live.key)
        if held is None or self._is_awaiting or not self._is_usable(live, held):
            return LEASE_UNAVAILABLE
        is_known = self._clock.elapsed_ms() - held.answered_ms < KNOWN_MS and not self.is_away
        return BUDGET_EXCEEDED if is_known and held.refused_nano < NONE_NANO else LEASE_UNAVAILABLE

    def explained(self, live: LiveWindow) -> str:
        """What of the hub's word is missing."""
        held = self._held.get(live.key)
        if self._is_awaiting and not self.is_away:
            return _HUB_AWAITS
        if held is None or not self._is_usable(live, held):
            return f"{_HUB_IS_AWAY}, and {_NOT_CONFIRMED}" if self.is_away else f"the hub {_NOT_CONFIRMED} yet"
        if self._clock.elapsed_ms() >= self._usable_until_ms:
            return f"{_HUB_IS_AWAY}, and what this sidecar has of its money may not be used any longer"
        return f"{_HUB_IS_AWAY}, and what this sidecar has of its money is used up" if self.is_away else _UNANSWERED

    def may_drop(self, live: LiveWindow) -> bool:
        """Of a window that has ended nothing more is used; what another holds goes back first."""
        held = self._held.get(live.key)
        is_over = live.window.end_ms <= self._clock.now_ms()
        if held is not None and not is_over and held.held.bound_nano > live.till.used_nano:
            return False
        self.dropped(live)
        return True

    def dropped(self, live: LiveWindow) -> None:
        """What is held of it is of no use to anybody."""
        self._held.pop(live.key, None)

    # -- epochs ------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> bytes:
        """The epoch of the slices in use; b"" where none is."""
        return self._epoch

    def begin(self, epoch: bytes) -> None:
        """Hold slices of this epoch, as they are known; the hub has not confirmed it."""
        with self._tills.lock:
            self._epoch = epoch
            self._usable_until_ms = 0
            self._returns.reopen(epoch)
            self._held.clear()
            for live in self._tills.lives():
                self._hold(live)

    def bring(self, keys: Iterable[WindowKey]) -> Ticket[None] | None:
        """Bring windows of which there are slices into memory; None: they are."""
        return self._tills.bring(keys)

    def close(self, *, goes_on: bool) -> None:
        """The epoch is over. If this ledger goes on alone, what was held is given back once nothing is reserved."""
        with self._tills.lock:
            now_ms = self._clock.elapsed_ms()
            if goes_on and self._usable_until_ms:
                for key, each in self._held.items():
                    if each.held.bound_nano > 0:
                        self._returns.close(key, each.held, now_ms)
            self._epoch = b""
            self._usable_until_ms = 0
            self._held.clear()
            for live in self._tills.lives():
                self._bind(live)

    def _hold(self, live: LiveWindow) -> None:
        if self._epoch and live.budget.hard and live.key not in self._held:
            row = live.row.accounts.get((OWN, self._epoch), AccountRow(0, 0, 0))
            held = HeldSlice(self._epoch, row.granted_nano, row.returned_nano)
            self._held[live.key] = HeldWindow(held, self._clock.elapsed_ms())
        self._bind(live)

    # -- what is asked of the hub ------------------------------------------------------------------------------------

    def wants(self) -> tuple[list[Want], list[Ticket[None]]]:
        """What the hub is asked for, what callers wait for first; and those who wait for the answer."""
        with self._tills.lock:
            asking, self._asking = self._asking, set()
            waiters, self._waiters = self._waiters, []
            wants: list[Want] = []
            for key in asking:
                held, live = self._held.get(key), self._tills.live(key)
                if held is not None and live is not None and held.waiting:
                    waiting, held.waiting = held.waiting, []
                    wants += held.needs(live, waiting)
        idle: list[tuple[int, Want]] = []
        for live, held in self._each():
            self._look(live, held)
            if live.key not in asking and (held.held.bound_nano or held.is_low(live)):
                idle.append((held.answered_ms, held.ahead(live)))
        idle.sort(key=lambda pair: pair[0])
        return [*wants, *(want for _, want in idle)][:MAX_ITEMS], waiters

    def _each(self) -> Iterator[tuple[LiveWindow, HeldWindow]]:
        """All slices of hard budgets, under the lock; that is let go of now and then, as callers wait for it."""
        keys = list(self._held)
        for start in range(0, len(keys), _AT_ONCE):
            with self._tills.lock:
                for key in keys[start : start + _AT_ONCE]:
                    held, live = self._held.get(key), self._tills.live(key)
                    if held is not None and live is not None and live.budget.hard:
                        yield live, held

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for the hub."""
        return bool(self._waiters)

    @property
    def is_active(self) -> bool:
        """Whether money was used or reserved of late, or is asked back."""
        return self._clock.elapsed_ms() - self._active_ms < ACTIVE_MS

    def take_waiters(self) -> list[Ticket[None]]:
        """Those who wait for the hub."""
        with self._tills.lock:
            waiters, self._waiters = self._waiters, []
        return waiters

    def let_go(self, waiters: Iterable[Ticket[None]]) -> None:
        """They have waited long enough."""
        tickets = list(waiters)
        for ticket in tickets:
            ticket.settle(None)
        wake(tickets)

    def _look(self, live: LiveWindow, held: HeldWindow) -> None:
        now_ms = self._clock.elapsed_ms()
        if held.look(live, now_ms):
            self._active_ms = now_ms

    # -- what goes back ----------------------------------------------------------------------------------------------

    def take_out(self, ttl_ms: int) -> Persisted:
        """Take money out that is idle, asked back, or of an epoch that is over and has nothing reserved against it.

        What is to be persisted before the hub hears of it. `ttl_ms` is how long reservations live.
        """
        now_ms = self._clock.elapsed_ms()
        for live, held in self._each():
            if not self._is_usable(live, held):
                continue
            self._look(live, held)
            if (held.is_recalled or now_ms - held.active_ms >= IDLE_MS) and (amount := live.till.withdraw()):
                held.held = held.held.give_back(amount)
                self._returns.add(live.key, held.held)
                if not held.is_recalled:
                    held.burn_nano = 0
        with self._tills.lock:
            self._returns.empty_closed(self._is_idle, now_ms - ttl_ms)
            return self._returns.unwritten

    def written(self, slices: Persisted) -> None:
        """These are on disk."""
        with self._tills.lock:
            self._returns.written(slices)

    def returns(self, acknowledged: int) -> list[Return]:
        """What is on its way back, of which the hub has everything that was recorded before."""
        with self._tills.lock:
            return self._returns.to_say(acknowledged)

    def _is_idle(self, key: WindowKey) -> bool:
        """Whether nothing is reserved in a window."""
        live = self._tills.live(key)
        return live is None or not live.till.reserved_nano

    # -- what the hub answers ----------------------------------------------------------------------------------------

    def learned(self, epoch: bytes, answer: LeaseAnswer) -> tuple[dict[WindowKey, HeldSlice], Persisted]:
        """The slices as the hub says they are, and what of that is to be persisted before it is used."""
        with self._tills.lock:
            found: dict[WindowKey, HeldSlice] = {}
            changed: Persisted = {}
            for told in answer.slices:
                held = self._held.get(told.window)
                if held is None or held.held.epoch != epoch:
                    continue
                now = found[told.window] = held.held.confirm(told.granted_nano, told.returned_nano)
                if now != held.held:
                    changed[told.window, epoch] = now.granted_nano, now.returned_nano
                self._returns.heard(told.window, held.held, told.returned_nano)
            self._returns.forget_said()
            return found, changed

    def use(
        self,
        answer: LeaseAnswer,
        slices: Mapping[WindowKey, HeldSlice],
        needed: Mapping[WindowKey, Sequence[int]],
        asked_ms: int,
        first_seq: int,
    ) -> None:
        """Use these slices, which are on disk; `first_seq` is the first number of their epoch.

        `needed` is what `granted` was to come to for calls that wait.
        """
        with self._tills.lock:
            now_ms = self._clock.elapsed_ms()
            self.is_away = False
            self._is_awaiting = answer.awaiting
            was_usable = self._usable_until_ms > 0
            self._usable_until_ms = asked_ms + answer.use_ms - answer.use_ms // _MARGIN
            for told in answer.slices:
                held, live = self._held.get(told.window), self._tills.live(told.window)
                if held is None or live is None or told.window not in slices:
                    continue
                held.held = slices[told.window]
                is_first, held.told = held.told is None, told
                held.answered_ms = now_ms
                held.watermark = max(answer.watermark, first_seq - 1)
                refused = [each for each in needed.get(told.window, ()) if each > told.granted_nano]
                held.refused_nano = min(refused, default=NONE_NANO)
                live.elsewhere_nano = told.available_nano
                self._bind(live)
                if is_first:
                    held.seen = now_ms, live.till.used_nano + live.till.reserved_nano
        if not was_usable or now_ms - self._refreshed_ms > answer.use_ms // _REFRESHES:
            self._refreshed_ms = now_ms
            for live, _ in self._each():
                self._bind(live)

    def _is_usable(self, live: LiveWindow, held: HeldWindow) -> bool:
        """Whether it is known what of the slice is spent: everything from before this process is at the hub."""
        return bool(self._usable_until_ms) and held.told is not None and live.recorded[0][0] <= held.watermark

    def _bind(self, live: LiveWindow) -> None:
        """Let callers reserve what is on disk, and no more."""
        till, held = live.till, self._held.get(live.key)
        if not live.budget.hard:
            till.bind(live.budget.amount_nano, till.mark_nano, NEVER_MS)
            live.elsewhere_nano = 0
            return
        if held is None:
            till.bind(0, till.mark_nano, 0)
            return
        live.row.accounts[OWN, self._epoch] = AccountRow(held.held.granted_nano, held.held.returned_nano, 0)
        noted = live.recorded
        while len(noted) > 1 and noted[1][0] <= held.watermark:
            noted.popleft()
        if not self._is_usable(live, held):
            till.bind(held.held.bound_nano, till.mark_nano, 0)
            return
        assert held.told is not None
        till.reconcile(held.told.settled_nano, noted[-1][1] - noted[0][1])
        till.bind(held.held.bound_nano, till.mark_nano, self._usable_until_ms)
