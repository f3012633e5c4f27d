"""Alerts on their way out: each channel has a thread of its own, and tries again until it is accepted.

An alert may be delivered twice, where this process ends between its delivery and the note of it, or where an answer is
lost: under the same id, by which receivers know it. One that is not accepted lets those behind it pass.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.alerting import SETTLED, Alert
from costd.domain.backoff import MAX_S, Backoff
from costd.domain.errors import CostdError, Forbidden
from costd.domain.ids import public_id
from costd.domain.window import Window
from costd.metrics.budgets import AlertReadings
from costd.services.alert_channel import Channel, NotAccepted
from costd.store import alerts as store
from costd.store.commit import Change
from costd.store.orgs import OWN_ORG
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.writer import Writer

#: How often a channel looks without having been woken: for a clock that was set.
_LOOK_S = 30.0
#: Alerts are tried again after MAX_S at most: what is due later was noted under a clock that was ahead.
_FAR_MS = round(MAX_S * 2_000)
_WRITE_TIMEOUT_S = 30.0
#: After an error of this daemon's own, such as a full disk.
_TROUBLE_S = 5.0

_log = logging.getLogger(__name__)


class Tried(NamedTuple):
    """What came of a test of a channel: "" where it was accepted."""

    channel: str
    error: str


class AlertOutbox:
    """Delivers what the ledger has for the channels that are configured."""

    def __init__(
        self, writer: Writer, readers: Readers, clock: Clock, metrics: Metrics, channels: Sequence[Channel]
    ) -> None:
        self._readers = readers
        self._clock = clock
        self._channels = tuple(channels)
        self._stop = threading.Event()
        self._runs = [_Run(channel, writer, readers, clock, metrics, self._stop) for channel in channels]

    @property
    def names(self) -> tuple[str, ...]:
        """The channels there are."""
        return tuple(channel.name for channel in self._channels)

    def start(self) -> None:
        """Begin to deliver."""
        for run in self._runs:
            run.thread.start()

    def wake(self) -> None:
        """There is something new."""
        for run in self._runs:
            run.woken.set()

    def stop(self, timeout_s: float) -> None:
        """Begin no other delivery; those under way are waited for so long."""
        self._stop.set()
        self.wake()
        until_s = self._clock.monotonic_s() + timeout_s
        for run in self._runs:
            if run.thread.ident is not None:
                run.thread.join(max(0.0, until_s - self._clock.monotonic_s()))

    def test(self, caller: Caller) -> list[Tried]:
        """Send a test by every channel, and wait for what comes of it. Needs an admin of the installation's own."""
        caller.require("admin")
        if caller.org_id != OWN_ORG:
            raise Forbidden("alerts are sent for the whole installation: use a key of its own organization")
        if not self._channels:
            return []
        alert = _test(self._clock.now_ms())
        with ThreadPoolExecutor(len(self._channels), thread_name_prefix="alert-test") as threads:
            return [*threads.map(lambda channel: Tried(channel.name, _error(channel, alert)), self._channels)]

    def readings(self) -> AlertReadings:
        """What waits for the channels there are. Raises Unavailable where the ledger does not answer."""
        if not self._channels:
            return AlertReadings({}, None)
        with self._readers.snapshot() as connection:
            waiting = store.read_waiting(connection)
        counts = {name: waiting[name][0] if name in waiting else 0 for name in self.names}
        oldest = [waiting[name][1] for name in self.names if name in waiting]
        return AlertReadings(counts, min(oldest, default=None))


class _Run:
    """One channel's thread."""

    def __init__(
        self,
        channel: Channel,
        writer: Writer,
        readers: Readers,
        clock: Clock,
        metrics: Metrics,
        stop: threading.Event,
    ) -> None:
        self.woken = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"costd-alerts-{channel.name}", daemon=True)
        self._channel = channel
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._stop = stop
        self._backoff = Backoff(random.Random())  # noqa: S311 - no secret
        self._was_failing = False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                pause_s = self._step()
            except CostdError as error:
                if self._stop.is_set():
                    return
                _log.warning("alerts could not be read or noted: %s", error)
                pause_s = _TROUBLE_S
            except Exception:
                _log.exception("alerts to %s could not be sent", self._channel.name)
                pause_s = _TROUBLE_S
            if pause_s is not None:
                self.woken.wait(pause_s)
                self.woken.clear()

    def _step(self) -> float | None:
        """Deliver one; how long to wait for the next, None for not at all."""
        now_ms = self._clock.now_ms()
        with self._readers.snapshot() as connection:
            due = store.find_due(connection, self._channel.name, now_ms, now_ms + _FAR_MS)
            next_ms = None if due is not None else store.next_due_ms(connection, self._channel.name)
        if due is None:
            return _LOOK_S if next_ms is None else min(_LOOK_S, max(0.0, (next_ms - now_ms) / 1000))
        try:
            self._channel.send(due.alert)
        except NotAccepted as failure:
            self._failed(due, failure)
            return None
        self._metrics.budgets.alert_tried(self._channel.name, accepted=True)
        self._write(Change(lambda commit: store.note_delivered(commit, due.number, self._channel.name)))
        self._backoff.reset()
        if self._was_failing:
            _log.info("alerts to %s are accepted again", self._channel.name)
            self._was_failing = False
        return None

    def _failed(self, due: store.Due, failure: NotAccepted) -> None:
        self._metrics.budgets.alert_tried(self._channel.name, accepted=False)
        pause_s = self._backoff.next_s(failure.retry_after_s)
        pause_ms = round(pause_s * 1000)
        if not self._was_failing:
            _log.warning(
                "an alert was not accepted; it is tried again until it is",
                extra={"channel": self._channel.name, "alert": due.alert.id, "reason": failure.reason},
            )
            self._was_failing = True
        name, reason = self._channel.name, failure.reason
        self._write(Change(lambda commit: store.note_failed(commit, due.number, name, pause_ms, reason)))
        self._stop.wait(pause_s)

    def _write(self, change: Change) -> None:
        self._writer.submit(change).wait(_WRITE_TIMEOUT_S)


def _error(channel: Channel, alert: Alert) -> str:
    try:
        channel.send(alert)
    except NotAccepted as failure:
        return failure.reason
    return ""


def _test(now_ms: int) -> Alert:
    window = Window(now_ms, now_ms)
    return Alert(public_id(now_ms), "", "", "", "", "", window, "0", SETTLED, now_ms, 0, 0, None, is_test=True)
