"""RecordStream: cumulative acknowledgements, a fast caller held back, a broken stream resumed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from callers import Stubs, stubs
from costd.v1 import usage_pb2
from costd.wire.rpc.stream import WINDOW_MESSAGES
from harness import Daemon, until
from rpc_calls import bearer, details_of

RECORDS = 3_000


@pytest.fixture
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


def message(sequence: int, request_id: str = "", tokens: int = 10, **more: Any) -> usage_pb2.RecordStreamRequest:
    record = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(**{"source_app": "stream", "model": "gpt-4o"} | more),
        units=[usage_pb2.Quantity(unit="input_tokens", count=tokens)],
        request_id=request_id,
    )
    return usage_pb2.RecordStreamRequest(sequence=sequence, record=record)


def stream(services: Stubs, messages: Iterator[Any], metadata: Any = None) -> Any:
    return services.usage.RecordStream(messages, metadata=metadata or services.metadata, timeout=60)


def count_of(daemon: Daemon, user: str) -> int:
    sql = "SELECT count(*) FROM event e JOIN series s ON s.id = e.series_id WHERE s.user = ?"
    return int(daemon.query(sql, user)[0][0])


def test_acknowledgements_are_cumulative_and_mean_on_disk(daemon: Daemon, services: Stubs) -> None:
    """They only grow, end at the last message, and at each of them that many records are in the database."""
    seen = 0
    for answer in stream(services, (message(at, user="cumulative") for at in range(1, RECORDS + 1))):
        assert answer.acknowledged > seen
        seen = answer.acknowledged
        assert not answer.items
        assert count_of(daemon, "cumulative") >= seen
    assert seen == RECORDS == count_of(daemon, "cumulative")


def test_only_what_was_not_simply_accepted_is_listed(services: Stubs) -> None:
    """Duplicates, conflicts and invalid records, by their sequence; their neighbours are kept."""
    batch = usage_pb2.RecordBatchRequest(
        series=[usage_pb2.BatchSeries(dimensions=message(1).record.dimensions)],
        columns=usage_pb2.RecordColumns(series=[0, 5], input_tokens=[1, 1]),
    )
    sent = [
        message(1, "s-1"),
        message(2, "s-1"),
        message(3, "s-1", tokens=11),
        message(4, model=""),
        usage_pb2.RecordStreamRequest(sequence=5, batch=batch),
        usage_pb2.RecordStreamRequest(sequence=6),
        message(7),
    ]
    answers = list(stream(services, iter(sent)))
    items = {item.sequence: item for answer in answers for item in answer.items}
    assert answers[-1].acknowledged == 7
    assert {sequence: item.outcome for sequence, item in items.items()} == {2: 2, 3: 3, 4: 4, 5: 0, 6: 4}
    assert items[4].field == "dimensions.model"
    assert (items[5].batch.accepted, items[5].batch.refused) == (1, 1)
    assert items[6].field == "record"


def test_a_broken_stream_is_resumed_without_loss_or_doubling(daemon: Daemon, services: Stubs) -> None:
    """Cut off at any point: what was not acknowledged is sent again under the same ids, and counts once."""
    acknowledged = 0
    while acknowledged < RECORDS:
        start = acknowledged
        rest = (message(at - start, f"resume-{at}", user="resumed") for at in range(start + 1, RECORDS + 1))
        call = stream(services, rest)
        for answer in call:
            acknowledged = start + answer.acknowledged
            if answer.acknowledged > 700:
                call.cancel()
                break
    assert count_of(daemon, "resumed") == RECORDS


def test_a_caller_that_never_reads_its_acknowledgements_hurts_nobody(daemon: Daemon, services: Stubs) -> None:
    """They are cumulative: what waits for it is bounded, memory stays flat, and others are answered meanwhile."""
    sent = 0
    done = threading.Event()

    def messages() -> Iterator[Any]:
        nonlocal sent
        while not done.is_set():
            sent += 1
            yield message(sent, user="deaf", job="x" * 200)

    call = stream(services, messages())
    until(lambda: sent > 2 * WINDOW_MESSAGES, "the deaf caller is under way", 40)
    before = memory_kib(daemon)
    until(lambda: sent > 8 * WINDOW_MESSAGES or _has_stopped(lambda: sent), "it sent more, or was held back", 60)
    assert [answer.acknowledged for answer in stream(services, iter([message(1)]))] == [1]
    assert memory_kib(daemon) < before + 30 * 1024
    done.set()
    call.cancel()


def memory_kib(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def _has_stopped(read: Callable[[], int]) -> bool:
    """Whether a number has stopped growing."""
    before = read()
    threading.Event().wait(0.5)
    return read() == before


def test_the_window_is_larger_than_one_commit() -> None:
    """Else a single stream could not fill a commit."""
    assert WINDOW_MESSAGES >= 1000


@pytest.mark.parametrize(
    ("sent", "field"),
    [([message(2)], "sequence"), ([message(1), message(1)], "sequence"), ([message(1), message(3)], "sequence")],
    ids=["starts late", "repeats", "skips"],
)
def test_a_sequence_out_of_order_ends_the_stream(services: Stubs, sent: list[Any], field: str) -> None:
    """After acknowledging what came before it; the error names the field."""
    call = stream(services, iter(sent))
    answers = []
    with pytest.raises(grpc.RpcError) as caught:
        answers.extend(call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(details_of(caught.value)[0]) == {field}


def test_a_stream_needs_a_key(services: Stubs) -> None:
    """And is told so without having sent anything."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stream(services, iter(()), bearer("ct_live_nobody")))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_open_stream_is_answered_while_it_waits(services: Stubs) -> None:
    """Acknowledgements do not wait for the next message or the end of the stream."""
    outbox: SimpleQueue[Any] = SimpleQueue()
    call = stream(services, iter(outbox.get, None))
    for at in range(1, 4):
        outbox.put(message(at))
        assert next(call).acknowledged == at
    outbox.put(None)
    assert list(call) == []


def test_a_full_queue_holds_a_stream_back_and_refuses_nothing(launch: Callable[..., Daemon]) -> None:
    """With room for ten records, and the disk away for a while: all of them arrive, none is counted as refused."""
    daemon = launch("--queue-max-records", "10")
    with stubs(daemon) as services:
        lock = sqlite3.connect(daemon.database, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        call = stream(services, (message(at, user="held") for at in range(1, 201)))
        until(lambda: daemon.client.get("/v1/health").status_code == 503, "the queue to be full")
        lock.execute("ROLLBACK")
        lock.close()
        assert [answer.acknowledged for answer in call][-1] == 200
    assert count_of(daemon, "held") == 200
    assert "overloaded" not in daemon.client.get("/metrics").text
