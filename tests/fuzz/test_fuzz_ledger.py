"""The books under fuzz: whatever is sent, through whichever door, the ledger holds what was answered OK and no more."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any

import grpc

import harness
from callers import Call, record_json, record_message
from costd.v1 import usage_pb2
from harness import Daemon

ROUNDS = 6_000
MONTH = {"month": 3, "year": 2026}
RECORD = {**record_json(Call(1, "an-id", tags=("a", "b"))), "latency_ms": 5, "status": "ok", "cost_usd": 0.25}
BODIES: dict[str, Any] = {
    "/v1/usage/record": RECORD,
    "/v1/usage/records": [RECORD, {**RECORD, "request_id": "another"}, RECORD],
    "/api/tokens/track": {"model": "gpt-4o", "inputTokens": 5, "cachedTokens": 1, "requestId": "r", "cost": 0.5},
    "/api/ingest": {"type": "tokens", "service": "OpenAI", "data": {"tokens_used": 5, "cost": 1.5, **MONTH}},
    "/api/costs/manual": {"service": "OpenAI", "amount": 5.0, "category": "c", **MONTH},
}
ODD = [None, True, -1, 0, 1.5, 1e-9, 1e300, 2**63, 10**13, 10**400, float("nan"), "", "x", "x" * 257, "\0", "\ud800",
       "🦉", [], {}, [None], {"a": {"b": 1}}, [[[[[]]]]], "2026-01-01T00:00:00Z", "r", "an-id"]  # fmt: skip
DEEP = "[" * 5_000 + "]" * 5_000


def odd(value: Any, rng: random.Random) -> Any:
    """`value` with a piece of it replaced, dropped, added or doubled."""
    if rng.random() < 0.1 or not isinstance(value, dict | list) or not value:
        return rng.choice(ODD)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return value[:place] + [odd(value[place], rng)] * rng.randrange(3) + value[place + 1 :]
    name = rng.choice(list(value))
    if rng.random() < 0.2:
        return {key: item for key, item in value.items() if key != name}
    if rng.random() < 0.1:
        return value | {rng.choice(["", "units", "x", "\n", "messages"]): rng.choice(ODD)}
    return value | {name: odd(value[name], rng)}


def bent(data: bytes, rng: random.Random) -> bytes:
    """The same bytes, some of them others."""
    bytes_ = bytearray(data)
    for _ in range(rng.randrange(4)):
        bytes_[rng.randrange(len(bytes_))] = rng.randrange(256)
    return bytes(bytes_[: rng.randrange(1, len(bytes_) + 1)]) if rng.random() < 0.2 else bytes(bytes_)


class Books:
    """What the answers say that the ledger holds."""

    def __init__(self) -> None:
        self.events = 0
        self.entries = 0

    def post(self, daemon: Daemon, rng: random.Random) -> None:
        """One request over HTTP."""
        path = rng.choice(list(BODIES))
        body = BODIES[path]
        if isinstance(body, dict) and rng.random() < 0.5:
            body = body | {name: f"id-{rng.randrange(500)}" for name in ("request_id", "requestId") if name in body}
        for _ in range(rng.randrange(4)):
            body = odd(body, rng)
        content = json.dumps(body).encode() if rng.random() < 0.9 else bent(json.dumps(body).encode(), rng)
        content = DEEP.encode() if rng.random() < 0.01 else content
        headers = {"Idempotency-Key": f"key-{rng.randrange(30)}"} if rng.random() < 0.3 else {}
        response = daemon.client.post(path, content=content, headers=headers)
        assert response.status_code in {200, 400, 409, 413}, (path, content, response.text)
        if response.status_code != 200:
            return
        answer = response.json()
        if path == "/v1/usage/records":
            assert answer["recorded"] == sum(r["success"] and not r["duplicate"] for r in answer["results"])
            self.events += answer["recorded"]
        elif path == "/api/tokens/track":
            self.events += not answer["data"]["duplicate"]
        elif path == "/v1/usage/record":
            self.events += not answer["duplicate"]
        else:
            self.entries += not (answer.get("data") or answer)["duplicate"]

    def call(self, channel: grpc.Channel, metadata: Any, rng: random.Random) -> None:
        """One request over gRPC."""
        record = record_message(Call(rng.randrange(9), rng.choice(("", "g", "h")), input_tokens=rng.randrange(3)))
        batch = rng.random() < 0.5
        message = usage_pb2.RecordBatchRequest(rows=[record] * rng.randrange(4)) if batch else record
        name, answers = (
            ("RecordBatch", usage_pb2.RecordBatchResponse) if batch else ("Record", usage_pb2.RecordResponse)
        )
        method: Callable[..., bytes] = channel.unary_unary(f"/costd.v1.UsageService/{name}")
        data = message.SerializeToString()
        try:
            answer = answers.FromString(method(bent(data, rng) if data else data, metadata=metadata, timeout=20))
        except grpc.RpcError as error:
            allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS}
            assert error.code() in allowed, (data, error)  # noqa: PT017 - an answer is as good
        else:
            self.events += answer.accepted if batch else not answer.duplicate


def test_the_ledger_holds_exactly_what_was_answered_ok(daemon: Daemon) -> None:
    seed = int(os.environ.get("COSTD_SEED") or 20_261_122)
    print(f"COSTD_SEED={seed}")
    rng = random.Random(seed)
    books = Books()
    held = "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM month_entry)"
    metadata = (("authorization", f"Bearer {daemon.admin_key}"),)
    with grpc.insecure_channel(daemon.grpc) as channel:
        for number in range(ROUNDS):
            if rng.random() < 0.7:
                books.post(daemon, rng)
            else:
                books.call(channel, metadata, rng)
            if number % 25 == 0 or number == ROUNDS - 1:
                assert daemon.query(held) == [(books.events, books.entries)]
    assert books.events > ROUNDS // 50
    assert books.entries > ROUNDS // 100
    assert daemon.process.poll() is None
    checked = harness.costd("check", "--data-dir", str(daemon.data_dir))
    assert checked.returncode == 0, checked
    for word in (" ERROR ", "Traceback"):
        assert word not in daemon.log, daemon.log
