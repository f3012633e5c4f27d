"""The provider's own usage object instead of units: read on the gRPC door exactly as on HTTP's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from callers import Stubs, stubs
from costd.v1 import usage_pb2
from harness import Daemon
from rpc_calls import details_of, refusal_of

CHAT = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "prompt_tokens_details": {"cached_tokens": 400},
    "service_tier": "priority",
}
MESSAGES = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 20.0}


@pytest.fixture
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


def record(provider: str, usage: Any, model: str = "gpt-4o", **more: Any) -> usage_pb2.RecordRequest:
    said = usage if isinstance(usage, str) else json.dumps(usage)
    dimensions = usage_pb2.Dimensions(source_app="shop", user="ada", provider=provider, model=model)
    return usage_pb2.RecordRequest(dimensions=dimensions, provider_usage=said, **more)


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [("openai", "gpt-4o", CHAT), ("anthropic", "claude-sonnet-4-5", MESSAGES), ("acme", "x", {"seconds": 7.5})],
)
def test_both_doors_make_the_same_record_of_it(
    daemon: Daemon, services: Stubs, provider: str, model: str, usage: dict[str, Any]
) -> None:
    """Same content under the same id: the second is a duplicate of the first, at the same cost."""
    body = {"user_external_id": "ada", "source_app": "shop", "provider": provider, "model": model, "usage": usage}
    first = daemon.client.post("/v1/usage/record", json=body | {"request_id": f"both-{provider}"}).json()
    again = services.usage.Record(
        record(provider, usage, model, request_id=f"both-{provider}"), metadata=services.metadata, timeout=20
    )
    assert again.duplicate
    assert again.event_id == first["event_id"]


def test_the_callers_context_wins_over_the_providers_report(services: Stubs) -> None:
    def cost(**context: str) -> int:
        request = record("openai", CHAT, "gpt-5", price_context=context)
        return int(services.usage.Record(request, metadata=services.metadata, timeout=20).cost_nano_usd)

    assert cost() == cost(service_tier="priority")
    assert cost(service_tier="flex") < cost()


def test_counts_without_a_place_in_the_dialect_come_beside_it(services: Stubs) -> None:
    """They cost what they would as units; a count of the provider's own is never counted twice."""
    request = record("openai", CHAT | {"other_units": {"my_widgets": 2, "input_tokens": 9}}, request_id="others")
    services.usage.Record(request, metadata=services.metadata, timeout=20)
    as_units = usage_pb2.RecordRequest(
        dimensions=request.dimensions,
        request_id="others",
        price_context={"service_tier": "priority"},
        units=[
            usage_pb2.Quantity(unit=name, count=count)
            for name, count in {
                "input_tokens": 1000,
                "output_tokens": 200,
                "cache_read_tokens": 400,
                "my_widgets": 2,
            }.items()
        ],
    )
    assert services.usage.Record(as_units, metadata=services.metadata, timeout=20).duplicate


UNITS = [usage_pb2.Quantity(unit="input_tokens", count=1)]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (record("openai", CHAT, units=UNITS), "provider_usage"),
        (record("", CHAT), "dimensions.provider"),
        (record("openai", "{"), "provider_usage"),
        (record("openai", "[1]"), "provider_usage"),
        (record("openai", '{"prompt_tokens": NaN}'), "provider_usage"),
        (record("openai", "[" * 100_000), "provider_usage"),
        (record("openai", {"prompt_tokens": -1}), "provider_usage.prompt_tokens"),
        (record("openai", {"prompt_tokens": "7"}), "provider_usage.prompt_tokens"),
        (record("openai", {"words": 7}), "provider_usage"),
        (record("openai", CHAT | {"other_units": 7}), "provider_usage.other_units"),
        (record("openai", CHAT | {"other_units": {"pages": -1}}), "provider_usage.other_units.pages"),
    ],
)
def test_a_refusal_names_the_field(services: Stubs, request_: Any, field: str) -> None:
    """Alone, in a batch and on a stream."""
    error = refusal_of(lambda: services.usage.Record(request_, metadata=services.metadata, timeout=20))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(details_of(error)[0]) == [field]

    good = record("openai", CHAT)
    batch = usage_pb2.RecordBatchRequest(rows=[good, request_])
    answer = services.usage.RecordBatch(batch, metadata=services.metadata, timeout=20)
    assert (answer.accepted, [(each.record, each.field) for each in answer.refusals]) == (1, [(1, field)])

    messages = [usage_pb2.RecordStreamRequest(sequence=at, record=each) for at, each in enumerate((good, request_), 1)]
    answers = list(services.usage.RecordStream(iter(messages), metadata=services.metadata, timeout=20))
    assert [(item.sequence, item.field) for each in answers for item in each.items] == [(2, field)]
