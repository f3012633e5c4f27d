"""The outbox at work: seals what is new, knows what the hub has, and wakes whoever waits for that."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from costd.domain.forwarding import Lost, Range, Resume, Sealed, SetAside, Stand, Welcome, resume, seal_of
from costd.store import outbox
from costd.store.catalog_log import Standing, everything, say_again
from costd.store.commit import Change, Commit
from costd.store.hub_link import meet_hub, read_link
from costd.store.outbox import Backlog, Tip
from costd.store.outbox_ranges import RangeReader

if TYPE_CHECKING:
    from costd.store.reader import Readers
    from costd.store.writer import Writer

WRITE_TIMEOUT_S = 60.0
#: Things of the catalog that are said in one transaction: the hub applies a transaction as a whole too.
_STEP = 2_000


class Outbox:
    """The outbox of a ledger. Sealing is for one thread, taking acknowledgements for another; the rest for any."""

    def __init__(self, writer: Writer, readers: Readers, encode: Callable[[Range], bytes]) -> None:
        """`encode` makes the content of a batch. From here on the ledger keeps what is not at the hub."""
        self._writer = writer
        self._readers = readers
        self._encode = encode
        self._reader = RangeReader()
        self._moved = threading.Condition()
        self._told: dict[object, tuple[int, Callable[[], object]]] = {}
        self._join()
        with readers.snapshot() as connection:
            self._epoch = outbox.read_epoch(connection)
            self._tip = outbox.read_tip(connection, self._epoch)
            self.acknowledged = outbox.read_acknowledged(connection)
            link = read_link(connection)
        self._hub_epoch = link.hub_epoch if link is not None else b""

    def _join(self) -> None:
        """Keep everything from now on; at the first time, say what the catalog holds. Cut short, it is said again."""
        with self._readers.snapshot() as connection:
            known = [] if outbox.has_joined(connection) else everything(connection)
        for start in range(0, len(known), _STEP):
            self._say_again(known[start : start + _STEP])
        self._writer.submit(Change(outbox.join, bounded=False)).wait(WRITE_TIMEOUT_S)

    def _say_again(self, part: Sequence[Standing]) -> None:
        self._writer.submit(Change(lambda commit: say_again(commit, part), bounded=False)).wait(WRITE_TIMEOUT_S)

    @property
    def stand(self) -> Stand:
        """Where this end stands."""
        return Stand(self._epoch.epoch, self._epoch.first, self.acknowledged, self._hub_epoch)

    @property
    def newest(self) -> int:
        """The last number there is."""
        return self._writer.ledger.last_seq

    def backlog(self) -> Backlog:
        """What waits; reads the ledger."""
        with self._readers.snapshot() as connection:
            return outbox.backlog(connection, self.acknowledged)

    def lost(self) -> Lost | None:
        """What was lost before this epoch began."""
        with self._readers.snapshot() as connection:
            return outbox.read_lost(connection, self._epoch)

    # -- meeting the hub ---------------------------------------------------------------------------------------------

    def meet(self, welcome: Welcome) -> Resume:
        """Take down who we are to the hub and what it has; where to go on from."""
        with self._readers.snapshot() as connection:
            own_seal = outbox.seal_at(connection, self._epoch, welcome.watermark)
            oldest = outbox.oldest_whole(connection)
        going_on = resume(self.stand, welcome, own_seal, oldest)
        epoch = self._epoch

        def apply(commit: Commit) -> int:
            meet_hub(commit, welcome.source, welcome.organization)
            if going_on.new_epoch:
                return self.acknowledged
            return outbox.acknowledge(commit, epoch, going_on.after, welcome.set_aside, welcome.hub_epoch)

        self._arrived(self._writer.submit(Change(apply, bounded=False)).wait(WRITE_TIMEOUT_S))
        # A hub that went back has acknowledged nothing yet of what a new epoch will begin behind.
        self._hub_epoch = b"" if going_on.hub_went_back else welcome.hub_epoch
        return going_on

    def begin_epoch(self, after: int, reason: str, lost: Lost | None) -> None:
        """Begin a new epoch that goes on after a number; see meet()."""
        hub_epoch = self._hub_epoch
        change = Change(lambda commit: outbox.begin_epoch(commit, after, reason, lost, hub_epoch), bounded=False)
        self._epoch = self._writer.submit(change).wait(WRITE_TIMEOUT_S)
        self._tip = Tip(after, b"")
        self._arrived(after)

    # -- what goes ---------------------------------------------------------------------------------------------------

    def next_after(self, sent: int, form: int) -> Sealed | None:
        """The range behind a number that is to be sent: one that is sealed, else one that is sealed now, if any."""
        if sent < self._tip.sealed:
            with self._readers.snapshot() as connection:
                sealed = outbox.sealed_after(connection, self._epoch, sent, 1)
            return self._checked(sealed[0])
        with self._readers.snapshot() as connection:
            held = self._reader.read(connection, self._tip.sealed)
        return self._seal(held, form) if held is not None else None

    def _seal(self, held: Range, form: int) -> Sealed:
        content, previous, epoch = self._encode(held), self._tip.seal, self._epoch
        seal = seal_of(previous, epoch.epoch, held.first, held.last, form, content)
        sealed = Sealed(held.first, held.last, previous, seal, form, content, held.records)
        change = Change(lambda commit: outbox.store_seal(commit, epoch, sealed), bounded=False)
        self._writer.submit(change).wait(WRITE_TIMEOUT_S)
        self._tip = Tip(held.last, seal)
        return sealed

    def _checked(self, sealed: Sealed) -> Sealed:
        """The range, if its content is still that of its seal; DamagedSeal where the disk has changed it."""
        made = seal_of(sealed.previous, self._epoch.epoch, sealed.first, sealed.last, sealed.form, sealed.content)
        if made != sealed.seal:
            raise DamagedSeal
        return sealed

    # -- what has arrived --------------------------------------------------------------------------------------------

    def acknowledge(self, watermark: int, told: Sequence[SetAside]) -> None:
        """The hub keeps everything up to a number, but what it did not count."""
        epoch, hub_epoch = self._epoch, self._hub_epoch
        change = Change(
            lambda commit: outbox.acknowledge(commit, epoch, watermark, told, hub_epoch),
            after=self._arrived,
            bounded=False,
        )
        self._writer.submit(change)

    def wait_for(self, number: int, timeout_s: float) -> bool:
        """Whether the hub has everything up to a number, now or within that time."""
        with self._moved:
            return self._moved.wait_for(lambda: self.acknowledged >= number, timeout_s)

    def tell(self, number: int, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` once the hub has everything up to a number; it must be quick. What is given forgets that."""
        ticket = object()
        with self._moved:
            self._told[ticket] = (number, callback)
            self._tell()

        def forget() -> None:
            with self._moved:
                self._told.pop(ticket, None)

        return forget

    def _arrived(self, acknowledged: int) -> None:
        with self._moved:
            self.acknowledged = acknowledged
            self._moved.notify_all()
            self._tell()

    def _tell(self) -> None:
        for ticket, (number, callback) in list(self._told.items()):
            if self.acknowledged >= number:
                del self._told[ticket]
                with contextlib.suppress(RuntimeError):  # a loop that is closed has nobody who waits
                    callback()


class DamagedSeal(Exception):
    """The content of a sealed range is not what was sealed."""
