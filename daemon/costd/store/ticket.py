"""Tickets: one piece of work on its way to disk, awaited by a coroutine or waited for by a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from costd.domain.errors import Unavailable

T = TypeVar("T")


class Ticket(Generic[T]):
    """A promise of an outcome that is given only after COMMIT and fsync.

    Made in the thread (or the coroutine) that will wait for it. `convert` turns what the store answers into what the
    waiter wants, in the waiter's own time.
    """

    __slots__ = ("_convert", "_error", "_future", "_gate", "loop", "outcome", "records", "size", "work")

    def __init__(self, work: Any, size: int, convert: Callable[[Any], T], records: int = 1) -> None:
        self.work = work
        self.size = size
        self.records = records
        self._convert = convert
        self.outcome: Any = None
        self._error: BaseException | None = None
        #: The event loop of the coroutine that waits; None where a thread does.
        self.loop = asyncio._get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._gate: threading.Lock | None = None
        if self.loop is not None:
            self._future = self.loop.create_future()
        else:
            self._gate = threading.Lock()
            self._gate.acquire()

    def wait(self, timeout_s: float | None = None) -> T:
        """Block until the outcome is there; raises what the work was refused with, Unavailable on timeout."""
        if self._gate is None:
            raise RuntimeError("made in a coroutine: await it")
        if not self._gate.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise Unavailable("the write did not finish in time; ask again with the same request id")
        self._gate.release()
        return self._result()

    def __await__(self) -> Generator[Any, None, T]:
        """Suspend until the outcome is there; raises what the work was refused with."""
        # Only the wake() after COMMIT counts: an outcome is put down before that, while it may still be taken back.
        if self._future is None:
            raise RuntimeError("made in a thread: call wait()")
        if not self._future.done():
            yield from self._future.__await__()
        return self._result()

    def _result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._convert(self.outcome)

    def when_settled(self, then: Callable[[Ticket[T]], object]) -> None:
        """Have `then` called in the event loop once the outcome is there; for those who need no task to wait."""
        if self._future is None:
            raise RuntimeError("made in a thread: call wait()")
        self._future.add_done_callback(lambda _: then(self))

    @property
    def is_ready(self) -> bool:
        """Whether wait() would return at once."""
        return self._gate is not None and not self._gate.locked()

    @property
    def refused(self) -> bool:
        """Whether the work was settled with an error."""
        return self._error is not None

    def settle(self, outcome: object, error: BaseException | None = None) -> None:
        """Give the outcome; called by the writer, which then wakes the waiters with wake()."""
        self.outcome = outcome
        self._error = error


def wake(tickets: Iterable[Ticket[Any]]) -> None:
    """Wake everyone who waits for these settled tickets: each event loop once, however many of them it has."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for ticket in tickets:
        if ticket._gate is not None:
            ticket._gate.release()
        elif ticket.loop is not None and ticket._future is not None:
            by_loop.setdefault(ticket.loop, []).append(ticket._future)
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures)
        except RuntimeError:  # the loop is closed: nobody waits any more, and what was written stays written
            continue


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # a caller that hung up has cancelled it
            future.set_result(None)
