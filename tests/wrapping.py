"""For the tests of the wrappers: one way to use an SDK, blocking or not, and what the ledger says afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from operator import attrgetter
from typing import Any

import genai_prices
import grpc

from costd.v1 import query_pb2, query_pb2_grpc, usage_pb2, usage_pb2_grpc
from fake_provider import Sale
from harness import Daemon
from rpc_calls import TIMEOUT_S, bearer, channel_to

_USERS = itertools.count(1)


@dataclass
class Use:
    """One use of an SDK's client: a method, how its result is consumed, and what the provider is told of it."""

    method: str
    arguments: Mapping[str, Any]
    #: "plain": as returned. "events": iterated. Any other: the stream helper's method for the final result.
    form: str = "plain"
    wish: Mapping[str, Any] = field(default_factory=dict)

    def run(self, client: Any) -> Any:
        """The result, with a blocking client."""
        made = attrgetter(self.method)(client)(**self.arguments)
        if self.form == "plain":
            return made
        if self.form == "events":
            return list(made)
        with made as stream:
            events = list(stream)
            return [len(events), getattr(stream, self.form)()]

    async def run_async(self, client: Any) -> Any:
        """The result, with a client for asyncio."""
        made = attrgetter(self.method)(client)(**self.arguments)
        if self.form == "plain":
            return await made
        if self.form == "events":
            return [event async for event in await made]
        async with made as stream:
            events = [event async for event in stream]
            return [len(events), await getattr(stream, self.form)()]


def same(one: Any, other: Any) -> bool:
    """Whether two results are alike, types and fields that were set included."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "to_dict"):
        return type(one) is type(other) and one.to_dict(warnings=False) == other.to_dict(warnings=False)
    return type(one) is type(other) and one == other


def new_user() -> str:
    """A user that no other test knows."""
    return f"user-{next(_USERS)}"


def records_of(daemon: Daemon, user: str) -> list[query_pb2.Event]:
    """The records of a user, oldest first."""
    with channel_to(daemon.grpc) as channel:
        stub = query_pb2_grpc.QueryServiceStub(channel)
        request = query_pb2.ListEventsRequest(limit=1000)
        answer = stub.ListEvents(request, metadata=bearer(daemon.admin_key), timeout=TIMEOUT_S)
        return [event for event in reversed(answer.events) if event.dimensions.get("user") == user]


def check(record: query_pb2.Event, sale: Sale, model: str, *, provider: str, context: Mapping[str, str]) -> None:
    """That a record says what was sold, and costs what the price list says of that."""
    units = {name: Decimal(amount) for name, amount in record.units.items() if Decimal(amount)}
    assert units == {name: Decimal(str(amount)) for name, amount in sale.units.items()}
    said = {name: record.dimensions.get(name) for name in ("endpoint", "provider", "model")}
    assert said == {"endpoint": sale.endpoint, "provider": provider, "model": model}
    assert record.status == "success"
    assert dict(record.price_context) == dict(context)
    assert record.cost_nano_usd == cost_nano(sale.units, model, provider, context, record.time_ms)
    assert record.latency_ms >= 0


def cost_nano(units: Mapping[str, Any], model: str, provider: str, context: Mapping[str, str], at_ms: int) -> int:
    """What the price list says, by its own library."""
    usage = genai_prices.Usage(**units)
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    price = genai_prices.calc_price(
        usage, model, provider_id=provider, genai_request_timestamp=at, price_context=dict(context)
    )
    return int((price.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))


class Refusing(usage_pb2_grpc.UsageServiceServicer):
    """A costd whose budgets are used up; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[usage_pb2.PreflightRequest] = []

    def Preflight(  # noqa: N802 - gRPC's name
        self, request: usage_pb2.PreflightRequest, context: grpc.ServicerContext
    ) -> usage_pb2.PreflightResponse:
        """No."""
        self.asked.append(request)
        return usage_pb2.PreflightResponse(
            allow=False, request_id=request.request_id, deny_reason="budget_exceeded", estimated_cost_nano_usd=5
        )


@contextmanager
def refusing() -> Iterator[tuple[str, Refusing]]:
    """Its address, and itself."""
    with ThreadPoolExecutor(2) as pool:
        server, servicer = grpc.server(pool), Refusing()
        usage_pb2_grpc.add_UsageServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}", servicer
        finally:
            server.stop(None).wait(5)
