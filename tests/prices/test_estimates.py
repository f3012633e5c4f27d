"""Prices and users of them agree: a preflight's estimate is what the same units then cost, on every way in."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from price_calls import new_price, quantities, record, set_prices

from callers import Stubs, stubs
from costd.v1 import prices_pb2, usage_pb2
from harness import Daemon

SEED = 20261124
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
OTHERS = ("images", "web_searches", "gpu_seconds", "audio_seconds", "chars")
#: A price of each kind, over list prices of each kind.
PRICES = (
    new_price("gpt-4o", {"input_tokens": "0.0000021"}),
    new_price("gpt-4o", {"input_tokens": "0.0000011"}, when={"processing": "batch"}),
    new_price("o3", {"output_tokens": "0.00000333333333333333333333333333333"}, provider="openai", org="default"),
    new_price("o3", multiplier="0.85"),
    new_price("claude-*", multiplier="0.9", provider="anthropic"),
    new_price("claude-*", multiplier="1.07", org="default"),
    new_price("gemini-2.5-pro", {"cache_read_tokens": "0.0000001", "images": "0.0387"}),
    new_price("text-embedding-3-small", {"chars": "0.00000001"}, multiplier="0"),
    new_price("whisper-large-v3", {"gpu_seconds": "0.0123456789"}),
    new_price("gift", multiplier="0"),
    new_price("own-chat", {"input_tokens": "0.000001", "output_tokens": "0.000003", "requests": "0.0001"}),
    prices_pb2.NewPrice(
        model="own-tiers",
        rates=[
            prices_pb2.UnitPrice(
                unit="input_tokens",
                usd="0.0000000005",
                tiers=[prices_pb2.PriceTier(above_input_tokens=1000, usd="0.0000000015")],
            ),
            prices_pb2.UnitPrice(unit="output_tokens", usd="0.00000000025"),
        ],
    ),
    new_price("own-past", {"input_tokens": "1"}, until_ms=1_700_000_000_000, from_ms=1_600_000_000_000),
    new_price("*", multiplier="0.5", provider="groq"),
)
MODELS = (
    ("", "gpt-4o"), ("openai", "o3"), ("", "claude-sonnet-4-20250514"), ("azure", "gpt-4o"), ("", "gemini-2.5-pro"),
    ("", "text-embedding-3-small"), ("groq", "whisper-large-v3"), ("", "gift"), ("acme", "own-chat"),
    ("", "own-tiers"), ("", "own-past"), ("groq", "llama-3.3-70b-versatile"), ("groq", "unheard-of"), ("", "gpt-5"),
)  # fmt: skip
CONTEXTS: tuple[dict[str, str], ...] = ({}, {}, {"processing": "batch"}, {"service_tier": "priority"})

Units = dict[str, int | Decimal]


@pytest.fixture(scope="module")
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        set_prices(found, *PRICES)
        yield found


def some_units(rng: random.Random) -> Units:
    """Counts that fit into each other, with units beside the columns now and then."""
    units: Units = {"input_tokens": rng.choice((0, 1, 999, 1000, 1001, 250_000, rng.randrange(5_000)))}
    if rng.random() < 0.8:
        units["output_tokens"] = rng.randrange(3_000)
        units["output_reasoning_tokens"] = rng.randrange(int(units["output_tokens"]) + 1)
    whole = int(units["input_tokens"])
    units["cache_read_tokens"] = rng.randrange(whole + 1)
    units["cache_write_tokens"] = rng.randrange(whole - int(units["cache_read_tokens"]) + 1)
    for name in rng.sample(
        ("images", "web_searches", "gpu_seconds", "audio_seconds", "chars"), rng.choice((0, 0, 1, 2))
    ):
        units[name] = Decimal(f"{rng.randrange(99)}.25") if name.endswith("seconds") else rng.randrange(5)
    return {name: amount for name, amount in units.items() if amount}


def estimates(daemon: Daemon, services: Stubs, who: tuple[str, str], units: Units, context: dict[str, str]) -> Any:
    """The estimate over gRPC and over HTTP, in nano-USD."""
    provider, model = who
    request = usage_pb2.PreflightRequest(
        dimensions=usage_pb2.Dimensions(source_app="prices", model=model, provider=provider),
        estimated_units=quantities(units),
        price_context=context,
    )
    answer = services.usage.Preflight(request, metadata=services.metadata, timeout=30)
    body = {
        "user_external_id": "u",
        "source_app": "prices",
        "model": model,
        "provider": provider or None,
        "estimated_units": {name: float(amount) for name, amount in units.items()},
        "price_context": context,
    }
    said = daemon.client.post("/v1/preflight", json=body).text
    found = json.loads(said, parse_float=Decimal)["estimated_cost_usd"]
    over_http = None if found is None else int(Decimal(found) * 10**9)
    return answer.estimated_cost_nano_usd if answer.HasField("estimated_cost_nano_usd") else None, over_http


def batches(services: Stubs, calls: list[tuple[tuple[str, str], Units, dict[str, str]]]) -> list[list[int]]:
    """What all of them cost as the rows and as the columns of a batch."""
    rows, series = [], []
    for (provider, model), units, context in calls:
        said = usage_pb2.Dimensions(source_app="prices", model=model, provider=provider)
        rows.append(usage_pb2.RecordRequest(dimensions=said, units=quantities(units), price_context=context))
        series.append(usage_pb2.BatchSeries(dimensions=said, price_context=context))
    others = [
        usage_pb2.OtherUnits(record=at, units=quantities({n: a for n, a in units.items() if n not in COUNTS}))
        for at, (_, units, _) in enumerate(calls)
        if set(units) - set(COUNTS)
    ]
    cells: dict[str, Any] = {name: [int(units.get(name, 0)) for _, units, _ in calls] for name in COUNTS}
    columns = usage_pb2.RecordColumns(series=range(len(calls)), other_units=others, **cells)
    return [
        list(services.usage.RecordBatch(request, metadata=services.metadata, timeout=30).cost_nano_usd)
        for request in (
            usage_pb2.RecordBatchRequest(rows=rows),
            usage_pb2.RecordBatchRequest(series=series, columns=columns),
        )
    ]


def test_estimates_equal_what_is_recorded_on_every_way(daemon: Daemon, services: Stubs) -> None:
    """Whatever kind of price decides, and also where none does."""
    rng = random.Random(SEED)
    calls = [(rng.choice(MODELS), some_units(rng), rng.choice(CONTEXTS)) for _ in range(150)]
    by_rows, by_columns = batches(services, calls)
    assert by_rows == by_columns
    for (who, units, context), batched in zip(calls, by_rows, strict=True):
        expected = None if batched == -1 else batched
        assert estimates(daemon, services, who, units, context) == (expected, expected), (who, units, context)
        cost = record(services, who[1], units, provider=who[0], price_context=context)
        assert cost == expected, (who, units, context)
    assert {who for (who, _, _), cost in zip(calls, by_rows, strict=True) if cost == -1} <= {
        ("", "own-past"),
        ("groq", "unheard-of"),
    }


#: What some of these prices come to, worked out by hand: in nano-USD.
BY_HAND: list[tuple[str, Units, dict[str, str], int]] = [
    ("gpt-4o", {"input_tokens": 1000, "output_tokens": 10}, {}, 1000 * 2100 + 10 * 10_000),
    ("gpt-4o", {"input_tokens": 1000, "output_tokens": 10}, {"processing": "batch"}, 1000 * 1100 + 10 * 5_000),
    ("gift", {"input_tokens": 10**9, "moons": 3}, {}, 0),
    ("own-chat", {"input_tokens": 7, "output_tokens": 2}, {}, 7 * 1000 + 2 * 3000 + 100_000),
    ("text-embedding-3-small", {"input_tokens": 500, "chars": 3}, {}, 30),
    ("own-tiers", {"input_tokens": 1000, "output_tokens": 4}, {}, 501),
    ("own-tiers", {"input_tokens": 1001, "output_tokens": 2}, {}, 1502),  # 1501.5 + 0.5
    ("own-tiers", {"input_tokens": 5}, {}, 2),  # 2.5, to the even one
    ("whisper-large-v3", {"gpu_seconds": Decimal("1.5")}, {}, 18_518_518),  # 18518518.35
]


@pytest.mark.parametrize(("model", "units", "context", "nano"), BY_HAND)
def test_prices_come_to_what_they_say(
    services: Stubs, model: str, units: Units, context: dict[str, str], nano: int
) -> None:
    provider = "groq" if model.startswith("whisper") else ""
    assert record(services, model, units, provider=provider, price_context=context) == nano
