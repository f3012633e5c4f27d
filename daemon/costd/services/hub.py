"""The hub: takes over what its sources forward, and knows which of them are connected and what they still hold."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from costd import __version__
from costd.clock import Clock
from costd.domain.errors import Conflict, CostdError, Forbidden, Invalid, NotFound, Overloaded, Unavailable
from costd.domain.forwarding import ANY_END, FORMAT, Hello, Lost, Range, Sealed, SetAside, Waiting, Welcome, seal_of
from costd.services.sources import LiveSource
from costd.store import forwarded, source_epochs
from costd.store.commit import Change, Commit
from costd.store.forwarded import Applied, Gap, OtherLineage, Sender, Verdict
from costd.store.hub_state import ensure_hub_state, renew_hub_epoch
from costd.store.quarantine import APPLIED, DROPPED, Held, find_held, settle_quarantined, tell_settled_again
from costd.store.sources import KnownSource, load_sources, note_forwarded, touch_source

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.reader import Readers
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: A batch is a transaction of some tens of milliseconds; past this the source is told to come again.
WRITE_TIMEOUT_S = 30.0
#: Batches that are read and applied at once: together they make large commits, and more would only wait for the writer
#: with all their numbers unfolded, at some 400 bytes a record.
TURNS = 8
RECORD_BYTES = 400
#: How long a batch waits to be let into a full queue before it is tried again.
_FULL_QUEUE_S = 0.02
#: Batches between two prunings of a source's seals.
_PRUNE_EVERY = 64

#: A process whose road another one has taken over speaks up within this, if it is still there: it says something every
#: other second, is told to come back, and then turns out to be one of two.
CONTEST_S = 10.0

_WENT_BACK = "this ledger lacks what it had acknowledged: it was restored from a backup"

#: What a process is to an epoch of its source's sequence.
SOLE = "sole"
CONTESTED = "contested"
OPEN = "open"

_log = logging.getLogger(__name__)


class Connection:
    """One source's stream: what it may record for, and how far it has come since it connected."""

    def __init__(self, source: KnownSource, hello: Hello, since_ms: int) -> None:
        self.source = source
        self.epoch = hello.stand.epoch
        self.incarnation = hello.incarnation
        self.since_ms = since_ms
        self.waiting = hello.waiting
        self.batches = 0
        self.is_current = True
        self.sender = Sender(source.id, {name: org_id for org_id, name in source.orgs}, self.epoch)


