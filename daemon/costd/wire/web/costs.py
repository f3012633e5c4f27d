"""The dashboard API's costs: by provider, altogether, and entered by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, tzinfo

from costd.domain import days
from costd.domain.days import FIRST_YEAR
from costd.domain.freshness import NO_DATA
from costd.domain.money import MAX_ENTRY_NANO
from costd.domain.spend import UNKNOWN, Spend, cost_with_entries
from costd.domain.usage import check_string
from costd.services.spending import Period
from costd.store.months import MonthEntry
from costd.wire.web.answers import money, money_or_null
from costd.wire.web.dashboard_structs import (
    AllCosts,
    Comparison,
    EntriesPart,
    Manual,
    ManualBody,
    MonthQuery,
    ProviderCosts,
    TokenTotals,
    UsagePart,
)
from costd.wire.web.details import plain_details
from costd.wire.web.failures import Required
from costd.wire.web.fields import check_currency, is_number, usd_of, whole_of
from costd.wire.web.ingest import add_entry
from costd.wire.web.moments import previous_month
from costd.wire.web.route import Call
from costd.wire.web.zones import parse_zone, zone_name

_MANUAL_FORM = "service (string), amount (number), month (number), year (number)"

#: The services' names of fields → this surface's.
MANUAL_NAMES = {"request_id": "Idempotency-Key"}


class _Part:
    """What one provider, or everything, cost in a month: from single records, and from month entries."""

    def __init__(self) -> None:
        self.usage = Spend()
        self.models: dict[str, Spend] = defaultdict(Spend)
        self.entries = 0
        self.entries_nano = 0
        self.tokens = [0, 0, 0, 0]

    @property
    def nano(self) -> int | None:
        return cost_with_entries(self.usage, self.entries, self.entries_nano)

    def usage_part(self) -> UsagePart:
        return UsagePart(money_or_null(self.usage.shown_cost_nano), self.usage.requests, self.usage.unpriced)

    def entries_part(self) -> EntriesPart:
        return EntriesPart(money(self.entries_nano), self.entries)


async def provider_costs(call: Call) -> object:
    """One provider's costs in a month and in the month before."""
    name = call.path["provider"]
    check_string(name, "provider")
    provider = call.services.prices.canonical_provider(name)
    zone = parse_zone(call.query.timezone)
    year, month = _asked_month(call, zone)
    now, before = await _two_months(call, year, month, zone)
    part = _by_provider(call, now).get(provider) or _Part()
    earlier = _by_provider(call, before).get(provider) or _Part()
    newest = call.services.reports.freshness(call.caller).providers.get(provider)
    return call.envelope(
        ProviderCosts(
            service=provider,
            month=month,
            year=year,
            current_month=money_or_null(part.nano),
            previous_month=money_or_null(earlier.nano),
            breakdown={model: money_or_null(spend.shown_cost_nano) for model, spend in part.models.items()},
            token_usage=TokenTotals(*part.tokens),
            usage=part.usage_part(),
            entries=part.entries_part(),
            data_freshness=newest[1] if newest else NO_DATA,
            timezone=zone_name(zone),
            exact=_is_exact(now, before),
        )
    )


async def all_costs(call: Call) -> object:
    """Every provider's costs in a month, beside the month before."""
    zone = parse_zone(call.query.timezone)
    year, month = _asked_month(call, zone)
    now, before = await _two_months(call, year, month, zone)
    parts = _by_provider(call, now)
    everything, earlier = _together(parts), _together(_by_provider(call, before))
    return call.envelope(
        AllCosts(
            total=money_or_null(everything.nano),
            month=month,
            year=year,
            by_provider={provider: money_or_null(part.nano) for provider, part in sorted(parts.items())},
            comparison=Comparison(
                previous_month=money_or_null(earlier.nano), change_percent=_change(everything.nano, earlier.nano)
            ),
            usage=everything.usage_part(),
            entries=everything.entries_part(),
            data_freshness=call.services.reports.freshness(call.caller).overall,
            timezone=zone_name(zone),
            exact=_is_exact(now, before),
        )
    )


