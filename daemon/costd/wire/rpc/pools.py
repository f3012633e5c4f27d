"""Threads for calls: each kind of call has its own, so that none can starve another, and a bound on what may wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Final

#: Open health watches. A balancer or two watch a daemon, not hundreds.
MAX_WATCHES = 64
#: Open record streams: one for each process of a busy host.
MAX_STREAMS = 256
#: Streams of sources at a hub: each keeps two, and a fleet has hundreds.
MAX_SOURCE_STREAMS = 2_048
#: Exports, tails and re-ratings at once: a few people at their terminals.
MAX_LONG = 16

#: Calls of one kind that wait for something else, each in a thread of its own; one more keeps its place.
MAX_ASIDE = 256

_log = logging.getLogger(__name__)


class _Untold(Future[Any]):
    """The end of a call, which nobody asks for: grpcio only wants to count calls, and we bound them ourselves."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Forget it."""


_UNTOLD: Final = _Untold()


class CallPool(ThreadPoolExecutor):
    """Runs calls in threads started as they are needed; grpcio takes it for the executor whose name it has to have.

    The executor of the standard library makes a future with a lock and a condition for each call, which costs as
    much as answering one. And its threads are waited for when the process ends, even by a call that never will.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        """Run `threads` calls at once; when `waiting` wait for one of them, that is enough."""
        super().__init__(1)  # never used: it starts its threads in submit(), which is ours
        self._name = name
        self._limit = threads
        self._waiting = waiting
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._count = threading.Lock()
        self._threads_running = 0
        self._threads_aside = 0

    @property
    def is_full(self) -> bool:
        """Whether as many calls wait as may."""
        return self._calls.qsize() >= self._waiting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_kwargs: Any) -> Future[Any]:
        """Run `fn(*args)` in one of the threads. Called by grpcio's one serving thread only."""
        self._calls.put((fn, args))
        # Whoever was idle has taken it by now; if not, the worst that happens is a thread more.
        if self._threads_running - self._threads_aside < self._limit and self._calls.qsize():
            self._start()
        return _UNTOLD

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The calling thread, which is one of ours, waits for something else meanwhile: another may take its place."""
        with self._count:
            self._threads_aside += 1
        try:
            if self._calls.qsize():
                self._start()
            yield
        finally:
            with self._count:
                self._threads_aside -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let every thread end after the calls that wait now; does not wait for them."""
        for _ in range(self._threads_running):
            self._calls.put(None)

    def _start(self) -> None:
        with self._count:
            if self._threads_running - self._threads_aside >= self._limit or self._threads_aside > MAX_ASIDE:
                return
            self._threads_running += 1
            number = self._threads_running
        threading.Thread(target=self._work, name=f"grpc-{self._name}-{number}", daemon=True).start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            fn, args = call
            try:
                fn(*args)
            except Exception:
                _log.exception("a call ended in an error of grpcio's")
            # Or an idle thread would keep the last call's messages alive.
            del call, fn, args
            if self._threads_running - self._threads_aside > self._limit and self._is_surplus():
                return

    def _is_surplus(self) -> bool:
        """Whether this thread is one too many, and goes, now that those that stood aside are back."""
        with self._count:
            if self._threads_running - self._threads_aside <= self._limit:
                return False
            self._threads_running -= 1
            return True


class Pools:
    """The pools of one server."""

    def __init__(self) -> None:
        #: Answers from memory. They wait for nothing but the interpreter; with more threads, each waits longer.
        self.quick = CallPool("quick", 4, 1024)
        #: Each record waits in its thread for the commit it is part of: more threads, larger commits.
        self.record = CallPool("record", 128, 1024)
        #: Each open stream keeps one thread here, and one of its own that reads.
        self.stream = CallPool("stream", MAX_STREAMS, 16)
        #: Each source of a hub keeps two threads here, asleep most of the time.
        self.source = CallPool("source", MAX_SOURCE_STREAMS, 256)
        #: Reports, and what an operator does.
        self.read = CallPool("read", 4, 64)
        #: What goes on for long: exports, live records, re-rating.
        self.long = CallPool("long", MAX_LONG, 8)
        self.health = CallPool("health", 2, 64)
        #: One thread for each open watch, asleep, and some to refuse with.
        self.watch = CallPool("watch", MAX_WATCHES + 2, 64)
        self.reflection = CallPool("reflection", 4, 64)
        #: Says no for all of them; never waits for a caller.
        self.refusal = CallPool("refusal", 1, 1024)

    def close(self) -> None:
        """Let the threads end once their calls have."""
        for pool in vars(self).values():
            pool.shutdown()
