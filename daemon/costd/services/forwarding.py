"""Forwarding: what the ledger keeps goes to the hub, range by range, for as long as it takes.

One thread seals ranges and sends them, another takes the hub's acknowledgements. Whatever happens to the road, the
process or the machine, a range that was sealed is sent as it was sealed, until the hub has it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from costd import __version__
from costd.clock import Clock
from costd.domain.forwarding import FORMAT, MAX_SKEW_MS, Hello, Lost, Resume, Stand, Welcome
from costd.domain.link import AWAY, CONNECTED, REFUSED, LinkBroken, LinkReport
from costd.services.attempts import Attempts
from costd.services.journey import Journey, Road, waiting_of
from costd.services.outbox import DamagedSeal, Outbox
from costd.store.hub_link import read_link
from costd.store.outbox import setbacks

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.reader import Readers

_log = logging.getLogger(__name__)


class Forwarding:
    """Forwards the ledger of one daemon."""

    def __init__(
        self,
        outbox: Outbox,
        readers: Readers,
        clock: Clock,
        metrics: Metrics,
        road: Callable[[], Road],
        *,
        address: str,
        name: str = "",
    ) -> None:
        """`road` makes a new stream; `name` is the one the hub must know us by, "" for any."""
        self._outbox = outbox
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._make_road = road
        self._name = name
        #: Of this process: 16 random bytes.
        self.incarnation = os.urandom(16)
        self._greeted = b""
        #: Why a new epoch is to begin, "" where none is.
        self._renewal = ("", False)
        #: The epoch that the hub and this process have agreed on, b"" while they have not.
        self._agreed = b""
        self._turning: Callable[[bool], object] = bool
        self._awake = threading.Event()
        self._watchers: list[Callable[[bool], None]] = []
        self._journey: Journey | None = None
        self._state = LinkReport(address)
        self._attempts = Attempts("costd-forward", clock, self._travel, self._broke)

    def start(self) -> None:
        """Begin to forward; never waits for the hub."""
        self._attempts.start()

    def stop(self, timeout_s: float) -> None:
        """Stop; what was not acknowledged is sent by the next process."""
        self._attempts.end()
        self._awake.set()
        if (journey := self._journey) is not None:
            journey.close()
        self._attempts.join(timeout_s)

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether the hub is in reach."""
        return self._state.state == CONNECTED

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Call `callback` with whether the hub is in reach, now and at every change."""
        self._watchers.append(callback)
        callback(self.is_connected)

    def report(self) -> LinkReport:
        """How it stands; reads the ledger."""
        held = self._outbox.backlog()
        with self._readers.snapshot() as connection:
            quarantined, lost = setbacks(connection)
            link = read_link(connection)
        return self._state._replace(
            unforwarded_records=held.records,
            oldest_unforwarded_ms=held.oldest_ms,
            sealed_bytes=held.sealed_bytes,
            watermark=self._outbox.acknowledged,
            quarantined=quarantined,
            lost=lost,
            source=link.source if link else "",
            organization=link.organization if link else "",
            heard_ms=link.heard_ms if link else None,
            acknowledged_ms=link.acknowledged_ms if link else None,
        )

    def wake(self) -> None:
        """Forward at once what waits."""
        self._awake.set()

    @property
    def state(self) -> LinkReport:
        """How the road stands, from memory: without what only the ledger knows."""
        return self._state

    def push(self) -> int:
        """Forward at once, and do not wait out a pause of our own before that; the number of what was recorded last."""
        target = self._outbox.newest
        if not self.is_connected:
            self._attempts.hurry()
        self.wake()
        return target

    def wait_for(self, number: int, timeout_s: float) -> bool:
        """Whether the hub has acknowledged everything up to a number, now or within that time. Blocks."""
        return self._outbox.wait_for(number, timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Forward at once; whether the hub has acknowledged everything recorded before the call. Blocks."""
        return self.wait_for(self.push(), timeout_s)

    async def flushed(self, timeout_s: float) -> bool:
        """The same for a coroutine, which does not cut a pause short: such calls may be many."""
        loop, arrived, target = asyncio.get_running_loop(), asyncio.Event(), self._outbox.newest
        if self._outbox.acknowledged >= target or timeout_s <= 0:
            return self._outbox.acknowledged >= target
        self.wake()
        forget = self._outbox.tell(target, lambda: loop.call_soon_threadsafe(arrived.set))
        try:
            async with asyncio.timeout(timeout_s):
                return await arrived.wait()
        except TimeoutError:
            return False
        finally:
            forget()

    @property
    def epoch(self) -> bytes:
        """The present epoch of the sequence, once the hub and this process have agreed on it; b"" before."""
        return self._agreed

    @property
    def stand(self) -> Stand:
        """Where this end stands."""
        return self._outbox.stand

    def tell_turn(self, callback: Callable[[bool], object]) -> None:
        """Call `callback` before a new epoch begins, with whether this ledger alone goes on with the one before it.

        It does not where it may be a copy: restored from a backup, or cloned.
        """
        self._turning = callback

    def renew(self, reason: str, *, goes_on: bool) -> None:
        """Begin a new epoch, soon; `goes_on` as for tell_turn."""
        self._agreed = b""
        self._renewal = reason, goes_on
        if (journey := self._journey) is not None:
            journey.close()
        self._attempts.hurry()

    # -- the road ----------------------------------------------------------------------------------------------------

    def _broke(self, broken: LinkBroken, pause_s: float) -> None:
        self._metrics.forwarding.failed(broken.reason)
        message = str(broken)
        is_news = self.is_connected or message != self._state.last_error
        _log.log(
            logging.WARNING if is_news else logging.DEBUG,
            "the hub is out of reach: %s",
            message,
            extra={"hub": self._state.address, "again_s": round(pause_s, 1)},
        )
        self._tell(
            state=REFUSED if broken.refused else AWAY,
            connected_ms=None,
            last_error=message,
            last_error_ms=self._clock.now_ms(),
        )

    def _travel(self) -> None:
        """Connect, and forward until the road breaks; returns where a new epoch is to be greeted with."""
        journey = Journey(self._make_road(), self._outbox, self._clock, self._metrics)
        self._journey = journey
        try:
            if self._attempts.stopping.is_set():
                return
            reason, goes_on = self._renewal
            if reason:
                self._begin_epoch(self._outbox.acknowledged, reason, None, goes_on=goes_on)
                self._renewal = ("", False)
            hello = self._hello()
            before_s = self._clock.monotonic_s()
            welcome = journey.road.greet(hello)
            skew_ms = welcome.time_ms - hello.time_ms - round((self._clock.monotonic_s() - before_s) * 500)
            going_on = self._outbox.meet(welcome)
            self._greeted = hello.stand.epoch
            if going_on.new_epoch:
                _log_new_epoch(going_on)
                self._begin_epoch(going_on.after, going_on.new_epoch, going_on.lost, goes_on=going_on.hub_went_back)
                return
            self._arrive(welcome, skew_ms)
            journey.go(going_on.after, min(FORMAT, welcome.form), self._attempts.stopping, self._awake)
        except DamagedSeal:
            reason = "a sealed batch is not what it was: the disk has changed it"
            self._begin_epoch(self._outbox.acknowledged, reason, None, goes_on=True)
        finally:
            journey.close()
            self._journey = None

    def _begin_epoch(self, after: int, reason: str, lost: Lost | None, *, goes_on: bool) -> None:
        self._agreed = b""
        self._turning(goes_on)
        self._outbox.begin_epoch(after, reason, lost)

    def _hello(self) -> Hello:
        stand = self._outbox.stand
        return Hello(
            __version__,
            FORMAT,
            socket.gethostname(),
            self._name,
            self._clock.now_ms(),
            stand,
            self.incarnation,
            self._greeted == stand.epoch,
            waiting_of(self._outbox, self._clock),
        )

    def _arrive(self, welcome: Welcome, skew_ms: int) -> None:
        if abs(skew_ms) > MAX_SKEW_MS:
            _log.warning("this clock is %d ms behind the hub's", skew_ms, extra={"hub": self._state.address})
        self._agreed = self._greeted
        _log.info("joined the hub", extra={"hub": self._state.address, "source": welcome.source})
        self._tell(
            state=CONNECTED,
            connected_ms=self._clock.now_ms(),
            hub_version=welcome.version,
            clock_skew_ms=skew_ms,
        )

    def _tell(self, **changes: object) -> None:
        """Be in another state, and tell whoever watches."""
        was_connected = self.is_connected
        self._state = self._state._replace(**changes)  # type: ignore[arg-type]  # fields of LinkReport
        if self.is_connected != was_connected:
            for callback in self._watchers:
                callback(self.is_connected)


def _log_new_epoch(going_on: Resume) -> None:
    _log.warning("a new epoch begins: %s", going_on.new_epoch, extra={"after": going_on.after})
    if going_on.lost is not None:
        _log.error(
            "records are lost to the hub: it lacks them, and they have outlived their time here",
            extra=going_on.lost._asdict(),
        )
