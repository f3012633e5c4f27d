"""Threads for calls: each kind of call has its own, so that none can starve another, and a bound on what may wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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

#: Calls of one method that are in the lane at once, most of them waiting for their message or for its answer.
MAX_OPEN = 2_048
#: Preflights that wait for the disk or for the hub: most often for one answer that helps all of them.
MAX_WAITING = 256

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
        self._threads_running = 0

    @property
    def is_full(self) -> bool:
        """Whether as many calls wait as may."""
        return self._calls.qsize() >= self._waiting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_kwargs: Any) -> Future[Any]:
        """Run `fn(*args)` in one of the threads. Called by one serving thread only."""
        self._calls.put((fn, args))
        # Whoever was idle has taken it by now; if not, the worst that happens is a thread more.
        if self._threads_running < self._limit and self._calls.qsize():
            self._start()
        return _UNTOLD

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let every thread end after the calls that wait now; does not wait for them."""
        for _ in range(self._threads_running):
            self._calls.put(None)

    def _start(self) -> None:
        self._threads_running += 1
        name = f"grpc-{self._name}-{self._threads_running}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            fn, args = call
            try:
                fn(*args)
            except Exception:
                _log.exception("a call ended in an error of grpcio's")
            # Or an idle thread would keep the last call's messages alive.
            del call, fn, args


class Pools:
    """The pools of one server."""

    def __init__(self) -> None:
        #: Preflights that have to wait; those that do not need no thread but the lane's (costd.wire.rpc.lane).
        self.waiting = CallPool("waiting", MAX_WAITING, 1024)
        #: Tells callers that their records are on disk. That happens in the order in which the lane hands them to the
        #: writer, so one thread is enough. As many may wait as can be in the lane: what is refused was not recorded.
        self.recorded = CallPool("recorded", 1, MAX_OPEN)
        #: Each batch waits in its thread for the commit it is part of.
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
