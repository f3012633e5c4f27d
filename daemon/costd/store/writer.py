"""The one writer: a thread with the only writing connection, and group commit of what its queue holds.

Whatever waits is committed as one transaction and then acknowledged together: nobody is told "kept" before COMMIT
has returned, and with synchronous=FULL that is after the fsync. The order within a commit is records, then changes.

When a commit fails because of the disk, everyone in it is refused and nothing of it is kept. If the failure came at
COMMIT itself, whether it took effect is looked up in the reopened database before anybody is answered.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from costd.clock import Clock
from costd.domain.errors import CostdError, OutOfSpace, Refused, Unavailable
from costd.domain.rollup import AdjustmentCounts, Sums
from costd.store import connection as database
from costd.store.batches import OUTCOME_WORDS, BatchStored, ColumnBatch, store_batch
from costd.store.budgeting import Budgeting
from costd.store.commit import Change, Commit
from costd.store.ledger import EventDraft, Ledger
from costd.store.requests import Stored
from costd.store.size_limit import SizeLimit
from costd.store.space import DiskReserve
from costd.store.ticket import Ticket, wake
from costd.store.work_queue import CHANGE_BYTES, COLUMN_RECORD_BYTES, DRAFT_OVERHEAD_BYTES, WorkQueue

#: One commit takes at most this many records: it bounds how long the first of them waits for the last.
MAX_GROUP = 4_096

#: SQLite folds the log into the database every WAL_PAGES pages (see the connection). A reader in the middle keeps
#: the log from starting over; past this size the writer waits for readers to let it, but not more often than this.
RESET_BYTES = 64 * 1024 * 1024
RESET_PAUSE_S = 5.0
#: It waits this long, enough for reports. One who reads everything (a backup, a check) takes longer: waiting for
#: that one would hold up every record by as much, so that the log may grow, up to LOG_BYTES, before the writer does.
RESET_PATIENCE_MS = 100
LOG_BYTES = 1024 * 1024 * 1024

#: How often an idle writer looks whether the disk has room again.
TICK_S = 0.5
_REOPEN_TRIES = 20

T = TypeVar("T")
_log = logging.getLogger(__name__)


class CommitObserver(Protocol):
    """Is told what reached the disk; called in the writer's thread, must be quick and must not raise."""

    def committed(self, sums: Sequence[Sums], tally: Mapping[tuple[str, str], int], duration_s: float) -> None:
        """A transaction is durable; `tally` counts its records by (door, outcome).

        Outcomes are accepted, duplicate and conflict.
        """

    def adjusted(self, adjustments: AdjustmentCounts) -> None:
        """The corrections of a transaction are durable."""

    def commit_failed(self, doors: Sequence[str]) -> None:
        """A transaction was refused by the storage; `doors` are those of its records, one each."""


