"""The bounded queue in front of the writer: what waits for the disk, counted in records and in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from costd.domain.errors import Overloaded, Unavailable
from costd.store.ticket import Ticket

#: What a queued draft weighs beyond its text: the tuple, its numbers and the ticket, measured with tracemalloc.
DRAFT_OVERHEAD_BYTES = 900
CHANGE_BYTES = 1_000
#: The same for a record in a batch by columns: a dozen numbers.
COLUMN_RECORD_BYTES = 400
#: How long what nobody waits for may wait for more to share a commit with: a tenth of what a call to a provider takes.
GATHER_S = 0.01
#: Room for the text that a record brings along, when the question is whether another one would fit.
_TEXT_BYTES = 400

T = TypeVar("T")


class WorkQueue:
    """Tickets on their way to the writer; what it has taken counts until it says that it is done."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self.max_records = max_records
        self.max_bytes = max_bytes
        self.records = 0
        self.bytes = 0
        self.is_closed = False
        self._tickets: deque[Ticket[Any]] = deque()
        self._wakeup = threading.Condition(threading.Lock())
        self._notice_due = False
        self._is_gathering = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return not self._tickets

    @property
    def is_full(self) -> bool:
        """Whether there is no room for one more record."""
        return self.records >= self.max_records or self.bytes + DRAFT_OVERHEAD_BYTES + _TEXT_BYTES > self.max_bytes

    def put(self, ticket: Ticket[T], *, bounded: bool = True, awaited: bool = True) -> Ticket[T]:
        """Queue a ticket; raises Overloaded where there is no room (if `bounded`), Unavailable after close().

        One made in a coroutine for which nobody is held up (not `awaited`) is not begun at once for its own sake.
        """
        with self._wakeup:
            if self.is_closed:
                raise Unavailable("the daemon is stopping; send this again to its successor")
            if bounded and (self.records >= self.max_records or self.bytes + ticket.size > self.max_bytes):
                raise Overloaded
            self._tickets.append(ticket)
            self.records += ticket.records
            self.bytes += ticket.size
            if ticket.loop is None:
                self._wakeup.notify()
            elif not awaited:
                if not (self._is_gathering or self._notice_due):
                    self._is_gathering = True
                    ticket.loop.call_later(GATHER_S, self._notice)
            elif not self._notice_due:
                # Once this turn of the loop is over: what else has arrived in it belongs into the same commit, and
                # is handled faster while the writer does not want the interpreter too.
                self._notice_due = True
                ticket.loop.call_soon(self._notice)
        return ticket

    def _notice(self) -> None:
        with self._wakeup:
            self._notice_due = self._is_gathering = False
            if self._tickets:
                self._wakeup.notify()

    def take(self, max_records: int, timeout_s: float) -> list[Ticket[Any]]:
        """The oldest tickets, about `max_records` of their records; waits up to `timeout_s` for the first."""
        with self._wakeup:
            if not self._tickets and not self.is_closed:
                self._wakeup.wait(timeout_s)
            group: list[Ticket[Any]] = []
            records = 0
            while self._tickets and records < max_records:
                group.append(self._tickets.popleft())
                records += group[-1].records
            return group

    def done(self, group: Sequence[Ticket[Any]]) -> None:
        """What was taken no longer counts."""
        with self._wakeup:
            self.records -= sum(ticket.records for ticket in group)
            self.bytes -= sum(ticket.size for ticket in group)

    def close(self) -> None:
        """Take nothing more; what waits can still be taken."""
        with self._wakeup:
            self.is_closed = True
            self._wakeup.notify()
