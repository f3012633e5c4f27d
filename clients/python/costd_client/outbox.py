"""Where records go: a queue that is filled without waiting by any thread, and the background thread that empties it.

A record is appended to a deque, which is one step of the interpreter: no lock, so that it may be done in a destructor
or a signal's handler. The thread is woken by the first record and then gathers for a moment: a thread that is woken by
every record would take the interpreter from the caller each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import NamedTuple

from costd_client.batch import MAX_RECORD_BYTES
from costd_client.complaints import Complaints
from costd_client.connection import Connection
from costd_client.delivery import GATHER_S, Delivery
from costd_client.reach import Reach
from costd_client.sender import Sender, Sent
from costd_client.spool import Spool
from costd_client.stats import Stats

#: Records that may wait for the background thread to look; it looks every few milliseconds.
_MAX_INTAKE = 10_000
#: How long a fork waits for the background thread to come to rest: about a slow sync of the disk.
_REST_S = 0.5

_log = logging.getLogger("costd_client")


class Limits(NamedTuple):
    """What an outbox may take: bytes in memory, seconds for a batch to be answered."""

    queue_bytes: int
    send_timeout_s: float


class _Flush(NamedTuple):
    done: threading.Event


class _End(NamedTuple):
    deadline_s: float


#: What the thread is woken by: None is a record that has come.
_Signal = Sent | _Flush | _End | None


class Outbox:
    """The records of one tracker in one process."""

    def __init__(
        self, connection: Connection, reach: Reach, complaints: Complaints, spool: Spool | None, limits: Limits
    ) -> None:
        self._connection = connection
        self._reach = reach
        self._complaints = complaints
        self._spool = spool
        self._limits = limits
        self._begin()

    def _begin(self) -> None:
        self._intake: deque[bytes] = deque()
        self._signals: SimpleQueue[_Signal] = SimpleQueue()
        self._stats = Stats()
        self._delivery: Delivery | None = None
        self._thread: threading.Thread | None = None
        self._is_idle = False
        self._is_full = False
        self._is_closed = False
        self._deadline_s: float | None = None
        self._flushes: list[tuple[int, threading.Event]] = []
        # Reentrant: a destructor may record while this thread counts a refusal or starts the background thread.
        self._lock = threading.RLock()
        self._at_work = threading.Lock()

    # For the threads of the program

    def put(self, record: bytes) -> bool:
        """Take a record; False where there is no room, which is counted. Never waits."""
        if self._is_full or self._is_closed or len(self._intake) >= _MAX_INTAKE or len(record) > MAX_RECORD_BYTES:
            return self._refuse(record)
        self._intake.append(record)
        if self._thread is None:
            self.start()
        elif self._is_idle:
            self._is_idle = False
            self._signals.put(None)
        return True

    def _refuse(self, record: bytes) -> bool:
        with self._lock:
            self._stats.refused += 1
        if self._is_closed:
            self._complaints.say("closed", "a record came after the tracker was closed; it is lost")
        elif len(record) > MAX_RECORD_BYTES:
            self._complaints.say("large", "a record of %d bytes is too large; it is lost", len(record))
        else:
            self._complaints.say("full", "no room for more records; those that come now are lost")
        return False

    def start(self) -> None:
        """Start the background thread, where there is none."""
        with self._lock:
            if self._thread is not None or self._is_closed:
                return
            thread = threading.Thread(target=self._run, name="costd-client", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: close() does what can be done
                self._thread = None

    def wake(self) -> None:
        """Have the thread look at what there is to do."""
        self.start()
        self._signals.put(None)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything recorded before is settled: on costd's disk, or refused by it."""
        if self._thread is None and not self._intake:
            return True
        self.start()
        done = threading.Event()
        self._signals.put(_Flush(done))
        return done.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Send what can be sent within the time, put the rest into the spool, and take nothing more."""
        if self._is_closed:
            return
        deadline_s = time.monotonic() + timeout_s
        if self._intake or self._thread is not None:
            self.start()
        self._is_closed = True
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._signals.put(_End(deadline_s))
            thread.join(timeout_s + _REST_S)
        elif self._intake:
            self._end_without_thread()
        self._connection.close()

    def _end_without_thread(self) -> None:
        delivery = self._deliver_by(self._sender())
        self._take_in(delivery, time.monotonic())
        delivery.end()

    def _sender(self) -> Sender:
        return Sender(self._connection, self._limits.send_timeout_s, self._signals.put)

    def _deliver_by(self, sender: Sender) -> Delivery:
        return Delivery(sender, self._spool, self._reach, self._complaints, self._stats)

    def stats(self) -> Stats:
        """The counts as they are now."""
        delivery = self._delivery
        queued = len(self._intake) + (delivery.in_memory if delivery is not None else 0)
        found = self._stats
        return Stats(found.sent, queued, found.spooled, found.refused, found.dropped, found.recovered)

    # The background thread

    def _run(self) -> None:
        sender = self._sender()
        sender.start()
        self._delivery = delivery = self._deliver_by(sender)
        timeout_s: float | None = 0.0
        while True:
            signals = self._wait(timeout_s)
            with self._at_work:
                try:
                    timeout_s = self._work(delivery, signals)
                except Exception:
                    _log.exception("costd's client stumbled; it goes on")
                    timeout_s = 1.0
                if timeout_s is None and self._deadline_s is not None:
                    sender.end()
                    return

    def _wait(self, timeout_s: float | None) -> list[_Signal]:
        """What has happened, once something has or the time is over; gathers for a moment after a record."""
        self._is_idle = True
        if self._intake:  # it came before the flag was up
            timeout_s = 0.0
        try:
            signals = [self._signals.get(timeout=timeout_s)]
        except Empty:
            return []
        finally:
            self._is_idle = False
        gathering_until_s = time.monotonic() + GATHER_S
        while signals[-1] is None and (left_s := gathering_until_s - time.monotonic()) > 0:
            try:
                signals.append(self._signals.get(timeout=left_s))
            except Empty:
                break
        return signals

    def _work(self, delivery: Delivery, signals: list[_Signal]) -> float | None:
        """One round; how long there is nothing to do after it. None when ending: all is done."""
        now_s = time.monotonic()
        self._take_in(delivery, now_s)
        for signal in signals:
            if isinstance(signal, Sent):
                delivery.came_back(signal, now_s)
            elif isinstance(signal, _Flush):
                self._flushes.append((delivery.taken_in, signal.done))
            elif isinstance(signal, _End):
                self._deadline_s = signal.deadline_s
        is_urgent = bool(self._flushes) or self._deadline_s is not None
        delivery.step(now_s, is_urgent=is_urgent)
        self._is_full = delivery.waiting_bytes >= self._limits.queue_bytes
        self._answer_flushes(delivery)
        timeout_s = delivery.wait_s(now_s, is_urgent=is_urgent)
        if self._deadline_s is None:
            return timeout_s
        return self._ending(delivery, now_s, self._deadline_s - now_s, timeout_s)

    def _ending(self, delivery: Delivery, now_s: float, left_s: float, timeout_s: float | None) -> float | None:
        is_home = not delivery.in_memory and not delivery.has_spooled
        # With a spool there is no point in waiting for a costd that does not answer.
        is_safe = delivery.is_failing and not delivery.in_memory
        if is_home or is_safe or left_s <= 0:
            delivery.end()
            return None
        return left_s if timeout_s is None else min(left_s, timeout_s)

    def _take_in(self, delivery: Delivery, now_s: float) -> None:
        for _ in range(len(self._intake)):
            delivery.take_in(self._intake.popleft(), now_s)

    def _answer_flushes(self, delivery: Delivery) -> None:
        if not self._flushes or delivery.has_spooled:
            return
        settled = delivery.taken_in - delivery.in_memory
        for target, done in self._flushes:
            if settled >= target:
                done.set()
        self._flushes = [each for each in self._flushes if not each[1].is_set()]

    # Forks

    def before_fork(self) -> None:
        """Let the background thread come to rest."""
        self._rests = self._at_work.acquire(timeout=_REST_S)

    def after_fork_in_parent(self) -> None:
        """Let it go on."""
        if self._rests:
            self._at_work.release()

    def after_fork_in_child(self) -> None:
        """What waits is the parent's to send; this process begins with nothing."""
        if self._delivery is not None:
            self._delivery.let_go()
        self._begin()
