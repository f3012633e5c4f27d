"""Callers for tests: the same record sent through every door, and one kind of answer from all of them."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from costd.v1 import admin_pb2_grpc, query_pb2, query_pb2_grpc, usage_pb2, usage_pb2_grpc
from harness import Daemon

#: USD for a million tokens, in and out, as the provider lists them: the tests' own copy, so that they can disagree.
GPT_4O_NANO = (2_500, 10_000)
TIMEOUT_S = 40


class Call(NamedTuple):
    """One record; `number` is unique within a test and travels as the job, so that it can be told in the ledger."""

    number: int
    request_id: str = ""
    model: str = "gpt-4o"
    user: str = "ada"
    input_tokens: int = 10
    output_tokens: int = 5
    cost_nano: int | None = None  # the caller's own
    at_ms: int | None = None
    tags: tuple[str, ...] = ()

    @property
    def expected_nano(self) -> int | None:
        """What it must cost."""
        if self.cost_nano is not None:
            return self.cost_nano
        if self.model != "gpt-4o":
            return None
        return self.input_tokens * GPT_4O_NANO[0] + self.output_tokens * GPT_4O_NANO[1]


class Outcome(NamedTuple):
    """What became of a record: "kept", "refused" (an answer that says no) or "lost" (no answer)."""

    word: str
    status: str
    event_id: str = ""
    cost_nano: int | None = None
    duplicate: bool = False
    retry_s: float | None = None
    body: str = ""


class Door(Protocol):
    """A way in; one for each thread."""

    name: str

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """Send the records and wait for what becomes of each."""

    def close(self) -> None:
        """Hang up."""


def some_call(rng: random.Random, number: int, *, with_id: bool) -> Call:
    """A record like any other: priced by the list, by the caller, or not at all."""
    kind = rng.choice(("list", "list", "caller", "unpriced"))
    return Call(
        number,
        request_id=rng.choice((f"call-{number}", f"{rng.getrandbits(128):032x}", _uuid(rng))) if with_id else "",
        model="nobodys-model" if kind == "unpriced" else "gpt-4o",
        user=rng.choice(("ada", "grace", "linus")),
        input_tokens=rng.randrange(2_000),
        output_tokens=rng.randrange(500),
        cost_nano=rng.randrange(10**12) if kind == "caller" else None,
        tags=tuple(rng.sample(("batch", "night", "retry"), rng.randrange(3))),
    )


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def record_json(call: Call) -> dict[str, Any]:
    """The body of POST /v1/usage/record."""
    body: dict[str, Any] = {
        "user_external_id": call.user,
        "source_app": "tests",
        "job_external_id": f"n{call.number}",
        "model": call.model,
        "units": {"input_tokens": call.input_tokens, "output_tokens": call.output_tokens},
    }
    if call.request_id:
        body["request_id"] = call.request_id
    if call.cost_nano is not None:
        body["cost_usd"] = _Number(call.cost_nano)
    if call.at_ms is not None:
        body["timestamp"] = call.at_ms / 1000
    if call.tags:
        body["feature_tags"] = list(call.tags)
    return body


class _Number(float):
    """Nano-USD, written out as USD exactly."""

    def __new__(cls, nano: int) -> _Number:
        return super().__new__(cls, nano / 1e9)

    def __init__(self, nano: int) -> None:
        self._text = f"{nano // 10**9}.{nano % 10**9:09d}"

    def __repr__(self) -> str:
        return self._text


def dumps(value: Any) -> bytes:
    """JSON with every amount exact."""
    return json.dumps(value, default=str).encode() if not _has_amount(value) else _exact(value).encode()


def _has_amount(value: Any) -> bool:
    return any("cost_usd" in one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict))


def _exact(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_exact, value))}]"
    return "{" + ",".join(f"{json.dumps(k)}:{v!r}" if type(v) is _Number else f"{json.dumps(k)}:{json.dumps(v)}"
                          for k, v in value.items()) + "}"  # fmt: skip


def record_message(call: Call) -> usage_pb2.RecordRequest:
    """The same record as a message."""
    message = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(
            source_app="tests", model=call.model, user=call.user, job=f"n{call.number}", tags=call.tags
        ),
        units=[
            usage_pb2.Quantity(unit="input_tokens", count=call.input_tokens),
            usage_pb2.Quantity(unit="output_tokens", count=call.output_tokens),
        ],
        request_id=call.request_id,
    )
    if call.cost_nano is not None:
        message.cost_nano_usd = call.cost_nano
    if call.at_ms is not None:
        message.time_ms = call.at_ms
    return message


class GrpcDoor:
    """UsageService.Record, one call at a time."""

    name = "grpc"

    def __init__(self, daemon: Daemon, key: str = "") -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(daemon.grpc, options=options)
        self._stub = usage_pb2_grpc.UsageServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {key or daemon.admin_key}"),)

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """Each by itself."""
        return [self._send(call) for call in calls]

    def _send(self, call: Call) -> Outcome:
        try:
            answer = self._stub.Record(record_message(call), metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return rpc_outcome(error)
        cost = answer.cost_nano_usd if answer.HasField("cost_nano_usd") else None
        return Outcome("kept", "OK", answer.event_id, cost, answer.duplicate)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def rpc_outcome(error: grpc.RpcError) -> Outcome:
    """A failed call: an answer of the daemon's carries details, a broken connection does not."""
    status = error.code().name
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if details is None:
        word = "lost" if status in ("UNAVAILABLE", "CANCELLED", "UNKNOWN") else "refused"
        return Outcome(word, status, body=error.details() or "")
    retry_s = None
    for detail in status_pb2.Status.FromString(details).details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    return Outcome("refused", status, retry_s=retry_s, body=error.details() or "")


