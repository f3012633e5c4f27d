"""Usage as services send it: over gRPC and HTTP, by the month, and one call that is recorded at two sidecars."""

from __future__ import annotations

import random
import time

from scripts.demo.daemon import Daemon

from costd.v1 import usage_pb2

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-20250514", "gemini-2.5-pro", "text-embedding-3-small")
TEAMS = ("search", "support", "growth")


def over_grpc(sidecar: Daemon, calls: int, rng: random.Random) -> None:
    """Preflight and record over gRPC, on the unix socket; the last record is sent twice and counts once."""
    for number in range(calls):
        call = usage_pb2.Dimensions(
            source_app=sidecar.name, model=rng.choice(MODELS), user=f"user-{number % 7}", team=rng.choice(TEAMS)
        )
        units = _quantities(call.model, rng)
        asked = sidecar.usage.Preflight(
            usage_pb2.PreflightRequest(dimensions=call, estimated_units=units), metadata=sidecar.metadata
        )
        record = usage_pb2.RecordRequest(
            dimensions=call, units=units, request_id=asked.request_id, latency_ms=rng.randint(200, 4000)
        )
        sidecar.usage.Record(record, metadata=sidecar.metadata)
    if not sidecar.usage.Record(record, metadata=sidecar.metadata).duplicate:
        raise RuntimeError("a record that was sent twice was counted twice")


def _quantities(model: str, rng: random.Random) -> list[usage_pb2.Quantity]:
    units = [usage_pb2.Quantity(unit="input_tokens", count=rng.randint(200, 20_000))]
    if "embedding" not in model:
        units.append(usage_pb2.Quantity(unit="output_tokens", count=rng.randint(20, 2_000)))
    return units


def over_http(sidecar: Daemon, calls: int, rng: random.Random) -> None:
    """The same over plain HTTP."""
    for number in range(calls):
        call = {"user_external_id": f"user-{number % 5}", "source_app": sidecar.name, "model": rng.choice(MODELS[:2])}
        call["team"] = rng.choice(TEAMS)
        units = {"input_tokens": rng.randint(500, 9000), "output_tokens": rng.randint(50, 900)}
        asked = sidecar.http("POST", "/v1/preflight", {**call, "estimated_units": units})
        answer = {**call, "request_id": asked["request_id"], "units": units, "latency_ms": 900, "status": "success"}
        sidecar.http("POST", "/v1/usage/record", answer)


def odds_and_ends(sidecar: Daemon) -> None:
    """A dashboard's way of tracking, a model that nobody has a price for, a bill and a month of tokens."""
    tracked = {"provider": "openai", "model": "gpt-4-turbo", "inputTokens": 1000, "outputTokens": 500, "flush": True}
    sidecar.http("POST", "/api/tokens/track", tracked)
    unknown = {"user_external_id": "user-1", "source_app": sidecar.name, "model": "our-own-llama", "status": "success"}
    sidecar.http("POST", "/v1/usage/record", {**unknown, "units": {"input_tokens": 1200, "output_tokens": 90}})
    now = time.gmtime()
    month = {"month": now.tm_mon, "year": now.tm_year}
    sidecar.http("POST", "/api/ingest", {"type": "cost", "service": "OpenAI", "data": {"amount": 125.5, **month}})
    tokens = {"tokens_used": 2_500_000, "cost": 45.75, **month}
    sidecar.http("POST", "/api/ingest", {"type": "tokens", "service": "Anthropic", "data": tokens})


def at_both(sidecars: tuple[Daemon, ...], request_id: str) -> None:
    """One call with one request id, recorded at every sidecar: its caller missed the first one's answer."""
    record = {
        "request_id": request_id,
        "user_external_id": "user-1",
        "source_app": "everywhere",
        "model": "gpt-4o",
        "units": {"input_tokens": 4000, "output_tokens": 700},
        "status": "success",
    }
    for sidecar in sidecars:
        sidecar.http("POST", "/v1/usage/record", record)
