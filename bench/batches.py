"""Rows of batches and streams: records per second over gRPC, fsynced before the answer, and what they leave behind.

The load runs as a process of its own on the load's core (`python -m bench.batches KIND PORT SECONDS KEY`); prints JSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median

import grpc

from bench import traffic
from bench.plan import Plan
from bench.processes import LOAD_CORE, SERVER_CORE, daemon, python
from bench.report import Line
from costd.v1 import usage_pb2

BATCH = 1_000
#: Batches of the high-cardinality row use this many series each, out of so many.
SERIES_EACH, SERIES_IN_ALL = 800, 10_000
IN_FLIGHT = 4
STREAMS = 64
STREAM_AHEAD = 64
BATCH_PATH = "/costd.v1.UsageService/RecordBatch"
STREAM_PATH = "/costd.v1.UsageService/RecordStream"

#: kind → (goal in records a second, whether it is held against bare SQLite, what it is)
GOALS = {
    "batch": (150_000, True, "57 series, a batch id"),
    "batch-uuid7": (100_000, False, "57 series, a UUIDv7 on every record"),
    "batch-random": (20_000, False, "57 series, a random id on every record"),
    "batch-high": (80_000, False, f"{SERIES_EACH} series a batch out of {SERIES_IN_ALL:,}"),
    "batch-rows": (0, False, "57 series, as rows instead of columns"),
    "stream": (6_000, False, f"RecordStream, one record a message, {STREAMS} streams"),
}
BARE_SHARE = 0.5
MEMORY_RECORDS = 1_000_000
MEMORY_MIB = 104
BYTES_PER_RECORD = 80


def row(kind: str) -> Callable[[Plan], list[Line]]:
    """The row that measures one kind of load."""
    return lambda plan: _measure(plan, kind)


def _measure(plan: Plan, kind: str) -> list[Line]:
    goal, against_bare, what = GOALS[kind]
    ours, bare = [], []
    with daemon(plan.folder / kind) as running:
        load_rate(kind, running.grpc_port, 0.5, running.key)
        for number in range(plan.rounds):
            ours.append(load_rate(kind, running.grpc_port, plan.seconds, running.key))
            if against_bare:
                folder = plan.folder / f"{kind}-bare-{number}"
                folder.mkdir()
                bare.append(_bare(str(folder), plan.seconds))
    rate = median(ours)
    how = f"{what}; {BATCH:,} records a batch, {IN_FLIGHT} batches under way" if kind != "stream" else what
    lines = [Line(kind, rate, "records/s", None, f"≥ {goal:,}/s" if goal else "", rate >= goal if goal else None, how)]
    if bare:
        share = rate / median(bare)
        goal_text = f"≥ {BARE_SHARE} of bare SQLite"
        against = "yardstick: executemany of the same rows and rollups into SQLite, in process, as durable"
        lines.append(Line(f"{kind}-share", rate, "records/s", median(bare), goal_text, share >= BARE_SHARE, against))
    return lines


def memory(plan: Plan) -> list[Line]:
    """RSS and bytes on disk after a million records."""
    records = MEMORY_RECORDS if plan.rounds > 2 else plan.records
    with daemon(plan.folder / "batch-memory") as running:
        sent = send_batches(running.grpc_port, running.key, records)
        resident_mib = running.resident_bytes() / 2**20
        running.stop()
        each = (plan.folder / "batch-memory" / "costd.db").stat().st_size / sent
    how = f"after {sent:,} records in batches of {BATCH:,}, 57 series"
    return [
        Line("batch-memory", resident_mib, "MiB", None, f"≤ {MEMORY_MIB} MiB", resident_mib <= MEMORY_MIB, how),
        Line("batch-disk", each, "bytes/record", None, f"≤ {BYTES_PER_RECORD}", each <= BYTES_PER_RECORD, how),
    ]


def load_rate(kind: str, port: int, seconds: float, key: str) -> float:
    """Records a second that a daemon takes from the load, which runs on the load's core."""
    command = python(LOAD_CORE, "-m", "bench.batches", kind, str(port), str(seconds), key)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 60)
    return float(json.loads(done.stdout)["rate"])


def _bare(folder: str, seconds: float) -> float:
    command = python(SERVER_CORE, "-m", "bench.ledger", folder, str(seconds))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout)["bare"])


# -- the load ----------------------------------------------------------------------------------------------------------


def _series(samples: list[traffic.Sample], copies: int) -> list[usage_pb2.BatchSeries]:
    """An entry for each sample's series; copies differ in their user."""
    return [
        usage_pb2.BatchSeries(
            dimensions=usage_pb2.Dimensions(
                source_app=sample.source_app,
                provider=sample.provider,
                model=sample.model,
                user=f"{sample.user}-{copy}",
                project=sample.project,
                team=sample.team,
                endpoint=sample.endpoint,
            ),
            status=sample.status,
        )
        for copy in range(copies)
        for sample in samples[: traffic.SERIES]
    ]


