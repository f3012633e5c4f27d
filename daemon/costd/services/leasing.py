"""A sidecar asks its hub for slices, and gives back what it does not need: one request at a time, in its own thread.

The order is what makes it safe. That this process is the next one is written before the hub is asked to confirm it;
what was granted is written before it is used; what goes back is taken out of the tills and written before the hub
hears of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from costd.clock import Clock
from costd.domain.lease import LeaseAnswer, LeaseRequest, Want
from costd.domain.link import LinkBroken
from costd.domain.window_key import WindowKey
from costd.services.attempts import Attempts
from costd.services.forwarding import Forwarding
from costd.services.slices import Slices
from costd.store.commit import Change, Commit
from costd.store.lease_rows import LeaseState, read_lease_state, read_slices, store_lease_state, store_slices

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.reader import Readers
    from costd.store.writer import Writer

#: How often the hub is asked while money is used, and while none is. A change of a limit is heard of that soon, too.
ACTIVE_S = 1.0
IDLE_S = 5.0
#: Whoever waits is waited for alone; what is asked ahead of need may wait this long for company.
LINGER_S = 0.2
#: Past this a hub that does not answer is out of reach, and nobody waits for it any more.
EXCHANGE_S = 3.0
GREETING_S = 5.0
#: How long the road that forwards may take to agree on an epoch before the hub counts as out of reach.
_AGREE_S = 1.0
_LOOK_S = 0.02
#: How soon a hub is asked again that has not confirmed this process yet.
_SETTLE_S = 0.1
_WRITE_TIMEOUT_S = 60.0
_COPY = (
    "the hub knows of another process that goes on with this epoch: this ledger was restored from a backup or cloned"
)

_log = logging.getLogger(__name__)


class LeaseRoad(Protocol):
    """A road to the hub. Everything but close() raises LinkBroken once it is broken."""

    def open(self, timeout_s: float) -> None:
        """Reach the hub."""

    def exchange(self, request: LeaseRequest, timeout_s: float) -> LeaseAnswer:
        """Ask once."""

    def is_outdated(self) -> bool:
        """Whether the files that it was opened with have changed since."""

    def close(self) -> None:
        """End it, from any thread."""


class Leasing:
    """Asks the hub, for as long as the daemon runs."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        clock: Clock,
        metrics: Metrics,
        slices: Slices,
        forwarding: Forwarding,
        road: Callable[[], LeaseRoad],
        *,
        ttl_ms: int,
    ) -> None:
        """`road` makes a new road; `ttl_ms` is how long reservations live."""
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._slices = slices
        self._forwarding = forwarding
        self._make_road = road
        self._ttl_ms = ttl_ms
        self._road: LeaseRoad | None = None
        self._awake = threading.Event()
        self._use_s = IDLE_S
        self._wants_report = False
        #: Whether the hub has confirmed this process, as of the last answer.
        self._is_settled = False
        with readers.snapshot() as connection:
            self._state = read_lease_state(connection)
        self._attempts = Attempts("costd-lease", clock, self._travel, self._broke)
        slices.on_demand = self._awake.set
        slices.on_loss = self._attempts.hurry
        forwarding.tell_turn(self._turn)
        forwarding.watch(self._connected)

    def start(self) -> None:
        """Begin; never waits for the hub."""
        self._attempts.start()

    def stop(self, timeout_s: float) -> None:
        """Stop; what is held stays held, for the next process."""
        self._attempts.end()
        self._awake.set()
        if (road := self._road) is not None:
            road.close()
        self._attempts.join(timeout_s)

    def _turn(self, goes_on: bool) -> None:
        """A new epoch is about to begin; in the thread that forwards."""
        self._slices.close(goes_on=goes_on)

    def _connected(self, is_connected: bool) -> None:
        if is_connected:
            self._attempts.hurry()

    def _broke(self, broken: LinkBroken, pause_s: float) -> None:
        if not self._slices.is_away:
            _log.warning(
                "the hub cannot be asked for budgets; what is at hand is used up meanwhile: %s",
                broken,
                extra={"again_s": round(pause_s, 1)},
            )
        self._give_up()

    def _give_up(self) -> None:
        """The hub is out of reach: nobody waits for it."""
        self._slices.is_away = True
        self._slices.let_go(self._slices.take_waiters())

    # -- the road ----------------------------------------------------------------------------------------------------

    def _travel(self) -> None:
        """Ask again and again until the road breaks."""
        self._road = road = self._make_road()
        try:
            if self._attempts.stopping.is_set():
                return
            road.open(GREETING_S)
            while not self._attempts.stopping.is_set():
                if road.is_outdated():
                    return
                if self._agreed():
                    self._round(road)
                    self._rest()
        finally:
            road.close()
            self._road = None

    def _agreed(self) -> bool:
        """Whether the hub and this process have agreed on an epoch; waits a moment for it."""
        since_s = self._clock.monotonic_s()
        while not (epoch := self._forwarding.epoch):
            if self._attempts.stopping.wait(_LOOK_S):
                return False
            if self._clock.monotonic_s() - since_s > _AGREE_S:
                self._give_up()
                return False
        if epoch != self._slices.epoch:
            self._bring_held(epoch)
            self._slices.begin(epoch)
        return True

    def _bring_held(self, epoch: bytes) -> None:
        """Bring windows into memory that a former process held slices of: what is idle of these is to go back."""
        with self._readers.snapshot() as connection:
            known = read_slices(connection, self._clock.now_ms())
        self._bring([each.window for each in known if each.epoch == epoch and each.granted_nano > each.returned_nano])

    def _bring(self, windows: Sequence[WindowKey]) -> None:
        ticket = self._slices.bring(windows)
        if ticket is not None:
            ticket.wait(_WRITE_TIMEOUT_S)

    def _rest(self) -> None:
        """Until it is time to ask again."""
        is_active = self._slices.is_active
        period_s = min(ACTIVE_S if is_active else IDLE_S, self._use_s)
        if not self._is_settled:
            self._attempts.stopping.wait(_SETTLE_S)
            return
        if self._slices.has_waiters:
            return
        self._attempts.stopping.wait(_LOOK_S)  # a burst of shortages is one request
        if self._awake.wait(period_s) and not self._slices.has_waiters:
            self._awake.clear()
            self._awake.wait(LINGER_S)
        self._awake.clear()

    def _round(self, road: LeaseRoad) -> None:
        """Ask once, and use what is granted."""
        slices = self._slices
        epoch = slices.epoch
        if taken := slices.take_out(self._ttl_ms):
            self._persist(taken)
            slices.written(taken)
        wants, waiters = slices.wants()
        try:
            state = self._state
            if self._forwarding.incarnation not in state.pending or state.epoch != epoch:
                self._store(state.asked(epoch, self._forwarding.incarnation))
            stand = self._forwarding.stand
            if stand.epoch != epoch:
                return
            request = self._request(epoch, stand.acknowledged)._replace(wants=wants)
            asked_ms = self._clock.elapsed_ms()
            answer = self._exchange(road, request)
            if self._heed(answer) and slices.epoch == epoch:
                # Others wait for what was granted to a former process, or in an answer that never came.
                self._bring([told.window for told in answer.slices if told.recall])
                found, changed = slices.learned(epoch, answer)
                self._persist(changed)
                slices.use(answer, found, _needed(wants), asked_ms, stand.epoch_first)
        finally:
            slices.let_go(waiters)

    def _exchange(self, road: LeaseRoad, request: LeaseRequest) -> LeaseAnswer:
        began_s, outcome = self._clock.monotonic_s(), "failed"
        try:
            answer = road.exchange(request, EXCHANGE_S)
            outcome = "answered" if answer.confirmed else "refused"
        finally:
            self._metrics.budgets.slices_asked(outcome, self._clock.monotonic_s() - began_s)
        return answer

    def _request(self, epoch: bytes, acknowledged: int) -> LeaseRequest:
        state = self._state
        report = None
        if self._wants_report:
            with self._readers.snapshot() as connection:
                report = read_slices(connection, self._clock.now_ms())
        return LeaseRequest(
            epoch,
            self._forwarding.incarnation,
            state.confirmed,
            state.pending,
            state.hub_epoch,
            self._writer.ledger.last_seq,
            acknowledged,
            returns=self._slices.returns(acknowledged),
            report=report,
        )

    def _heed(self, answer: LeaseAnswer) -> bool:
        """Whether slices may be used by what the hub says."""
        state = self._state
        if answer.new_epoch:
            # A hub that went back in time does not know this process; that is no sign of a copy.
            goes_on = bool(state.hub_epoch) and state.hub_epoch != answer.hub_epoch
            _log.warning("the hub does not confirm this process; a new epoch begins")
            self._is_settled = False
            self._forwarding.renew(_COPY, goes_on=goes_on)
            return False
        self._wants_report = answer.report_wanted
        self._is_settled = answer.confirmed
        if not answer.confirmed:
            self._slices.is_away = True
            return False
        now = state.heard(self._forwarding.incarnation, answer.hub_epoch)
        if now != state:
            self._store(now)
        self._use_s = max(_LOOK_S, answer.use_ms / 3_000)
        return True

    # -- the disk ----------------------------------------------------------------------------------------------------

    def _store(self, state: LeaseState) -> None:
        self._write(lambda commit: store_lease_state(commit, state))
        self._state = state

    def _persist(self, slices: Mapping[tuple[WindowKey, bytes], tuple[int, int]]) -> None:
        if slices:
            self._write(lambda commit: store_slices(commit, slices))

    def _write(self, apply: Callable[[Commit], object]) -> None:
        self._writer.submit(Change(apply, bounded=False)).wait(_WRITE_TIMEOUT_S)


def _needed(wants: Sequence[Want]) -> dict[WindowKey, list[int]]:
    needed: dict[WindowKey, list[int]] = {}
    for want in wants:
        needed.setdefault(want.window, []).append(want.needed_nano)
    return needed