class HttpDoor:
    """POST /v1/usage/record, one call at a time on one connection."""

    name = "http"

    def __init__(self, daemon: Daemon, key: str = "") -> None:
        self._address = daemon.ready["http"]
        self._key = key or daemon.admin_key
        self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)
        self.headers: dict[str, str] = {}

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """Each by itself."""
        return [self._one(call) for call in calls]

    def _one(self, call: Call) -> Outcome:
        status, headers, body = self.post("/v1/usage/record", dumps(record_json(call)))
        return _outcome(status, headers, body) if status else Outcome("lost", "")

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of a POST; status 0 when there was no answer."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **self.headers}
        try:
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, {}, b""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class BatchDoor(HttpDoor):
    """POST /v1/usage/records, all calls in one body."""

    name = "records"

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """All at once."""
        status, headers, body = self.post("/v1/usage/records", dumps([record_json(call) for call in calls]))
        if not status:
            return [Outcome("lost", "")] * len(calls)
        if status != 200:
            return [_outcome(status, headers, body)] * len(calls)
        results = json.loads(body, parse_float=Decimal)["results"]
        assert [result["index"] for result in results] == list(range(len(calls)))
        return [_kept(result) if result["success"] else _refused(result["status"], result["error"], {})
                for result in results]  # fmt: skip


