"""One connection to the hub: batches go, acknowledgements come."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from costd.clock import Clock
from costd.domain.forwarding import Hello, Lost, Sealed, SetAside, Waiting, Welcome
from costd.domain.link import LinkBroken
from costd.services.outbox import Outbox

if TYPE_CHECKING:
    from costd.metrics import Metrics

#: Batches under way at once: enough to keep a hub busy across a continent, and all that is kept twice.
WINDOW = 8
#: What was recorded waits this long for company; a flush does not.
LINGER_S = 0.25
#: How often the hub is told what waits, when nothing else is said. It also proves that the key is still in force.
HEARTBEAT_S = 2.0
#: Without an acknowledgement for this long the road is taken for broken: keepalive notices a dead peer, not a deaf one.
DEAF_S = 60.0

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
