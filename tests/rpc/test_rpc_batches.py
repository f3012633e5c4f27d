"""RecordBatch: columns and rows, an outcome for each record, and retries that are recognised whole."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest

from callers import Stubs, stubs
from costd.v1 import query_pb2, usage_pb2
from harness import Daemon, costd
from rpc_calls import bearer, details_of, refusal_of

MODELS = ("gpt-4o", "gemini-2.5-pro", "claude-sonnet-4-20250514", "text-embedding-3-small", "nobodys-model", "o3")
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
ACCEPTED, DUPLICATE, CONFLICT, INVALID, FORBIDDEN = 1, 2, 3, 4, 5
SEED = 20261122


@pytest.fixture
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


def send(services: Stubs, request: usage_pb2.RecordBatchRequest, metadata: Any = None) -> Any:
    return services.usage.RecordBatch(request, metadata=metadata or services.metadata, timeout=30)


def entry(model: str = "gpt-4o", **dimensions: Any) -> usage_pb2.BatchSeries:
    said = {"source_app": "batches", "model": model} | dimensions
    return usage_pb2.BatchSeries(dimensions=usage_pb2.Dimensions(**said))


def columns(
    dictionary: Sequence[usage_pb2.BatchSeries], batch_id: str = "", **more: Any
) -> usage_pb2.RecordBatchRequest:
    return usage_pb2.RecordBatchRequest(batch_id=batch_id, series=dictionary, columns=usage_pb2.RecordColumns(**more))


def ids_of(answer: usage_pb2.RecordBatchResponse) -> list[str]:
    """The event ids of an answer, "" where there is none."""
    packed = [answer.event_ids[at : at + 16] for at in range(0, len(answer.event_ids), 16)]
    return [str(uuid.UUID(bytes=each)) if any(each) else "" for each in packed]


def some_counts(rng: random.Random, model: str) -> dict[str, int]:
    """Counts that fit into each other; the larger ones cross tier thresholds."""
    whole = rng.choice((rng.randrange(2000), rng.randrange(400_000)))
    counts = {"input_tokens": whole}
    if "embedding" not in model or rng.random() < 0.2:
        counts["output_tokens"] = rng.randrange(3000)
        counts["output_reasoning_tokens"] = rng.randrange(counts["output_tokens"] + 1)
    counts["cache_read_tokens"] = rng.randrange(whole + 1)
    counts["cache_write_tokens"] = rng.randrange(whole - counts["cache_read_tokens"] + 1)
    return counts


def record_one(services: Stubs, model: str, counts: dict[str, int], **more: Any) -> Any:
    """The same as a single record."""
    units = [usage_pb2.Quantity(unit=name, count=count) for name, count in counts.items() if count]
    said = usage_pb2.Dimensions(source_app="batches", model=model)
    request = usage_pb2.RecordRequest(dimensions=said, units=units, **more)
    return services.usage.Record(request, metadata=services.metadata, timeout=30)


def test_columns_cost_what_single_records_cost(services: Stubs) -> None:
    """Tiers, caches, reasoning, units without a rate, models without a price: the same nano-dollars either way."""
    rng = random.Random(SEED)
    picks = [rng.randrange(len(MODELS)) for _ in range(200)]
    counts = [some_counts(rng, MODELS[pick]) for pick in picks]
    cells = {name: [each.get(name, 0) for each in counts] for name in COUNTS}
    answer = send(services, columns([entry(model) for model in MODELS], series=picks, **cells))
    assert (answer.accepted, answer.refused, len(set(ids_of(answer)))) == (200, 0, 200)
    for pick, each, cost in zip(picks, counts, answer.cost_nano_usd, strict=True):
        single = record_one(services, MODELS[pick], each)
        expected = single.cost_nano_usd if single.HasField("cost_nano_usd") else -1
        assert cost == expected, (MODELS[pick], each)


def test_rows_and_columns_are_the_same_records(daemon: Daemon, services: Stubs) -> None:
    """Everything that a row can say, columns can: further units, jobs, own prices, times, latencies, contexts."""
    now_ms = 1_000 * (daemon.query("SELECT max(at_ms) / 1000 FROM event")[0][0] or 0)
    times = [now_ms, now_ms - 3_600_000, 0]
    request = columns(
        [entry(user="ada", tags=["b", "a"]), entry("whisper-1", provider="openai")],
        series=[0, 1, 0],
        time_ms=times,
        input_tokens=[10, 0, 30],
        latency_ms=[5, -1, 7],
        cost_nano_usd=[-1, -1, 77],
        jobs=["j1", "", "j3"],
        request_ids=["row-1", "row-2", "row-3"],
    )
    request.columns.other_units.add(record=1).units.add(unit="audio_seconds", decimal="12.5")
    first = send(services, request)
    assert list(first.outcomes) == [ACCEPTED] * 3, first.refusals
    rows = usage_pb2.RecordBatchRequest()
    for at, series in enumerate((request.series[0], request.series[1], request.series[0])):
        row = rows.rows.add(dimensions=series.dimensions, request_id=f"row-{at + 1}")
        row.dimensions.job = request.columns.jobs[at]
        if request.columns.input_tokens[at]:
            row.units.add(unit="input_tokens", count=request.columns.input_tokens[at])
        if times[at]:
            row.time_ms = times[at]
        if request.columns.latency_ms[at] >= 0:
            row.latency_ms = request.columns.latency_ms[at]
    rows.rows[1].units.add(unit="audio_seconds", decimal="12.5")
    rows.rows[2].cost_nano_usd = 77
    again = send(services, rows)
    assert list(again.outcomes) == [DUPLICATE] * 3, again.refusals
    assert (ids_of(again), list(again.cost_nano_usd)) == (ids_of(first), list(first.cost_nano_usd))
    event = services.query.ListEvents(query_pb2.ListEventsRequest(id="row-2"), metadata=services.metadata).events[0]
    assert (event.units["audio_seconds"], event.time_ms) == ("12.5", times[1])


def test_one_bad_record_never_rejects_its_neighbours(services: Stubs) -> None:
    """Each bad record says what is wrong with it; the good ones between them are kept."""
    request = columns(
        [entry(), entry(model=""), entry(source_app="")],
        series=[0, 1, 0, 9, 0, 0, 2, 0],
        input_tokens=[10, 1, -5, 1, 10, 10, 1, 10],
        cache_read_tokens=[0, 0, 0, 0, 11, 0, 0, 0],
        time_ms=[0, 0, 0, 0, 0, 1000, 0, 0],
    )
    answer = send(services, request)
    assert list(answer.outcomes) == [1, 4, 4, 4, 4, 4, 4, 1]
    assert {refusal.record: refusal.field for refusal in answer.refusals} == {
        1: "dimensions.model",
        2: "units.input_tokens",
        3: "columns.series[3]",
        4: "units.cache_read_tokens",
        5: "time_ms",
        6: "dimensions.source_app",
    }
    assert (answer.accepted, answer.refused) == (2, 6)
    assert [bool(each) for each in ids_of(answer)] == [outcome == 1 for outcome in answer.outcomes]


def test_a_batchs_retry_is_recognised_whole(services: Stubs) -> None:
    """The first answer again, refusals and all; other content under the id is a conflict and records nothing."""
    request = columns([entry(user="retry")], "batch-1", series=[0, 0, 3], input_tokens=[10, 20, 30])
    first = send(services, request)
    again = send(services, request)
    assert again.duplicate
    assert not first.duplicate
    again.duplicate = False
    assert again == first
    request.columns.input_tokens[0] = 11
    error = refusal_of(lambda: send(services, request))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


def test_an_accepted_batchs_retry_gives_ids_and_costs(launch: Any) -> None:
    """Also after a restart, for a batch of which every record was accepted."""
    daemon = launch()
    request = columns([entry(), entry("nobodys-model")], str(uuid.uuid4()), series=[0, 1] * 50, input_tokens=[7] * 100)
    with stubs(daemon) as services:
        first = send(services, request)
    daemon.kill()
    daemon = launch()
    with stubs(daemon) as services:
        again = send(services, request)
        assert again.duplicate
        assert ids_of(again) == ids_of(first)
        assert list(again.cost_nano_usd) == list(first.cost_nano_usd) == [17_500, -1] * 50
    assert daemon.query("SELECT count(*) FROM event") == [(100,)]


def test_request_ids_in_a_batch_count_once_on_every_door(services: Stubs) -> None:
    """Within the batch, against single records, and for ids that are packed UUIDs."""
    single = record_one(services, "gpt-4o", {"input_tokens": 5}, request_id="one")
    known = uuid.uuid4()
    record_one(services, "gpt-4o", {"input_tokens": 6}, request_id=str(known))
    answer = send(
        services,
        columns([entry()], series=[0] * 4, input_tokens=[5, 8, 8, 9], request_ids=["one", "two", "two", "two"]),
    )
    assert list(answer.outcomes) == [DUPLICATE, ACCEPTED, DUPLICATE, CONFLICT]
    ids = ids_of(answer)
    assert ids[0] == single.event_id
    assert ids[1] == ids[2] != ""
    packed = known.bytes + uuid.uuid4().bytes
    answer = send(services, columns([entry()], series=[0, 0], input_tokens=[6, 6], request_uuids=packed))
    assert list(answer.outcomes) == [DUPLICATE, ACCEPTED]
    rows = usage_pb2.RecordBatchRequest()
    for request_id in (str(known), str(uuid.UUID(bytes=packed[16:])), str(uuid.uuid4())):
        row = rows.rows.add(dimensions=entry().dimensions, request_id=request_id)
        row.units.add(unit="input_tokens", count=6)
    assert list(send(services, rows).outcomes) == [DUPLICATE, DUPLICATE, ACCEPTED]


def test_a_record_that_would_be_refused_now_but_is_held_is_a_duplicate(services: Stubs) -> None:
    """Idempotency comes before validation in batches too."""
    negative = columns([entry()], series=[0], input_tokens=[-1], request_ids=["held"])
    assert list(send(services, negative).outcomes) == [INVALID]
    record_one(services, "gpt-4o", {"input_tokens": 3}, request_id="held")
    assert list(send(services, negative).outcomes) == [CONFLICT]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"series": [0, 0], "input_tokens": [1]}, "columns.input_tokens"),
        ({"series": [0], "time_ms": [1, 2]}, "columns.time_ms"),
        ({"series": [0], "request_ids": ["a", "b"]}, "columns.request_ids"),
        ({"series": [0], "request_uuids": b"short"}, "columns.request_uuids"),
        ({"series": [0] * 10_001}, "columns.series"),
        ({"series": [0], "other_units": [usage_pb2.OtherUnits(record=7)]}, "columns.other_units"),
    ],
    ids=["short", "long", "ids", "uuids", "many", "other"],
)
def test_a_batch_that_makes_no_sense_names_its_field(services: Stubs, more: dict[str, Any], field: str) -> None:
    """As a whole: nothing of it is recorded."""
    error = refusal_of(lambda: send(services, columns([entry()], **more)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(details_of(error)[0]) == {field}


def test_a_batch_is_one_or_the_other(services: Stubs) -> None:
    """Rows and columns together, or neither, are refused."""
    both = columns([entry()], series=[0])
    both.rows.add()
    for request in (both, usage_pb2.RecordBatchRequest(batch_id="x")):
        assert refusal_of(lambda sent=request: send(services, sent)).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_the_limit_is_refused_and_harms_nobody(services: Stubs) -> None:
    """5 MB: the transport says RESOURCE_EXHAUSTED; the next call on the same channel is answered."""
    large = columns([entry(user="x" * 250)], series=[0], jobs=["y" * 5_000_000])
    assert refusal_of(lambda: send(services, large)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert send(services, columns([entry()], series=[0])).accepted == 1


def test_a_bound_key_may_not_batch_for_others(daemon: Daemon, services: Stubs) -> None:
    """The records of other teams are forbidden one by one; its own are kept, with its bindings filled in."""
    key = daemon.key("bound", team="red", source_app="batches")
    answer = send(services, columns([entry(team="blue"), entry()], series=[0, 1]), bearer(key))
    assert list(answer.outcomes) == [FORBIDDEN, ACCEPTED]
    read = daemon.key("reader", role="read")
    error = refusal_of(lambda: send(services, columns([entry()], series=[0]), bearer(read)))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_ledger_is_sound_after_all_of_it(daemon: Daemon) -> None:
    """Rollups equal events, also for what came by columns."""
    done = costd("check", "--data-dir", str(daemon.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