class ColumnsDoor(GrpcDoor):
    """UsageService.RecordBatch, all calls as columns."""

    name = "columns"

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """All at once."""
        try:
            answer = self._stub.RecordBatch(self._batch(calls), metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return [rpc_outcome(error)] * len(calls)
        ids = [int.from_bytes(answer.event_ids[n * 16 : n * 16 + 16], "big") for n in range(len(calls))]
        costs = [None if nano < 0 else nano for nano in answer.cost_nano_usd]
        words = [usage_pb2.RecordOutcome.Name(outcome).removeprefix("RECORD_OUTCOME_") for outcome in answer.outcomes]
        return [
            Outcome("kept", "OK", _text_of(event_id), cost, word == "DUPLICATE")
            if word in {"ACCEPTED", "DUPLICATE"}
            else Outcome("refused", {"CONFLICT": "ALREADY_EXISTS"}.get(word, word))
            for word, event_id, cost in zip(words, ids, costs, strict=True)
        ]

    def _batch(self, calls: Sequence[Call]) -> usage_pb2.RecordBatchRequest:
        records = [record_message(call) for call in calls]
        columns = usage_pb2.RecordColumns(
            series=range(len(calls)),
            input_tokens=[call.input_tokens for call in calls],
            output_tokens=[call.output_tokens for call in calls],
            cost_nano_usd=[-1 if call.cost_nano is None else call.cost_nano for call in calls],
            time_ms=[call.at_ms or 0 for call in calls],
            request_ids=[call.request_id for call in calls],
            jobs=[record.dimensions.job for record in records],
        )
        for record in records:
            record.dimensions.job = ""
        series = [usage_pb2.BatchSeries(dimensions=record.dimensions) for record in records]
        return usage_pb2.RecordBatchRequest(series=series, columns=columns)


class StreamDoor(GrpcDoor):
    """UsageService.RecordStream, a message for each call; says nothing of ids and costs."""

    name = "stream"

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """One after another, without waiting in between."""
        sent = (
            usage_pb2.RecordStreamRequest(sequence=number, record=record_message(call))
            for number, call in enumerate(calls, 1)
        )
        settled = [Outcome("kept", "OK", "", call.expected_nano) for call in calls]
        acknowledged = 0
        try:
            for answer in self._stub.RecordStream(sent, metadata=self._metadata, timeout=TIMEOUT_S):
                acknowledged = answer.acknowledged
                for item in answer.items:
                    word = usage_pb2.RecordOutcome.Name(item.outcome).removeprefix("RECORD_OUTCOME_")
                    was = settled[item.sequence - 1]
                    settled[item.sequence - 1] = (
                        was._replace(duplicate=True)
                        if word == "DUPLICATE"
                        else Outcome("refused", {"CONFLICT": "ALREADY_EXISTS"}.get(word, word))
                    )
        except grpc.RpcError as error:
            return settled[:acknowledged] + [rpc_outcome(error)] * (len(calls) - acknowledged)
        return settled


#: Doors that say everything about each record.
DOORS: tuple[Callable[..., Door], ...] = (GrpcDoor, HttpDoor, BatchDoor)
#: And the doors for many records at once.
ALL_DOORS: tuple[Callable[..., Door], ...] = (*DOORS, ColumnsDoor, StreamDoor)


def send(make: Callable[..., Door], daemon: Daemon, *calls: Call, key: str = "") -> list[Outcome]:
    """Open a door, send, and hang up."""
    door = make(daemon, key)
    try:
        return door.send(calls)
    finally:
        door.close()


def _outcome(status: int, headers: dict[str, str], body: bytes) -> Outcome:
    answer = json.loads(body, parse_float=Decimal)
    return _kept(answer) if status == 200 else _refused(status, answer, headers)


def _kept(answer: dict[str, Any]) -> Outcome:
    cost = answer["cost_usd"]
    nano = None if cost is None else int((Decimal(cost) * 10**9).to_integral_exact())
    assert cost is None or Decimal(nano) == Decimal(cost) * 10**9, answer
    return Outcome("kept", "200", answer["event_id"], nano, answer["duplicate"])


def _refused(status: int, answer: dict[str, Any], headers: dict[str, str]) -> Outcome:
    retry = headers.get("Retry-After")
    return Outcome("refused", str(status), retry_s=float(retry) if retry else None, body=json.dumps(answer))


# -- the ledger, read past the daemon ----------------------------------------------------------------------------------


class Row(NamedTuple):
    """An event as the database file holds it; `number` is the call's."""

    seq: int
    event_id: str
    number: int
    request_id: str
    cost_nano: int | None
    input_tokens: int
    output_tokens: int


def rows(daemon: Daemon, after_seq: int = 0) -> list[Row]:
    """The events of the calls of this module, in the ledger's order."""
    found = daemon.query(
        "SELECT e.seq, c.id, c.first_seq, json_extract(e.extra, '$.job'), q.request_id, e.cost_nano, e.input_tokens, "
        "e.output_tokens FROM event e LEFT JOIN request q ON q.seq = e.seq JOIN ledger_commit c "
        "ON c.first_seq = (SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= e.seq) "
        "WHERE e.seq > ? ORDER BY e.seq",
        after_seq,
    )
    return [
        Row(seq, _text_of(int.from_bytes(commit, "big") + seq - first), int(job[1:]), _request(request), *counts)
        for seq, commit, first, job, request, *counts in found
    ]


def _request(stored: bytes | str | None) -> str:
    return _text_of(int.from_bytes(stored, "big")) if isinstance(stored, bytes) else stored or ""


def _text_of(number: int) -> str:
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@contextmanager
def stubs(daemon: Daemon, key: str = "") -> Iterator[Stubs]:
    """Every service's stub on one channel."""
    with grpc.insecure_channel(daemon.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Stubs(
            usage_pb2_grpc.UsageServiceStub(channel),
            query_pb2_grpc.QueryServiceStub(channel),
            admin_pb2_grpc.AdminServiceStub(channel),
            (("authorization", f"Bearer {key or daemon.admin_key}"),),
        )


class Stubs(NamedTuple):
    """The services of a daemon, and the metadata with the key."""

    usage: Any
    query: Any
    admin: Any
    metadata: tuple[tuple[str, str], ...]


def reported(daemon: Daemon) -> tuple[int, int]:
    """(records, nano-USD) as QueryService adds them up."""
    with stubs(daemon) as services:
        total = services.query.Summarize(query_pb2.SummarizeRequest(), metadata=services.metadata).total
    return total.requests, int(Decimal(total.cost_usd) * 10**9)


def summed(daemon: Daemon) -> tuple[int, int]:
    """(records, nano-USD) added up from the event table, in Python."""
    costs = [cost for (cost,) in daemon.query("SELECT cost_nano FROM event")]
    return len(costs), sum(cost or 0 for cost in costs)
