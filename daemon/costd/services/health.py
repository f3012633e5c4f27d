"""Health: whether records are taken now, why not, and what the daemon looks like from inside."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain.access import Caller
from costd.metrics import Metrics, Readings
from costd.store.integrity import CheckReport, check_ledger
from costd.store.reader import Readers
from costd.store.writer import RESET_BYTES

if TYPE_CHECKING:
    from costd.store.writer import Writer

#: A step of the writer that takes longer than this is not slow but stuck: its longest wait for a lock is 5 s.
STALL_S = 15.0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The daemon at this moment; times in UTC milliseconds, counts since the start."""

    ready: bool
    problems: list[str]
    queued_records: int
    queued_bytes: int
    queue_max_records: int
    queue_max_bytes: int
    last_commit_ms: int | None
    database_bytes: int
    wal_bytes: int
    accepted: int
    duplicates: int
    rejected: int
    errors: int
    started_ms: int
    last_error: str


class Health:
    """Watches the writer."""

    def __init__(self, writer: Writer, readers: Readers, clock: Clock, metrics: Metrics) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._started_ms = clock.now_ms()
        self._watchers: list[Callable[[bool], None]] = []
        self._stopping = threading.Event()
        self._was_ready: bool | None = None
        metrics.read_gauges_from(self.readings)

    def problems(self) -> list[str]:
        """Why records are not taken now; empty when they are."""
        writer = self._writer
        found = []
        if self._stopping.is_set():
            found.append("the daemon is stopping")
        if (stalled := self.stalled()) is not None:
            found.append(stalled)
        if writer.damaged:
            found.append("the database is damaged: run `costd check` and restore a backup")
        elif writer.is_size_limited and writer.records_refused is not None:
            found.append(writer.records_refused.message)
        elif (refused := writer.records_refused) is not None:
            found.append(f"{refused.message} (last error: {writer.last_error or 'no room for the disk reserve'})")
        if writer.queue.is_full:
            found.append("the write queue is full")
        return found

    def stalled(self) -> str | None:
        """Why the writer makes no progress, which only a new process can change; None while it does.

        A disk or a queue without room is no stall: the writer says no, and looks again by itself.
        """
        if not self._writer.alive:
            return None if self._stopping.is_set() else "the writer is not running"
        busy_since_s = self._writer.busy_since_s
        if busy_since_s is None or (stuck_s := self._clock.monotonic_s() - busy_since_s) <= STALL_S:
            return None
        return f"the writer has been stuck for {stuck_s:.0f} s"

    def report(self) -> HealthReport:
        """Everything about the daemon's state; from memory and three stat calls."""
        problems = self.problems()
        writer = self._writer
        return HealthReport(
            ready=not problems,
            problems=problems,
            queued_records=writer.queue.records,
            queued_bytes=writer.queue.bytes,
            queue_max_records=writer.queue.max_records,
            queue_max_bytes=writer.queue.max_bytes,
            last_commit_ms=writer.last_commit_ms,
            database_bytes=self._database_bytes(),
            wal_bytes=writer.wal_bytes(),
            accepted=self._metrics.accepted,
            duplicates=self._metrics.duplicates,
            rejected=self._metrics.rejections,
            errors=writer.failed_commits,
            started_ms=self._started_ms,
            last_error=writer.last_error,
        )

    def readings(self) -> Readings:
        """The gauges of /metrics."""
        writer = self._writer
        newest: dict[str, int] = {}
        for (_, provider), newest_ms in writer.ledger.newest.copy().items():
            newest[provider] = max(newest_ms, newest.get(provider, 0))
        return Readings(
            writer.queue.records,
            writer.queue.bytes,
            writer.queue.max_records,
            writer.queue.max_bytes,
            database_bytes := self._database_bytes(),
            database_bytes + self._free_bytes(),
            writer.wal_bytes(),
            RESET_BYTES,
            writer.last_commit_ms,
            newest,
            ready=not self.problems(),
        )

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Call `callback` with the readiness now and at every change that beat() notices."""
        self._watchers.append(callback)
        callback(not self.problems())

    def beat(self) -> bool:
        """Look at the readiness, tell the watchers if it changed, and return it; called every second or so."""
        ready = not self.problems()
        if ready != self._was_ready:
            self._was_ready = ready
            for callback in self._watchers:
                callback(ready)
        return ready

    def stopping(self) -> None:
        """Be unready from now on."""
        self._stopping.set()
        self.beat()

    def stops_within(self, seconds: float) -> bool:
        """Wait so long, or until the daemon is to stop; whether it is. What goes on for long waits by this."""
        return self._stopping.wait(seconds)

    def ping_database(self) -> float:
        """Seconds that a read of the database takes; raises Unavailable when it cannot be read."""
        started_s = self._clock.monotonic_s()
        with self._readers.snapshot() as connection:
            connection.execute("SELECT complete_from_hour FROM ledger_state").fetchone()
        return self._clock.monotonic_s() - started_s

    def count_events(self) -> int:
        """Records held now."""
        with self._readers.snapshot() as connection:
            return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])

    def check(self, caller: Caller) -> CheckReport:
        """Prove that the database is sound and its rollups equal its events; needs admin, reads everything."""
        caller.require("admin")
        with self._readers.snapshot(unbounded=True) as connection:
            return check_ledger(connection)

    def _free_bytes(self) -> int:
        """Room on the disk of the database."""
        try:
            disk = os.statvfs(self._writer.path.parent)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def _database_bytes(self) -> int:
        try:
            return self._writer.path.stat().st_size
        except OSError:
            return 0
