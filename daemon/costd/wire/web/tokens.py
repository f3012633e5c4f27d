"""The dashboard API's tokens: one call tracked, and the tokens of a period."""

from __future__ import annotations

from costd.domain import days
from costd.domain.errors import Invalid
from costd.domain.units import Quantity
from costd.domain.usage import Usage
from costd.services.spending import Period, merged
from costd.store.months import MonthTotal
from costd.store.sums import SpendRow
from costd.wire.web.answers import money, money_or_null, rfc3339
from costd.wire.web.dashboard_structs import (
    BillingPeriod,
    BillingPeriodQuery,
    TokenRow,
    Tokens,
    TrackBody,
    Tracked,
)
from costd.wire.web.fields import check_currency, record_id, usd_of, whole_of
from costd.wire.web.moments import parse_timestamp
from costd.wire.web.route import DOOR, Call
from costd.wire.web.zones import parse_query_day, parse_zone, zone_name

#: How long `flush` waits for the hub's acknowledgement; the record is on disk by then.
FLUSH_S = 5.0

#: The domain's names of fields → this surface's.
FIELD_NAMES = {
    "user": "userId",
    "project": "projectId",
    "tags": "featureTags",
    "feature_tags": "featureTags",
    "source_app": "sourceApp",
    "cost_usd": "cost",
    "request_id": "requestId",
    "units.input_tokens": "inputTokens",
    "units.output_tokens": "outputTokens",
    "units.cache_read_tokens": "cachedTokens",
}


async def track(call: Call) -> object:
    """Record one call; answered when it is on disk, and with `flush` after a while for the hub to have it as well."""
    sent: TrackBody = call.body
    check_currency(sent.currency, "currency")
    counts = {
        "input_tokens": whole_of(sent.input_tokens, "inputTokens") or 0,
        "output_tokens": whole_of(sent.output_tokens, "outputTokens") or 0,
        "cache_read_tokens": whole_of(sent.cached_tokens, "cachedTokens") or 0,
    }
    usage = _usage_of(sent, counts, record_id(sent.request_id, call.idempotency_key, "requestId"))
    call.handed_over = True
    receipt = await call.services.metering.record(call.caller, usage, DOOR)
    flushed = await call.services.link.flushed(FLUSH_S if sent.flush else 0)
    return call.envelope(
        Tracked(
            id=receipt.event_id,
            provider=receipt.provider or None,
            model=sent.model,
            input_tokens=counts["input_tokens"],
            output_tokens=counts["output_tokens"],
            cached_tokens=counts["cache_read_tokens"],
            cost=money_or_null(receipt.cost_nano),
            timestamp=rfc3339(receipt.at_ms),
            flushed=flushed,
            request_id=receipt.request_id or None,
            duplicate=receipt.duplicate,
            warnings=receipt.warnings,
        )
    )


def _usage_of(sent: TrackBody, counts: dict[str, int], request_id: str) -> Usage:
    units: list[tuple[str, Quantity]] = sorted((name, count) for name, count in counts.items() if count)
    return Usage(
        source_app=sent.source_app or "",
        model=sent.model,
        units=tuple(units),
        user=sent.user_id or "",
        project=sent.project_id or "",
        team=sent.team or "",
        provider=sent.provider or "",
        tags=tuple(sorted(set(sent.feature_tags))) if sent.feature_tags else (),
        at_ms=parse_timestamp(sent.timestamp, "timestamp"),
        cost_nano=usd_of(sent.cost, "cost"),
        request_id=request_id,
    )


async def tokens(call: Call) -> object:
    """The tokens of whole days, by provider and model, and those of month entries beside them."""
    asked: BillingPeriodQuery = call.query
    zone = parse_zone(asked.timezone)
    today = days.day_of(call.services.clock.now_ms(), zone)
    first, last = today.replace(day=1), days.last_day(today.year, today.month)
    if asked.billing_start_date:
        first = parse_query_day(asked.billing_start_date, "billingStartDate")
        last = max(first, last)
    if asked.billing_end_date:
        last = parse_query_day(asked.billing_end_date, "billingEndDate")
        first = first if asked.billing_start_date else last.replace(day=1)
    if last < first:
        raise Invalid("billingEndDate", "must not be before billingStartDate")
    span = days.days_span(first, last, zone)
    found: Period = await call.read(
        call.services.spending.period, call.caller, ("provider", "model"), first, last, span, {}
    )
    freshness = call.services.reports.freshness(call.caller)
    return call.envelope(
        Tokens(
            tokens=[*map(_usage_row, merged(found.usage.rows)), *map(_entry_row, found.entries)],
            last_updated=None if freshness.newest_ms is None else rfc3339(freshness.newest_ms),
            data_freshness=freshness.overall,
            billing_period=BillingPeriod(start=first.isoformat(), end=last.isoformat()),
            timezone=zone_name(zone),
            exact=found.usage.exact,
        )
    )


def _usage_row(row: SpendRow) -> TokenRow:
    (provider, model), spend = row.names, row.spend
    return TokenRow(
        source="usage",
        provider=provider,
        model=model,
        requests=spend.requests,
        input_tokens=spend.input_tokens,
        output_tokens=spend.output_tokens,
        cached_tokens=spend.cached_tokens,
        total_tokens=spend.tokens,
        cost=money_or_null(spend.shown_cost_nano),
        unpriced=spend.unpriced,
    )


def _entry_row(entry: MonthTotal) -> TokenRow:
    return TokenRow(
        source="entries",
        provider=entry.provider,
        model=None,
        requests=0,
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        cached_tokens=entry.cached_tokens,
        total_tokens=entry.tokens,
        cost=money(entry.cost_nano),
        unpriced=0,
    )
