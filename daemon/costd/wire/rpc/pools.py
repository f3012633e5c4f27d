"""Threads for calls: each kind of call has its own, so that none can starve another, and a bound on what may wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class CallPool(ThreadPoolExecutor):
    """A pool that knows how many calls it holds, running and waiting, and when that is enough.

    grpcio runs a call in the pool that its handler names as `experimental_thread_pool`. Threads are started as they
    are needed.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        """Run `threads` calls at once and let `waiting` more wait."""
        super().__init__(threads, thread_name_prefix=f"grpc-{name}")
        self.limit = threads + waiting
        self._calls = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether one more call would be too many."""
        return self._calls >= self.limit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args)` in a thread of the pool."""
        with self._lock:
            self._calls += 1
        return super().submit(self._run, fn, *args, **kwargs)

    def _run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            with self._lock:
                self._calls -= 1


class Pools:
    """The pools of one server."""

    def __init__(self) -> None:
        #: Answers from memory: few threads, since they only ever wait for the interpreter.
        self.quick = CallPool("quick", 8, 1024)
        #: Each record waits in its thread for the commit it is part of: more threads, larger commits.
        self.record = CallPool("record", 128, 1024)
        #: Reports, and what an operator does.
        self.read = CallPool("read", 4, 64)
        self.health = CallPool("health", 2, 64)
        #: One thread for each open watch, asleep; and for each open reflection stream.
        self.watch = CallPool("watch", 64, 0)
        self.reflection = CallPool("reflection", 4, 0)
        #: Says no for all of them; must never have to wait for a caller.
        self.refusal = CallPool("refusal", 1, 0)

    def close(self) -> None:
        """Let the threads end once their calls have."""
        for pool in vars(self).values():
            pool.shutdown(wait=False)