def _columns(chance: random.Random, samples: list[traffic.Sample], series: int) -> usage_pb2.RecordColumns:
    picked = [samples[chance.randrange(len(samples))] for _ in range(BATCH)]
    return usage_pb2.RecordColumns(
        series=[chance.randrange(series) for _ in range(BATCH)],
        input_tokens=[sample.units["input_tokens"] for sample in picked],
        output_tokens=[sample.units["output_tokens"] for sample in picked],
        cache_read_tokens=[sample.units.get("cache_read_tokens", 0) for sample in picked],
        latency_ms=[sample.latency_ms for sample in picked],
    )


def _batches(kind: str) -> list[bytes]:
    """Serialized batches without ids, each different."""
    chance, samples = random.Random(7), traffic.samples()
    if kind == "batch-high":
        everything = _series(samples, -(-SERIES_IN_ALL // traffic.SERIES))[:SERIES_IN_ALL]
        return [
            usage_pb2.RecordBatchRequest(
                series=chance.sample(everything, SERIES_EACH), columns=_columns(chance, samples, SERIES_EACH)
            ).SerializeToString()
            for _ in range(40)
        ]
    if kind == "batch-rows":
        messages = traffic.record_messages()
        return [b"".join(_field(4, next(messages)) for _ in range(BATCH)) for _ in range(8)]
    series = _series(samples, 1)
    return [
        usage_pb2.RecordBatchRequest(series=series, columns=_columns(chance, samples, len(series))).SerializeToString()
        for _ in range(16)
    ]


def _field(number: int, data: bytes) -> bytes:
    """One length-delimited field."""
    out, size = bytearray([number << 3 | 2]), len(data)
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + data


def _requests(kind: str) -> Iterator[bytes]:
    """Batches without end, none like another: the ids are appended, which protobuf merges into the message."""
    for body in cycle(_batches(kind)):
        if kind == "batch-uuid7":
            yield body + _field(3, _field(11, b"".join(_uuid7s(BATCH))))
        elif kind == "batch-random":
            yield body + _field(3, _field(11, os.urandom(16 * BATCH)))
        else:
            yield body + _field(1, uuid.uuid4().hex.encode())


def _uuid7s(count: int) -> Iterator[bytes]:
    start = int(time.time() * 1000) << 80 | 7 << 76 | 2 << 62 | random.getrandbits(40) << 20
    for number in range(count):
        yield (start + number).to_bytes(16, "big")


def _channel(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])


def _batch_rate(kind: str, port: int, seconds: float, key: str) -> float:
    requests = _requests(kind)
    with _channel(port) as channel:
        call = channel.unary_unary(BATCH_PATH)
        metadata = (("authorization", f"Bearer {key}"),)
        under_way = deque(call.future(next(requests), metadata=metadata) for _ in range(IN_FLIGHT))
        answered, started_s = 0, time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            _check(under_way.popleft().result())
            answered += 1
            under_way.append(call.future(next(requests), metadata=metadata))
        took_s = time.perf_counter() - started_s
        for each in under_way:
            each.result()
    return answered * BATCH / took_s


def _check(answer: bytes) -> None:
    """An answer with refusals is longer by far; look at the first bytes of a full one only now and then."""
    if random.random() < 0.01:
        accepted = usage_pb2.RecordBatchResponse.FromString(answer).accepted
        if accepted != BATCH:
            raise RuntimeError(f"{accepted} of {BATCH} records were accepted")


def send_batches(port: int, key: str, records: int, kind: str = "batch") -> int:
    """Send that many records in batches of a kind; how many were sent."""
    requests, sent = _requests(kind), 0
    with _channel(port) as channel:
        call = channel.unary_unary(BATCH_PATH)
        while sent < records:
            call(next(requests), metadata=(("authorization", f"Bearer {key}"),))
            sent += BATCH
    return sent


def _stream_rate(port: int, seconds: float, key: str) -> float:
    """Acknowledged records a second over STREAMS streams."""
    acknowledged = [0] * STREAMS
    stop = threading.Event()
    channels = [_channel(port) for _ in range(8)]
    threads = [
        threading.Thread(target=_stream, args=(channels[at % 8], key, stop, acknowledged, at)) for at in range(STREAMS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    before, started_s = sum(acknowledged), time.perf_counter()
    time.sleep(seconds)
    rate = (sum(acknowledged) - before) / (time.perf_counter() - started_s)
    stop.set()
    for thread in threads:
        thread.join()
    return rate


def _stream(channel: grpc.Channel, key: str, stop: threading.Event, acknowledged: list[int], at: int) -> None:
    records = traffic.record_messages(traffic.uuid4)
    ahead = threading.Semaphore(STREAM_AHEAD)

    def messages() -> Iterator[bytes]:
        sequence = 0
        while not stop.is_set():
            if not ahead.acquire(timeout=1):
                continue
            sequence += 1
            yield usage_pb2.RecordStreamRequest(sequence=sequence).SerializeToString() + _field(2, next(records))

    call = channel.stream_stream(STREAM_PATH)(messages(), metadata=(("authorization", f"Bearer {key}"),))
    for answer in call:
        through = usage_pb2.RecordStreamResponse.FromString(answer).acknowledged
        ahead.release(through - acknowledged[at])
        acknowledged[at] = through


def main() -> None:
    """Run one load and print its rate."""
    kind, port, seconds, key = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    rate = _stream_rate(port, seconds, key) if kind == "stream" else _batch_rate(kind, port, seconds, key)
    print(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main()
