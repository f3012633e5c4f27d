"""The usage log: single records by page, one in full, and their sums by model and by day."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from msgspec import Raw

from costd.domain.days import Span
from costd.domain.errors import Invalid
from costd.domain.money import cents_text
from costd.domain.spend import UNKNOWN, Spend
from costd.domain.usage import INCOMPLETE, SANDBOX, SUCCESS, check_string
from costd.services.spending import UsageSummary, merged
from costd.store.events import EventPage, EventView
from costd.store.proxied_bodies import Bodies
from costd.wire.web.answers import rfc3339
from costd.wire.web.route import Call
from costd.wire.web.usage_log_structs import (
    DayUsage,
    ModelUsage,
    UsageDetail,
    UsageItem,
    UsageListQuery,
    UsagePage,
    UsageQuery,
    UsageSummaryAnswer,
)
from costd.wire.web.zones import open_period_of, parse_zone, zone_name

#: Classes of status in which the provider has answered with a 200.
_ANSWERED = frozenset({SUCCESS, INCOMPLETE, SANDBOX})


async def page(call: Call) -> object:
    """Records, newest first."""
    asked: UsageListQuery = call.query
    span, filters, _ = _wanted(asked)
    found: EventPage = await call.read(
        call.services.usage_log.page, call.caller, span, filters, asked.cursor or "", asked.limit
    )
    cursor = found.next_cursor or None
    return UsagePage(
        items=[UsageItem(**_item(call, event)) for event in found.events],
        next_cursor=cursor,
        has_more=cursor is not None,
    )


async def detail(call: Call) -> object:
    """One record in full."""
    wanted = call.path["id"]
    check_string(wanted, "id")
    event: EventView = await call.read(call.services.usage_log.one, call.caller, wanted)
    bodies: Bodies | None = await call.read(call.services.proxied_bodies.of, call.caller, event.event_id)
    return UsageDetail(
        **_item(call, event),
        cache_creation_input_tokens=_count(event, "cache_write_tokens"),
        cache_read_input_tokens=_count(event, "cache_read_tokens"),
        request_body=None if bodies is None else bodies.request.decode(errors="replace"),
        response_body=None if bodies is None else bodies.response.decode(errors="replace"),
    )


async def summary(call: Call) -> object:
    """Records added up by model and by day."""
    asked: UsageQuery = call.query
    span, filters, zone = _wanted(asked)
    found: UsageSummary = await call.read(call.services.spending.summary, call.caller, span, zone, filters)
    total = Spend()
    for row in found.models:
        total = total.plus(row.spend)
    return UsageSummaryAnswer(
        total_cost_cents=_cents(total),
        total_requests=total.requests,
        total_input_tokens=total.input_tokens,
        total_output_tokens=total.output_tokens,
        unpriced=total.unpriced,
        by_model=[ModelUsage(row.names[0], *_sums(row.spend)) for row in merged(found.models)],
        by_day=[DayUsage(day.isoformat(), *_sums(spend)) for day, spend in found.days],
        timezone=zone_name(zone),
        exact=found.exact,
    )


def _wanted(asked: UsageQuery) -> tuple[Span, dict[str, tuple[str, ...]], tzinfo]:
    for field in ("model", "api_key_id", "proxy_endpoint_id"):
        check_string(getattr(asked, field) or "", field)
    zone = parse_zone(asked.timezone)
    span = open_period_of(asked.from_, asked.to, zone, ("from", "to"))
    if asked.api_key_id and asked.proxy_endpoint_id:
        raise Invalid("proxy_endpoint_id", "and api_key_id exclude each other: what came by an endpoint had no key")
    # What came by a proxy endpoint has its id for a key.
    named = {"model": asked.model, "key_id": asked.api_key_id or asked.proxy_endpoint_id}
    return span, {name: (value,) for name, value in named.items() if value}, zone


def _item(call: Call, event: EventView) -> dict[str, Any]:
    """The fields of a UsageItem."""
    said = event.dimensions
    key_id = said.get("key_id")
    came_by = key_id if key_id and call.services.proxy_endpoints.was_one(key_id) else None
    return {
        "id": event.event_id,
        "model": said.get("model", ""),
        "input_tokens": _count(event, "input_tokens"),
        "output_tokens": _count(event, "output_tokens"),
        "cost_cents": None if event.cost_nano is None else cents_text(event.cost_nano),
        "duration_ms": event.latency_ms,
        "status_code": _status_code(event),
        "proxy_endpoint_id": came_by,
        "requested_at": rfc3339(event.at_ms),
        "provider": said.get("provider") or UNKNOWN,
        "prompt_key": said.get("prompt_key") or UNKNOWN,
        "api_key_id": None if came_by else key_id,
        "status": event.status,
    }


def _count(event: EventView, unit: str) -> int:
    return int(event.units.get(unit, "0"))


def _status_code(event: EventView) -> int | None:
    """The status that the provider answered with, where it can be told."""
    if event.dimensions.get("status") in _ANSWERED:
        return 200
    status = event.status
    return int(status) if len(status) == 3 and status.isascii() and status.isdigit() and status >= "100" else None


def _sums(spend: Spend) -> tuple[Raw | None, int, int, int]:
    return _cents(spend), spend.requests, spend.tokens, spend.unpriced


def _cents(spend: Spend) -> Raw | None:
    nano = spend.shown_cost_nano
    return None if nano is None else Raw(cents_text(nano).encode())
