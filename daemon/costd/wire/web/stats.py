"""The dashboard API's statistics: the month, its days, the burn rate, integrations."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

from msgspec import Raw

from costd.domain import days
from costd.domain.errors import Invalid
from costd.domain.freshness import NO_DATA
from costd.domain.projection import per_hour_nano
from costd.domain.spend import Spend, cost_with_entries
from costd.domain.usage import check_string
from costd.services.spending import BurnRate, Days, Entries, MonthStats
from costd.wire.web.answers import money, money_or_null, rfc3339
from costd.wire.web.dashboard_structs import BillingPeriod
from costd.wire.web.route import Call
from costd.wire.web.stats_structs import (
    Aggregations,
    Budget,
    Burn,
    BurnRateData,
    BurnRateQuery,
    DayPoint,
    EntryTotals,
    Integration,
    Projections,
    Stats,
    StatsQuery,
    Status,
    Timeseries,
    TimeseriesQuery,
    UsageTotals,
)
from costd.wire.web.zones import parse_query_day, parse_zone, zone_name

#: How many days a timeseries has where the query names none.
_DEFAULT_DAYS = 30
#: Providers that every client of this API may ask for.
_ALWAYS_SHOWN = ("anthropic", "google", "openai")
_RATE_DIGITS = 6


async def stats(call: Call) -> object:
    """The current month so far, and where it is heading."""
    asked: StatsQuery = call.query
    zone = parse_zone(asked.timezone)
    provider = checked_provider(asked.provider, "provider")
    found: MonthStats = await call.read(call.services.spending.month_stats, call.caller, provider, zone)
    limit_nano = call.services.budgets.month_limit_nano(
        call.caller, call.services.prices.canonical_provider(provider) if provider else ""
    )
    is_known = limit_nano is not None and found.spent_nano is not None
    remaining_nano = max(0, (limit_nano or 0) - (found.spent_nano or 0)) if is_known else None
    return call.envelope(
        Stats(
            budget=Budget(money_or_null(limit_nano), money_or_null(found.spent_nano), money_or_null(remaining_nano)),
            projections=Projections(end_of_month=money_or_null(found.projected_nano), trend=found.trend),
            usage=_usage_totals(found.usage),
            entries=_entry_totals(found.entries),
            period=BillingPeriod(start=found.first.isoformat(), end=found.last.isoformat()),
            timezone=zone_name(zone),
            exact=found.exact,
        )
    )


async def timeseries(call: Call) -> object:
    """Usage by day."""
    asked: TimeseriesQuery = call.query
    zone = parse_zone(asked.timezone)
    spending = call.services.spending
    filters = spending.provider_filter(checked_provider(asked.provider, "provider"))
    last = days.day_of(call.services.clock.now_ms(), zone)
    if asked.end_date:
        last = parse_query_day(asked.end_date, "endDate")
    first = last - timedelta(days=_DEFAULT_DAYS - 1)
    if asked.start_date:
        first = parse_query_day(asked.start_date, "startDate")
        last = last if asked.end_date else max(first, last)
    if last < first:
        raise Invalid("endDate", "must not be before startDate")
    found: Days = await call.read(spending.daily, call.caller, first, last, zone, filters)
    total = Spend()
    for spend in found.spends:
        total = total.plus(spend)
    entries = found.entries
    return call.envelope(
        Timeseries(
            series=[_point((first + timedelta(days=n)).isoformat(), spend) for n, spend in enumerate(found.spends)],
            aggregations=Aggregations(
                total_tokens=total.tokens + entries.tokens,
                total_cost=money_or_null(cost_with_entries(total, entries.entries, entries.cost_nano)),
                usage=_usage_totals(total),
                entries=_entry_totals(entries),
            ),
            period=BillingPeriod(start=first.isoformat(), end=last.isoformat()),
            timezone=zone_name(zone),
            exact=found.exact,
        )
    )


async def burn_rate(call: Call) -> object:
    """What is being spent in an hour and in a day."""
    asked: BurnRateQuery = call.query
    service = checked_provider(asked.service, "service")
    found: BurnRate = await call.read(call.services.spending.burn_rate, call.caller, asked.hours, service)
    return call.envelope(
        BurnRateData(
            burn_rate=_burn(found.total, found.hours),
            by_service={row.names[0]: _burn(row.spend, found.hours) for row in found.providers},
            hours=found.hours,
            since=rfc3339(found.since_ms),
            until=rfc3339(found.until_ms),
            exact=found.exact,
        )
    )


async def status(call: Call) -> object:
    """Every provider, and when it was last heard of; from memory."""
    known = call.services.reports.freshness(call.caller).providers
    integrations = {name: Integration(connected=False, last_sync=None, status=NO_DATA) for name in _ALWAYS_SHOWN}
    for name, (newest_ms, word) in known.items():
        integrations[name] = Integration(connected=True, last_sync=rfc3339(newest_ms), status=word)
    return call.envelope(Status(dict(sorted(integrations.items()))))


def checked_provider(name: str | None, field: str) -> str:
    """A provider as a query names it, "" for none; raises Invalid naming `field`."""
    check_string(name or "", field)
    return name or ""


def _usage_totals(spend: Spend) -> UsageTotals:
    return UsageTotals(
        total_tokens=spend.tokens,
        total_cost=money_or_null(spend.shown_cost_nano),
        input_tokens=spend.input_tokens,
        output_tokens=spend.output_tokens,
        cached_tokens=spend.cached_tokens,
        requests=spend.requests,
        unpriced=spend.unpriced,
    )


def _entry_totals(entries: Entries) -> EntryTotals:
    return EntryTotals(tokens=entries.tokens, cost=money(entries.cost_nano), entries=entries.entries)


def _point(day: str, spend: Spend) -> DayPoint:
    return DayPoint(
        date=day,
        total_tokens=spend.tokens,
        cost=money_or_null(spend.shown_cost_nano),
        input_tokens=spend.input_tokens,
        output_tokens=spend.output_tokens,
        cached_tokens=spend.cached_tokens,
        requests=spend.requests,
        unpriced=spend.unpriced,
    )


def _burn(spend: Spend, hours: int) -> Burn:
    cost_nano = spend.shown_cost_nano
    return Burn(
        tokens_per_hour=_rate(spend.tokens, hours),
        cost_per_hour=money_or_null(per_hour_nano(cost_nano, hours)),
        tokens_per_day=_rate(spend.tokens * 24, hours),
        cost_per_day=money_or_null(per_hour_nano(cost_nano, hours, 24)),
        requests=spend.requests,
        tokens=spend.tokens,
        cost=money_or_null(cost_nano),
        unpriced=spend.unpriced,
    )


def _rate(tokens: int, hours: int) -> Raw:
    """Tokens for one hour, as a JSON number with a few digits behind the point, and none where there need not be."""
    text = f"{float(round(Fraction(tokens, hours), _RATE_DIGITS)):.{_RATE_DIGITS}f}"
    return Raw(text.rstrip("0").rstrip(".").encode())