def _change(now_nano: int | None, before_nano: int | None) -> float | None:
    """By how many percent a cost rose; None where either is not known or the earlier is nothing."""
    return None if now_nano is None or not before_nano else round((now_nano - before_nano) / before_nano * 100, 2)


def _is_exact(now: Period, before: Period | None) -> bool:
    return now.usage.exact and (before is None or before.usage.exact)


def _asked_month(call: Call, zone: tzinfo) -> tuple[int, int]:
    asked: MonthQuery = call.query
    today = days.day_of(call.services.clock.now_ms(), zone)
    return asked.year or today.year, asked.month or today.month


async def _two_months(call: Call, year: int, month: int, zone: tzinfo) -> tuple[Period, Period | None]:
    now = await _month(call, year, month, zone)
    earlier = previous_month(year, month)
    return now, None if earlier < (FIRST_YEAR, 1) else await _month(call, *earlier, zone)


async def _month(call: Call, year: int, month: int, zone: tzinfo) -> Period:
    first, last = date(year, month, 1), days.last_day(year, month)
    span = days.days_span(first, last, zone)
    found: Period = await call.read(
        call.services.spending.period, call.caller, ("provider", "model"), first, last, span, {}
    )
    return found


def _by_provider(call: Call, costs: Period | None) -> dict[str, _Part]:
    parts: dict[str, _Part] = defaultdict(_Part)
    if costs is None:
        return parts
    for row in sorted(costs.usage.rows, key=lambda row: -row.spend.cost_nano):
        provider, model = row.names
        part, spend = parts[provider or UNKNOWN], row.spend
        part.usage = part.usage.plus(spend)
        part.models[model] = part.models[model].plus(spend)
        _add_tokens(part, spend.input_tokens, spend.output_tokens, spend.cached_tokens, spend.tokens)
    for entry in costs.entries:
        # Entries are filed under the service's name; usage under the provider's id in the price list.
        part = parts[call.services.prices.canonical_provider(entry.provider)]
        part.entries += entry.entries
        part.entries_nano += entry.cost_nano
        _add_tokens(part, entry.input_tokens, entry.output_tokens, entry.cached_tokens, entry.tokens)
    return parts


def _together(parts: Mapping[str, _Part]) -> _Part:
    everything = _Part()
    for part in parts.values():
        everything.usage = everything.usage.plus(part.usage)
        everything.entries += part.entries
        everything.entries_nano += part.entries_nano
    return everything


def _add_tokens(part: _Part, *tokens: int) -> None:
    part.tokens = [have + more for have, more in zip(part.tokens, tokens, strict=True)]


async def add_manual(call: Call) -> object:
    """Store a month's cost entered by hand; answered when it is on disk."""
    sent: ManualBody = call.body
    for name in ("amount", "month", "year"):
        if not is_number(getattr(sent, name)):
            raise Required(name, "must be a number", _MANUAL_FORM)
    check_currency(sent.currency, "currency")
    amount_nano = usd_of(sent.amount, "amount", limit_nano=MAX_ENTRY_NANO) or 0
    entry = MonthEntry(
        kind="manual",
        service=sent.service,
        year=whole_of(sent.year, "year") or 0,
        month=whole_of(sent.month, "month") or 0,
        project=sent.project or "",
        product=sent.product or "",
        amount_nano=amount_nano,
        details=plain_details("", category=sent.category, description=sent.description),
    )
    receipt = await add_entry(call, entry)
    return call.envelope(
        Manual(
            id=receipt.record_id,
            service=receipt.service,
            amount=money(amount_nano),
            month=entry.month,
            year=entry.year,
            category=sent.category,
            description=sent.description,
            duplicate=receipt.duplicate,
        )
    )
