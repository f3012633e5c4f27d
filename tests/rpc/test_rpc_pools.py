"""Threads for calls: those that wait for something else give their place away, and nobody keeps more than there are."""

from __future__ import annotations

import threading

from costd.wire.rpc.pools import CallPool
from harness import until


def test_a_call_that_stands_aside_lets_another_in_and_threads_are_as_few_as_before_after_it() -> None:
    pool = CallPool("test", threads=2, waiting=100)
    gate, waiting, done = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def wait() -> None:
        with pool.aside():
            waiting.release()
            assert gate.wait(20)
        done.release()

    for _ in range(10):
        pool.submit(wait)
    assert all(waiting.acquire(timeout=20) for _ in range(10))
    for _ in range(5):
        pool.submit(done.release)
    assert all(done.acquire(timeout=20) for _ in range(5))
    gate.set()
    assert all(done.acquire(timeout=20) for _ in range(10))

    def threads() -> int:
        return sum(thread.name.startswith("grpc-test-") for thread in threading.enumerate())

    # Surplus threads go as they come back.
    until(lambda: threads() <= 2, "the surplus threads to end", 20)
    pool.submit(done.release)
    assert done.acquire(timeout=20)
    pool.shutdown()
    until(lambda: not threads(), "all threads to end", 20)
