"""Threads for calls: as many as there may be, and no more."""

from __future__ import annotations

import threading

from costd.wire.rpc.pools import CallPool
from harness import until


def test_calls_run_in_so_many_threads_and_one_that_fails_costs_none() -> None:
    pool = CallPool("test", threads=2, waiting=100)
    gate, running, done = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def wait() -> None:
        running.release()
        assert gate.wait(20)
        done.release()

    def fail() -> None:
        raise ValueError("of grpcio's")

    def threads() -> int:
        return sum(thread.name.startswith("grpc-test-") for thread in threading.enumerate())

    pool.submit(fail)
    pool.submit(fail)
    for _ in range(10):
        pool.submit(wait)
    assert all(running.acquire(timeout=20) for _ in range(2))
    assert not running.acquire(blocking=False)
    assert threads() == 2
    gate.set()
    assert all(done.acquire(timeout=20) for _ in range(10))
    pool.shutdown()
    until(lambda: not threads(), "all threads to end", 20)
