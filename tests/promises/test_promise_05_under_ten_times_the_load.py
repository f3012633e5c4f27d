"""Promise 5, under load: batches that come ten times as fast as they can be kept are refused honestly, in flat memory.

What the daemon can take is set by holding the database's lock now and then, as a slow disk would.
"""

from __future__ import annotations

import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from callers import stubs
from costd.v1 import usage_pb2
from harness import Daemon, costd, until
from rpc_calls import details_of

CALLERS, BATCHES, RECORDS = 16, 1500, 500
#: Far below what the writer waits for a lock, far above what a refusal takes.
HELD_S = 1.5
_NOISE_BYTES = 32 << 20


def batch(batch_id: str) -> usage_pb2.RecordBatchRequest:
    said = usage_pb2.Dimensions(source_app="flood", model="gpt-4o")
    columns = usage_pb2.RecordColumns(series=[0] * RECORDS, input_tokens=[7] * RECORDS)
    return usage_pb2.RecordBatchRequest(
        batch_id=batch_id, series=[usage_pb2.BatchSeries(dimensions=said)], columns=columns
    )


@contextmanager
def slow_disk(daemon: Daemon) -> Iterator[None]:
    """Hold the lock until the end of the `with`, but for a commit now and then."""
    stop = threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(daemon.database, isolation_level=None, timeout=20)
        version = lambda: connection.execute("PRAGMA data_version").fetchone()  # noqa: E731 - new with each commit
        while not stop.is_set():
            connection.execute("BEGIN IMMEDIATE")
            stop.wait(HELD_S)
            connection.execute("ROLLBACK")
            kept = version()
            while version() == kept and not stop.wait(0.005):
                pass
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def rss_bytes(daemon: Daemon) -> int:
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_promise_5_under_ten_times_the_load_it_can_take_memory_is_flat_and_every_refusal_is_honest(
    launch: Callable[..., Daemon],
) -> None:
    daemon = launch("--queue-max-records", "1000")
    with stubs(daemon) as services:

        def send(batch_id: str) -> Any:
            try:
                return services.usage.RecordBatch(batch(batch_id), metadata=services.metadata, timeout=60)
            except grpc.RpcError as error:
                return error

        outcomes: list[tuple[str, Any]] = []
        deadline_s = time.monotonic() + 60

        def is_enough() -> bool:
            refused = sum(isinstance(answer, grpc.RpcError) for _, answer in list(outcomes))
            return len(outcomes) >= BATCHES and refused >= 12 * (len(outcomes) - refused)

        def flood(caller: int) -> None:
            """Send batches until everybody together has sent ten times what was kept; a minute at most."""
            number = 0
            while not is_enough() and time.monotonic() < deadline_s:
                batch_id = f"{caller}-{number}"
                outcomes.append((batch_id, send(batch_id)))
                number += 1

        before = rss_bytes(daemon)
        with slow_disk(daemon), ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(flood, range(CALLERS)))
        grown = rss_bytes(daemon) - before

        kept = {batch_id for batch_id, answer in outcomes if not isinstance(answer, grpc.RpcError)}
        refused = [error for _, error in outcomes if isinstance(error, grpc.RpcError)]
        assert len(refused) >= 9 * len(kept), f"{len(refused)} refused, {len(kept)} kept: not ten times too much"
        for error in refused:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error.details()
            assert (details_of(error)[1] or 0) > 0
        assert grown < _NOISE_BYTES, f"{grown >> 20} MiB more after {len(outcomes) * RECORDS} records"
        assert daemon.query("SELECT count(*) FROM event") == [(len(kept) * RECORDS,)]

        # And it recovers by itself: every batch that was refused is taken when it comes again, none twice.
        for batch_id, _ in outcomes[:: len(outcomes) // 40]:
            until(lambda sent=batch_id: not isinstance(send(sent), grpc.RpcError), "the batch to be taken")
    assert costd("check", "--data-dir", str(daemon.data_dir)).returncode == 0