class Writer:
    """Owns the writing connection. submit() from any thread or coroutine; everything else happens in its thread."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        observer: CommitObserver,
        *,
        max_records: int,
        max_bytes: int,
        reserve: DiskReserve,
        max_ledger_bytes: int = 0,
    ) -> None:
        self.path = path
        self.queue = WorkQueue(max_records, max_bytes)
        self.last_commit_ms: int | None = None
        #: When the step began that the thread is at, each bounded by one wait for the disk; None while it has no work.
        self.busy_since_s: float | None = None
        self.commits = 0
        self.failed_commits = 0
        self.last_error = ""
        self.damaged = False
        self._clock = clock
        self._observer = observer
        self._reserve = reserve
        self._size_limit = SizeLimit(max_ledger_bytes)
        self._connection = self._open()
        self.ledger = Ledger(self._connection)
        #: Charges budgets with what is recorded; set before any record comes.
        self.budgeting: Budgeting | None = None
        self._records_refused: Refused | None = None
        self._next_reset_s = 0.0
        self._thread = threading.Thread(target=self._run, name="costd-writer", daemon=True)

    def _open(self) -> sqlite3.Connection:
        try:
            return database.open_database(self.path, self._clock.now_ms())
        except (OutOfSpace, Unavailable):
            # The disk may have filled up while nobody ran: the reserve is there for this.
            self._reserve.give_up()
            return database.open_database(self.path, self._clock.now_ms())

    def start(self) -> None:
        """Take the reserve of disk and start committing."""
        if not self._reserve.take():
            self._refuse_records(OutOfSpace())
        self._mind_size()
        self._thread.start()

    # -- submitting ------------------------------------------------------------------------------------------------

    def submit_event(self, draft: EventDraft, convert: Callable[[Any], T], *, awaited: bool = True) -> Ticket[T]:
        """Queue a record; raises Overloaded, OutOfSpace or Unavailable at once when it cannot be taken.

        `awaited`: somebody is held up until it is on disk.
        """
        if self._records_refused is not None:
            raise self._fresh(self._records_refused)
        size = DRAFT_OVERHEAD_BYTES + len(draft.extra or "") + len(draft.request_id)
        return self.queue.put(Ticket(draft, size, convert), awaited=awaited)

    def submit_batch(self, batch: ColumnBatch, convert: Callable[[Any], T]) -> Ticket[T]:
        """Queue a batch of records: all of it is stored in one transaction, or none."""
        if self._records_refused is not None:
            raise self._fresh(self._records_refused)
        records = max(1, len(batch.place))
        return self.queue.put(Ticket(batch, CHANGE_BYTES + records * COLUMN_RECORD_BYTES, convert, records))

    def submit(
        self,
        change: Change,
        convert: Callable[[Any], T] = lambda outcome: outcome,
        *,
        size: int = CHANGE_BYTES,
        records: int = 1,
    ) -> Ticket[T]:
        """Queue any other write; one that brings records along says how many, and their bytes."""
        if self._records_refused is not None and not change.control:
            raise self._fresh(self._records_refused)
        return self.queue.put(Ticket(change, size, convert, records), bounded=change.bounded)

    def stop(self, timeout_s: float) -> bool:
        """Take nothing more, commit what was accepted, fold the log into the database, close.

        False when the disk did not let that finish in time.
        """
        self.queue.close()
        if self._thread.ident is None:
            self._connection.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread that commits is running."""
        return self._thread.is_alive()

    @property
    def records_refused(self) -> Refused | None:
        """Why no records are taken now, or None."""
        return self._records_refused

    @property
    def is_size_limited(self) -> bool:
        """Whether that is because the ledger is as large as it may be."""
        return self._records_refused is self._size_limit.refusal

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            group = self.queue.take(MAX_GROUP, TICK_S)
            self._step()
            if group:
                self._work(group)
                self._mind_size()
            elif self.queue.is_closed:
                break
            # Whoever still waits is turned away first: the attempt may take as long as the storage lets it.
            if self._records_refused is not None and self.queue.is_empty:
                self._try_to_resume()
            self._checkpoint_if_due()
            self.busy_since_s = None
        self._close()

    def _step(self) -> None:
        self.busy_since_s = self._clock.monotonic_s()

    def _work(self, group: list[Ticket[Any]]) -> None:
        try:
            taken = group if self._records_refused is None else self._turn_away(group, self._records_refused)
            if taken:
                self._commit_group(taken)
        except Exception as error:
            _log.exception("the writer met an unexpected error")
            self._settle_all(group, error)
        finally:
            self._step()
            self.queue.done(group)
            wake(group)

    def _commit_group(self, group: list[Ticket[Any]]) -> None:
        commit = None
        try:
            commit = self._begin()
            self._fill(commit, group)
        except Exception as error:
            self._roll_back(commit)
            if database.is_storage_failure(error) or database.is_damage(error):
                self._storage_failed(error, group)
            elif len(group) == 1:
                _log.error("a write was set aside: %s", type(error).__name__)
                self._settle_all(group, error)
            else:
                # One poisonous item must not take its neighbours with it: everyone gets a commit of their own.
                for ticket in group:
                    self._commit_group([ticket])
            return
        self._finish(commit, group)

    def _begin(self) -> Commit:
        self._step()
        self._connection.execute("BEGIN IMMEDIATE")
        commit = self.ledger.begin(self._connection, self._clock.now_ms())
        if self.budgeting is not None and self.budgeting.is_needed:
            commit.charges = []
        return commit

    def _fill(self, commit: Commit, group: Sequence[Ticket[Any]]) -> None:
        records = [ticket for ticket in group if type(ticket.work) is EventDraft]
        if records:
            outcomes = self.ledger.write(commit, [ticket.work for ticket in records])
            for ticket, outcome in zip(records, outcomes, strict=True):
                ticket.settle(outcome, outcome if isinstance(outcome, CostdError) else None)
        for ticket in group:
            if type(ticket.work) is Change:
                self._apply(commit, ticket)
            elif type(ticket.work) is ColumnBatch:
                stored = store_batch(commit, ticket.work)
                ticket.settle(stored, stored if isinstance(stored, CostdError) else None)
        for step in commit.at_end:
            step(commit)
        if self.budgeting is not None:
            self.budgeting.charge(commit)
        commit.seal()

    def _apply(self, commit: Commit, ticket: Ticket[Any]) -> None:
        mark = commit.mark()
        self._connection.execute("SAVEPOINT change")
        try:
            ticket.settle(ticket.work.apply(commit))
        except CostdError as refusal:
            self._connection.execute("ROLLBACK TO change")
            commit.rewind(mark)
            ticket.settle(None, refusal)
        self._connection.execute("RELEASE change")

    def _finish(self, commit: Commit, group: Sequence[Ticket[Any]]) -> None:
        started_s = self._clock.monotonic_s()
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not self._took_effect_after_all(commit, error):
                self._abandon(commit)
                self._storage_failed(error, group)
                return
        self.ledger.committed(commit)
        self.commits += 1
        self.last_commit_ms = commit.now_ms
        # Before anybody is told: who asks again after an answer finds the money charged.
        if self.budgeting is not None:
            self.budgeting.charged(commit)
        for ticket in group:
            if type(ticket.work) is Change and ticket.work.after is not None and not ticket.refused:
                ticket.work.after(ticket.outcome)
        tally = commit.tally
        for ticket in group:
            if type(ticket.work) is EventDraft:
                tally[ticket.work.door, _outcome(ticket.outcome)] += 1
            elif type(ticket.work) is ColumnBatch:
                tally.update(_batch_outcomes(ticket.work, ticket.outcome))
        if commit.corrected or commit.adjustments.counts:
            self._observer.adjusted(commit.adjustments)
        self._observer.committed(list(commit.sums.values()), tally, self._clock.monotonic_s() - started_s)

    def _settle_all(self, group: Sequence[Ticket[Any]], error: BaseException) -> None:
        for ticket in group:
            ticket.settle(None, error)

    def _roll_back(self, commit: Commit | None) -> None:
        if commit is not None:
            self._abandon(commit)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            _log.warning("rollback failed: %s; reopening", error)
            self._reopen()

    def _abandon(self, commit: Commit) -> None:
        self.ledger.abandoned(commit)
        if self.budgeting is not None:
            self.budgeting.abandoned(commit)

    # -- trouble ---------------------------------------------------------------------------------------------------

    def _storage_failed(self, error: BaseException, group: Sequence[Ticket[Any]]) -> None:
        refusal = database.refusal(error)
        self.failed_commits += 1
        self.last_error = str(error)
        self.damaged = self.damaged or database.is_damage(error)
        self._observer.commit_failed([door for ticket in group for door in _doors(ticket.work)])
        if self._records_refused is None:
            _log.error("the storage refuses writes: %s", error, extra={"path": str(self.path)})
        # The reserve is kept for control writes: those that just failed for want of space get what it frees.
        retry = isinstance(refusal, OutOfSpace) and self._reserve.held
        self._refuse_records(refusal)
        control = [ticket for ticket in group if retry and _is_control(ticket)]
        self._settle_all([ticket for ticket in group if not (retry and _is_control(ticket))], refusal)
        if control:
            self._commit_group(control)

    def _turn_away(self, group: Sequence[Ticket[Any]], refusal: Refused) -> list[Ticket[Any]]:
        """Refuse what was queued before records were; what is left are control writes."""
        waiting = [ticket for ticket in group if not _is_control(ticket)]
        self._observer.commit_failed([door for ticket in waiting for door in _doors(ticket.work)])
        self._settle_all(waiting, self._fresh(refusal))
        return [ticket for ticket in group if _is_control(ticket)]

    def _refuse_records(self, refusal: Refused) -> None:
        self._records_refused = refusal
        self._reserve.give_up()

    def _mind_size(self) -> None:
        """Refuse records once the ledger is as large as it may be; the reserve of disk is not touched for that."""
        if self._records_refused is None and self._size_limit.is_reached(self._connection):
            self._records_refused = self._size_limit.refusal
            _log.warning("the ledger is as large as it may be; records are refused", extra={"path": str(self.path)})

    def _try_to_resume(self) -> None:
        """Take records again once there is room for them and for the reserve, and a write goes through."""
        if self.damaged or self._size_limit.is_reached(self._connection) or not self._reserve.take():
            return
        try:
            # Gives the log's own space back first: on a full disk that may be all there is.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._step()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("UPDATE ledger_state SET id = id")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(None)
            self._reserve.give_up()
            if database.is_storage_failure(error):
                self._reopen()
            return
        _log.info("the storage takes writes again", extra={"path": str(self.path)})
        self._records_refused = None

    def _took_effect_after_all(self, commit: Commit, error: sqlite3.Error) -> bool:
        """Whether a COMMIT that reported `error` is in the database all the same, and durable."""
        _log.error("COMMIT failed: %s; looking whether it took effect", error)
        if self._connection.in_transaction:
            self._roll_back(None)
        if not self._reopen():
            return False
        try:
            found = self._connection.execute(
                "SELECT 1 FROM ledger_commit WHERE id = ?", (commit.proof_id.to_bytes(16, "big"),)
            ).fetchone()
            if found:
                # What was read may not have been synced: fold it into the database, which syncs both files.
                self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except sqlite3.Error:
            return False
        return bool(found)

    def _reopen(self) -> bool:
        try:
            self._connection.close()
        except sqlite3.Error as error:
            _log.warning("closing the database failed: %s", error)
        for _ in range(_REOPEN_TRIES):
            self._step()
            try:
                self._connection = database.connect(self.path)
                self._connection.execute("SELECT count(*) FROM ledger_state").fetchone()
            except sqlite3.Error as error:
                self.last_error = str(error)
                threading.Event().wait(0.05)
            else:
                return True
        return False

    @staticmethod
    def _fresh(refusal: Refused) -> Refused:
        """A copy to raise: one exception object raised in many threads would mix their tracebacks."""
        return type(refusal)(refusal.message)

    # -- the write-ahead log ---------------------------------------------------------------------------------------

    def wal_bytes(self) -> int:
        """The size of the write-ahead log."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def _checkpoint_if_due(self) -> None:
        """Reset a log that readers have kept from being reset, waiting a moment for them, or longer if it is huge."""
        if self._clock.monotonic_s() < self._next_reset_s or (size := self.wal_bytes()) < RESET_BYTES:
            return
        self._step()
        try:
            if size < LOG_BYTES:
                self._connection.execute(f"PRAGMA busy_timeout = {RESET_PATIENCE_MS}")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("checkpoint failed: %s", error)
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {database.BUSY_TIMEOUT_MS}")
            self._next_reset_s = self._clock.monotonic_s() + RESET_PAUSE_S

    def _close(self) -> None:
        try:
            commit = self._begin()
            self.ledger.store_freshness(commit)
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("the last checkpoint failed: %s; the next start does it", error)
        self._connection.close()


def _is_control(ticket: Ticket[Any]) -> bool:
    return type(ticket.work) is Change and ticket.work.control


def _outcome(stored: object) -> str:
    if isinstance(stored, CostdError):
        return "conflict"
    return "duplicate" if isinstance(stored, Stored) and stored.duplicate else "accepted"


def _batch_outcomes(batch: ColumnBatch, stored: object) -> dict[tuple[str, str], int]:
    if not isinstance(stored, BatchStored):
        return {(batch.door, "conflict"): batch.sent}
    if stored.duplicate:
        return {(batch.door, "duplicate"): batch.sent}
    return {(batch.door, OUTCOME_WORDS[letter]): count for letter, count in Counter(stored.outcomes).items()}


def _doors(work: object) -> list[str]:
    """The door of every record in a piece of work."""
    if isinstance(work, EventDraft):
        return [work.door]
    return [work.door] * work.sent if isinstance(work, ColumnBatch) else []
