"""Prices over gRPC for tests: setting, listing and asking for them, and the fields that a refusal names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import grpc

from callers import Stubs
from costd.v1 import prices_pb2, usage_pb2
from rpc_calls import details_of, refusal_of

TIMEOUT_S = 30


def new_price(model: str, rates: Mapping[str, str] | None = None, **fields: Any) -> prices_pb2.NewPrice:
    """A price to be set; `rates` are USD for one of a unit."""
    said = [prices_pb2.UnitPrice(unit=unit, usd=usd) for unit, usd in (rates or {}).items()]
    return prices_pb2.NewPrice(model=model, rates=said, **fields)


def set_prices(services: Stubs, *prices: prices_pb2.NewPrice) -> list[prices_pb2.PriceOutcome]:
    """Set them in one call."""
    request = prices_pb2.SetPricesRequest(prices=prices)
    return list(services.admin.SetPrices(request, metadata=services.metadata, timeout=TIMEOUT_S).outcomes)


def list_prices(services: Stubs, **which: Any) -> list[prices_pb2.Price]:
    """Newest first."""
    request = prices_pb2.ListPricesRequest(**which)
    return list(services.admin.ListPrices(request, metadata=services.metadata, timeout=TIMEOUT_S).prices)


def refused(call: Callable[[], Any]) -> tuple[str, dict[str, str]]:
    """The status a call is refused with, and {field: reason}."""
    error = refusal_of(call)
    return error.code().name, details_of(error)[0]


def record(services: Stubs, model: str, units: Mapping[str, int | Decimal], **fields: Any) -> int | None:
    """Record a call; what it cost in nano-USD."""
    provider = fields.pop("provider", "")
    request = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(source_app="prices", model=model, provider=provider),
        units=quantities(units),
        **fields,
    )
    answer = services.usage.Record(request, metadata=services.metadata, timeout=TIMEOUT_S)
    return answer.cost_nano_usd if answer.HasField("cost_nano_usd") else None


def quantities(units: Mapping[str, int | Decimal]) -> list[usage_pb2.Quantity]:
    """Units as messages have them."""
    return [
        usage_pb2.Quantity(unit=name, decimal=str(amount))
        if isinstance(amount, Decimal)
        else usage_pb2.Quantity(unit=name, count=amount)
        for name, amount in units.items()
    ]


def bearer_only(key: str) -> dict[str, Any]:
    """What a call with another key is made with."""
    return {"metadata": (("authorization", f"Bearer {key}"),), "timeout": TIMEOUT_S}


Refusal = grpc.RpcError