class Hub:
    """Applies what sources forward. Every method may be called from any thread, and blocks until it is on disk."""

    def __init__(
        self, writer: Writer, readers: Readers, clock: Clock, metrics: Metrics, decode: Callable[[Sealed], Range]
    ) -> None:
        """`decode` reads the content of a batch; it raises Invalid where it cannot."""
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._decode = decode
        self._stopping = threading.Event()
        self._turns = threading.Semaphore(TURNS)
        self._lock = threading.Lock()
        self._connections: dict[tuple[int, bytes], Connection] = {}
        #: By source and epoch: when a process was last driven off the road that another one took, and of which two are
        #: known to be there.
        self._driven_off: dict[tuple[int, bytes], float] = {}
        self._contested: set[tuple[int, bytes]] = set()

    def stop(self) -> None:
        """Take nothing more; each source hears of it with its next message, which comes within seconds."""
        self._stopping.set()

    def live(self) -> Mapping[int, LiveSource]:
        """What is known of connected sources in memory, by their numbers."""
        with self._lock:
            connections = list(self._connections.values())
        found: dict[int, LiveSource] = {}
        for each in connections:
            both = each.source.id in found
            problem = "two daemons with its identity are connected: its data folder was cloned" if both else ""
            waiting = each.waiting
            found[each.source.id] = LiveSource(each.since_ms, waiting.records, waiting.oldest_ms, problem)
        return found

    # -- a source comes and goes -------------------------------------------------------------------------------------

    def connect(self, source: KnownSource, hello: Hello) -> tuple[Connection, Welcome]:
        """Meet a source. Raises Forbidden where it takes itself for another."""
        if hello.name and hello.name != source.name:
            raise Forbidden(
                f'the key is of the source "{source.name}", and the sidecar is to be "{hello.name[:64]}"; '
                "check its hub.key or its hub.name",
                field="hello.name",
            )
        connection = Connection(source, hello, self._clock.now_ms())
        # Meeting a source and hearing of it is little, and must not fail while callers are turned away.
        meeting = Change(lambda commit: self._meet(commit, source, hello), bounded=False)
        welcome: Welcome = self._writer.submit(meeting).wait(WRITE_TIMEOUT_S)
        with self._lock:
            at = source.id, connection.epoch
            earlier = self._connections.get(at)
            if earlier is not None:
                earlier.is_current = False
                if earlier.incarnation != connection.incarnation:
                    self._driven_off[at] = self._clock.monotonic_s()
            if welcome.new_epoch:
                self._contested.add(at)
            self._connections[at] = connection
        _log_meeting(source, hello, welcome)
        return connection, welcome

    def claim(self, source_id: int, epoch: bytes, incarnation: bytes) -> str:
        """Whether a process of a source has an epoch to itself: SOLE, or CONTESTED for good, or OPEN for now."""
        at = source_id, epoch
        with self._lock:
            if at in self._contested:
                return CONTESTED
            connection = self._connections.get(at)
            if connection is not None and connection.incarnation != incarnation:
                return OPEN
            since_s = self._driven_off.get(at)
            if since_s is not None and self._clock.monotonic_s() - since_s < CONTEST_S:
                return OPEN
            self._driven_off.pop(at, None)
        return SOLE

    def disconnect(self, connection: Connection) -> None:
        """A source's stream has ended."""
        with self._lock:
            if connection.is_current:
                self._connections.pop((connection.source.id, connection.epoch), None)

    def _meet(self, commit: Commit, source: KnownSource, hello: Hello) -> Welcome:
        stand, connection = hello.stand, commit.connection
        mark = source_epochs.find_mark(connection, source.id, stand.epoch)
        is_known = mark is not None and bool(mark.seal)
        watermark = mark.watermark if mark is not None else 0
        state = ensure_hub_state(commit)
        # A source that begins a new epoch where a backup was restored has nothing to show of it but its number.
        known_before = source_epochs.highest(connection, source.id)
        known_through = watermark if is_known else min(known_before, stand.epoch_first - 1)
        if stand.hub_epoch == state.epoch and known_through < stand.acknowledged:
            state = renew_hub_epoch(commit)
            _log.warning(_WENT_BACK, extra={"source": source.name})
        told: list[SetAside] = []
        if is_known:
            source_epochs.heard(commit, source.id, stand.epoch, stand.acknowledged)
            told = source_epochs.to_be_told(connection, source.id, stand.epoch, stand.acknowledged)
            tell_settled_again(commit, [each.quarantine_id for each in told if each.quarantine_id])
        is_cloned = mark is not None and hello.reconnects and mark.incarnation != hello.incarnation
        if not is_cloned:
            source_epochs.begin_mark(commit, source.id, stand.epoch, hello.incarnation)
        skew_ms = commit.now_ms - hello.time_ms
        touch_source(commit, source.id, hello.host, hello.version, commit.now_ms, skew_ms)
        note_forwarded(commit, source.id, hello.waiting.forwarded_ms)
        return Welcome(
            __version__,
            FORMAT,
            commit.now_ms,
            state.epoch,
            source.name,
            source.orgs[0][1],
            is_known,
            watermark,
            mark.seal if mark is not None else b"",
            "another daemon with this identity is connected: the data folder was cloned" if is_cloned else "",
            told,
        )

    # -- what it forwards --------------------------------------------------------------------------------------------

    def forward(self, connection: Connection, sealed: Sealed, lost: Lost | None) -> Applied:
        """Take over a batch; returns once it is on disk.

        Raises Invalid where the batch is damaged, Conflict where it is not the next one, Overloaded, OutOfSpace or
        Unavailable.
        """
        self._check_current(connection)
        try:
            applied = self._take_over(connection, sealed, lost)
        except (Invalid, Conflict):
            self._metrics.hub.refused()
            raise
        if lost is not None and not connection.batches:
            extra = {"source": connection.source.name, **lost._asdict()}
            _log.error("records of a source are lost: this ledger lacks them, and so does the source", extra=extra)
        connection.batches += 1
        if connection.batches % _PRUNE_EVERY == 0:
            sender = connection.sender
            self._writer.submit(
                Change(lambda commit: source_epochs.prune_seals(commit, sender.source_id, sender.epoch), bounded=False)
            )
        return applied

    def backlog(self, connection: Connection, waiting: Waiting) -> None:
        """A source said what it still holds."""
        self._check_current(connection)
        connection.waiting = waiting
        source_id, epoch = connection.source.id, connection.epoch

        def apply(commit: Commit) -> None:
            note_forwarded(commit, source_id, waiting.forwarded_ms)
            source_epochs.seen(commit, source_id, epoch)

        self._writer.submit(Change(apply, bounded=False)).wait(WRITE_TIMEOUT_S)

    def _check_current(self, connection: Connection) -> None:
        if self._stopping.is_set():
            raise Unavailable("the hub is stopping; come back to its successor", retry_after_s=1.0)
        if not connection.is_current:
            raise Unavailable("another daemon with this identity has connected; this stream ends", retry_after_s=1.0)

    def _take_over(self, connection: Connection, sealed: Sealed, lost: Lost | None) -> Applied:
        self._check_seal(connection, sealed)
        with self._turns:
            verdict = self._receive(connection, sealed, lost)
        if isinstance(verdict, Gap):
            raise Conflict(f"the batch begins at {sealed.first}, and {verdict.expected} is the next that is missing")
        if isinstance(verdict, OtherLineage):
            raise Conflict(
                f"another history of this epoch is held up to {verdict.watermark}: "
                "the source was restored from a backup or cloned, and must begin a new epoch"
            )
        return verdict

    def _check_seal(self, connection: Connection, sealed: Sealed) -> None:
        if not 0 < sealed.first <= sealed.last < 1 << 62:
            raise Invalid("batch.first", f"and last must be a range of numbers, not {sealed.first} to {sealed.last}")
        made = seal_of(sealed.previous, connection.epoch, sealed.first, sealed.last, sealed.form, sealed.content)
        if made != sealed.seal:
            raise Invalid("batch.seal", "is not that of its content: the batch was damaged; nothing of it was taken")
        if not 1 <= sealed.form <= FORMAT:
            raise Invalid(
                "batch.format", f"is {sealed.form}; this hub reads forms up to {FORMAT}: upgrade the hub first"
            )

    def _receive(self, connection: Connection, sealed: Sealed, lost: Lost | None) -> Verdict:
        sender = connection.sender
        try:
            held = self._decode(sealed)
        except Invalid as refusal:
            # It is what the source sealed: sent again it will be no better, and what comes after must not wait for it.
            return self._set_aside(connection, sealed, None, f"it cannot be read: {refusal.message}")
        for carefully in (False, True):
            try:
                verdict = self._submitted(_receiving(sender, sealed, held, lost, carefully=carefully), held.records)
            except CostdError:
                raise
            except Exception as error:
                _log.exception("a forwarded batch cannot be applied as it is", extra={"source": connection.source.name})
                reason = f"it cannot be applied: {type(error).__name__}"
            else:
                if isinstance(verdict, Applied):
                    self._metrics.hub.applied(verdict.outcomes)
                return verdict
        return self._set_aside(connection, sealed, held, reason)

    def _submitted(self, change: Change, records: int) -> Verdict:
        """Carry out a change that brings records along; waits for room in the queue, which holds the source back."""
        patience = round(WRITE_TIMEOUT_S / _FULL_QUEUE_S)
        while True:
            try:
                ticket: Ticket[Verdict] = self._writer.submit(change, size=records * RECORD_BYTES, records=records)
            except Overloaded:
                patience -= 1
                if not patience or self._stopping.wait(_FULL_QUEUE_S):
                    raise
            else:
                return ticket.wait(WRITE_TIMEOUT_S)

    def _set_aside(self, connection: Connection, sealed: Sealed, held: Range | None, reason: str) -> Verdict:
        sender = connection.sender
        change = Change(lambda commit: forwarded.receive_unread(commit, sender, sealed, held, reason))
        verdict: Verdict = self._writer.submit(change).wait(WRITE_TIMEOUT_S)
        if isinstance(verdict, Applied):
            self._metrics.hub.applied(verdict.outcomes)
        return verdict

    # -- what was set aside ------------------------------------------------------------------------------------------

    def retry(self, quarantine_id: str, actor: str = "") -> Counter[str]:
        """Try again to take over what was set aside; the outcomes: kept, or duplicate where another source had it.

        Raises NotFound where it is not held, Conflict where any of it is refused again, which stays where it is.
        """

        def apply(commit: Commit) -> Counter[str]:
            row = find_held(commit.connection, quarantine_id)
            sources = {source.id: source for source in load_sources(commit.connection)}
            if row is None or row.content is None or row.source_id not in sources:
                raise _not_held(quarantine_id)
            source = sources[row.source_id]
            sender = Sender(source.id, {name: org_id for org_id, name in source.orgs}, row.epoch)
            held, window = self._read_again(row), (row.first_seq, row.last_seq)
            outcomes = forwarded.retry(commit, sender, held, window)
            # Nothing may be raised from here on: what was applied is in the sums of this transaction.
            if not outcomes["quarantined"]:
                # What another source has brought is to have no effect at its own either, as if it were dropped.
                is_elsewhere = outcomes["duplicate"] and not outcomes["kept"]
                gone = forwarded.uncounted(commit, held, window)
                settle_quarantined(commit, row.id, DROPPED if is_elsewhere else APPLIED, actor, gone)
            return outcomes

        try:
            outcomes: Counter[str] = self._writer.submit(Change(apply)).wait(WRITE_TIMEOUT_S)
        except CostdError:
            raise
        except Exception as error:
            _log.exception("what was set aside cannot be applied", extra={"id": quarantine_id})
            raise Conflict(f"it cannot be applied: {type(error).__name__}; nothing was changed") from None
        self._metrics.hub.counted(outcomes)
        if outcomes["quarantined"]:
            raise Conflict(
                f"{outcomes['quarantined']} records of it are refused again, for the reason they are held for"
            )
        return outcomes

    def drop(self, quarantine_id: str, actor: str = "") -> None:
        """Give up what was set aside: it counts nowhere from now on. Raises NotFound where it is not held."""

        def apply(commit: Commit) -> None:
            row = find_held(commit.connection, quarantine_id)
            if row is None:
                raise _not_held(quarantine_id)
            settle_quarantined(commit, quarantine_id, DROPPED, actor, self._uncounted(commit, row))

        self._writer.submit(Change(apply)).wait(WRITE_TIMEOUT_S)

    def _uncounted(self, commit: Commit, row: Held) -> list[tuple[int, int]]:
        """The numbers of what was set aside that do not count here: between them may be some that do."""
        window = (row.first_seq, row.last_seq)
        try:
            return forwarded.uncounted(commit, self._read_again(row), window)
        except Conflict:  # it cannot be read, so nothing of it is here
            return [window]

    def _read_again(self, row: Held) -> Range:
        try:
            return self._decode(Sealed(1, ANY_END, b"", b"", row.format, row.content or b"", row.records))
        except Invalid as refusal:
            raise Conflict(f"it cannot be read: {refusal.message}; nothing was changed") from None


def _not_held(quarantine_id: str) -> NotFound:
    return NotFound(f"nothing with the id {quarantine_id} is held in quarantine")


def _receiving(sender: Sender, sealed: Sealed, held: Range, lost: Lost | None, *, carefully: bool) -> Change:
    return Change(
        lambda commit: forwarded.receive(commit, sender, sealed, held, lost, carefully=carefully), control=False
    )


def _log_meeting(source: KnownSource, hello: Hello, welcome: Welcome) -> None:
    told = {"source": source.name, "host": hello.host, "version": hello.version, "watermark": welcome.watermark}
    if welcome.new_epoch:
        _log.warning("a source must begin a new epoch: %s", welcome.new_epoch, extra=told)
    else:
        _log.info("a source connected", extra=told)
