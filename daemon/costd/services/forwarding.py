"""Forwarding: what the ledger keeps goes to the hub, range by range, for as long as it takes.

One thread seals ranges and sends them, another takes the hub's acknowledgements. Whatever happens to the road, the
process or the machine, a range that was sealed is sent as it was sealed, until the hub has it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from costd import __version__
from costd.clock import Clock
from costd.domain.backoff import Backoff
from costd.domain.errors import CostdError
from costd.domain.forwarding import FORMAT, MAX_SKEW_MS, Hello, Lost, Resume, Sealed, SetAside, Waiting, Welcome
from costd.domain.link import AWAY, CONNECTED, REFUSED, LinkBroken, LinkReport
from costd.services.outbox import DamagedSeal, Outbox
from costd.store.hub_link import read_link
from costd.store.outbox import setbacks

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.reader import Readers

#: Batches under way at once: enough to keep a hub busy across a continent, and all that is kept twice.
WINDOW = 8
#: What was recorded waits this long for company; a flush does not.
LINGER_S = 0.25
#: How often the hub is told what waits, when nothing else is said. It also proves that the key is still in force.
HEARTBEAT_S = 2.0
#: Without an acknowledgement for this long the road is taken for broken: keepalive notices a dead peer, not a deaf one.
DEAF_S = 60.0
#: A connection that lasted this long was a good one: the next pauses are short again.
GOOD_S = 10.0

_log = logging.getLogger(__name__)


class Ack(NamedTuple):
    """What the hub acknowledged: everything up to `watermark`, and what it did not count."""

    watermark: int
    set_aside: Sequence[SetAside]


class Road(Protocol):
    """One stream to the hub. Everything but close() raises LinkBroken once it is broken."""

    def greet(self, hello: Hello) -> Welcome:
        """Open the stream; what the hub says."""

    def send(self, sealed: Sealed, lost: Lost | None) -> None:
        """Send a batch; returns at once."""

    def say(self, waiting: Waiting) -> None:
        """Tell what waits; returns at once."""

    def acks(self) -> Iterator[Ack]:
        """Acknowledgements as they come, until the stream breaks."""

    def is_outdated(self) -> bool:
        """Whether the files that it was opened with have changed since."""

    def close(self) -> None:
        """End it, from any thread."""


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
        self._incarnation = os.urandom(16)
        self._greeted = b""
        self._backoff = Backoff(random.Random())  # noqa: S311 - no secret
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._hurried = threading.Event()
        self._watchers: list[Callable[[bool], None]] = []
        self._journey: Journey | None = None
        self._state = LinkReport(address)
        self._thread = threading.Thread(target=self._run, name="costd-forward", daemon=True)

    def start(self) -> None:
        """Begin to forward; never waits for the hub."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop; what was not acknowledged is sent by the next process."""
        self._stopping.set()
        self._awake.set()
        self._hurried.set()
        if (journey := self._journey) is not None:
            journey.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

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
            self._hurried.set()
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

    # -- the road ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            try:
                self._travel()
            except LinkBroken as broken:
                self._pause(broken, began_s)
            except DamagedSeal:
                reason = "a sealed batch is not what it was: the disk has changed it"
                self._outbox.begin_epoch(self._outbox.acknowledged, reason, None)
            except Exception as error:
                # The storage refuses, or a mistake of ours: neither may end the forwarding.
                if not isinstance(error, CostdError):
                    _log.exception("forwarding met an unexpected error")
                self._pause(LinkBroken(str(error), reason="local"), began_s)

    def _pause(self, broken: LinkBroken, began_s: float) -> None:
        if self._stopping.is_set():
            return
        if self._clock.monotonic_s() - began_s > GOOD_S:
            self._backoff.reset()
        self._metrics.forwarding.failed(broken.reason)
        pause_s = self._backoff.next_s(broken.retry_after_s)
        message = str(broken)
        _log.log(
            logging.DEBUG if message == self._state.last_error else logging.WARNING,
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
        # What the hub asked for is respected by those in a hurry, too.
        (self._hurried if broken.retry_after_s is None else self._stopping).wait(pause_s)
        self._hurried.clear()

    def _travel(self) -> None:
        """Connect, and forward until the road breaks; returns where a new epoch is to be greeted with."""
        journey = Journey(self._make_road(), self._outbox, self._clock, self._metrics)
        self._journey = journey
        try:
            if self._stopping.is_set():
                return
            hello = self._hello()
            before_s = self._clock.monotonic_s()
            welcome = journey.road.greet(hello)
            skew_ms = welcome.time_ms - hello.time_ms - round((self._clock.monotonic_s() - before_s) * 500)
            going_on = self._outbox.meet(welcome)
            self._greeted = hello.stand.epoch
            if going_on.new_epoch:
                _log_new_epoch(going_on)
                self._outbox.begin_epoch(going_on.after, going_on.new_epoch, going_on.lost)
                return
            self._arrive(welcome, skew_ms)
            journey.go(going_on.after, min(FORMAT, welcome.form), self._stopping, self._awake)
        finally:
            journey.close()
            self._journey = None

    def _hello(self) -> Hello:
        stand = self._outbox.stand
        return Hello(
            __version__,
            FORMAT,
            socket.gethostname(),
            self._name,
            self._clock.now_ms(),
            stand,
            self._incarnation,
            self._greeted == stand.epoch,
            waiting_of(self._outbox, self._clock),
        )

    def _arrive(self, welcome: Welcome, skew_ms: int) -> None:
        if abs(skew_ms) > MAX_SKEW_MS:
            _log.warning("this clock is %d ms behind the hub's", skew_ms, extra={"hub": self._state.address})
        _log.info("joined the hub", extra={"hub": self._state.address, "source": welcome.source})
        self._tell(
            state=CONNECTED,
            connected_ms=self._clock.now_ms(),
            hub_version=welcome.version,
            clock_skew_ms=skew_ms,
            last_error="",
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


class Journey:
    """One connection: batches go, acknowledgements come."""

    def __init__(self, road: Road, outbox: Outbox, clock: Clock, metrics: Metrics) -> None:
        self.road = road
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Condition()
        self._under_way: deque[tuple[int, int, float]] = deque()
        self._broken: LinkBroken | None = None

    def close(self) -> None:
        """End it."""
        self.road.close()
        with self._lock:
            self._lock.notify_all()

    def go(self, after: int, form: int, stopping: threading.Event, awake: threading.Event) -> None:
        """Send what is behind a number until the road breaks, which raises LinkBroken, or we stop."""
        threading.Thread(target=self._listen, name="costd-acks", daemon=True).start()
        sent, lost = after, self._outbox.lost()
        said_s = self._clock.monotonic_s()
        while not stopping.is_set():
            self._wait_for_room(stopping)
            sealed = self._outbox.next_after(sent, form)
            if sealed is not None:
                with self._lock:
                    self._under_way.append((sealed.last, sealed.records, self._clock.monotonic_s()))
                self.road.send(sealed, lost)
                sent, lost = sealed.last, None
            if (now_s := self._clock.monotonic_s()) - said_s >= HEARTBEAT_S:
                said_s = now_s
                self._look_after()
            if sealed is None or sent >= self._outbox.newest:
                awake.wait(LINGER_S)
                awake.clear()

    def _look_after(self) -> None:
        if self.road.is_outdated():
            raise LinkBroken("the key or a certificate has changed", reason="renewed", retry_after_s=0)
        self.road.say(waiting_of(self._outbox, self._clock))

    def _wait_for_room(self, stopping: threading.Event) -> None:
        with self._lock:
            self._lock.wait_for(
                lambda: len(self._under_way) < WINDOW or self._broken is not None or stopping.is_set(), DEAF_S
            )
            if self._broken is not None:
                raise self._broken
            now_s = self._clock.monotonic_s()
            if self._under_way and now_s - self._under_way[0][2] > DEAF_S:
                raise LinkBroken(f"the hub has not acknowledged anything for {DEAF_S:.0f} s", reason="deaf")

    def _listen(self) -> None:
        """Take acknowledgements until the road breaks; runs in a thread of its own."""
        try:
            for ack in self.road.acks():
                self._take(ack)
            broken = LinkBroken("the hub has ended the stream")
        except LinkBroken as error:
            broken = error
        except Exception as error:
            _log.exception("an acknowledgement could not be taken down")
            broken = LinkBroken(str(error), reason="local")
        with self._lock:
            self._broken = broken
            self._lock.notify_all()

    def _take(self, ack: Ack) -> None:
        records = batches = 0
        sent_s = None
        with self._lock:
            while self._under_way and self._under_way[0][0] <= ack.watermark:
                _, count, sent_s = self._under_way.popleft()
                records += count
                batches += 1
            self._lock.notify_all()
        self._outbox.acknowledge(ack.watermark, ack.set_aside)
        if sent_s is not None:
            self._metrics.forwarding.acknowledged(records, batches, self._clock.monotonic_s() - sent_s)


def waiting_of(outbox: Outbox, clock: Clock) -> Waiting:
    """What waits, as the hub is told."""
    held = outbox.backlog()
    return Waiting(held.records, held.oldest_ms, clock.now_ms() if held.first_ms is None else held.first_ms)
