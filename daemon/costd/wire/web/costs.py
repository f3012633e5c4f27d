"""The dashboard API's costs: by provider, altogether, and entered by hand."""

from __future__ import annotations

from collections import defaultdict

from costd.domain.freshness import NO_DATA
from costd.domain.money import MAX_ENTRY_NANO
from costd.domain.usage import check_string
from costd.services.reports import MonthCosts
from costd.store.months import MonthEntry
from costd.store.rollups import Totals
from costd.wire.web.answers import money
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
from costd.wire.web.moments import FIRST_YEAR, month_of, previous_month
from costd.wire.web.route import Call

_MANUAL_FORM = "service (string), amount (number), month (number), year (number)"

#: The services' names of fields → this surface's.
MANUAL_NAMES = {"request_id": "Idempotency-Key"}


class _Part:
    """What one provider, or everything, cost in a month: from single records, and from month entries."""

    def __init__(self) -> None:
        self.usage = Totals()
        self.models: dict[str, int] = defaultdict(int)
        self.entries = 0
        self.entries_nano = 0
        self.tokens = [0, 0, 0, 0]

    @property
    def nano(self) -> int:
        return self.usage.cost_nano + self.entries_nano

    def usage_part(self) -> UsagePart:
        return UsagePart(money(self.usage.cost_nano), self.usage.requests, self.usage.unpriced)

    def entries_part(self) -> EntriesPart:
        return EntriesPart(money(self.entries_nano), self.entries)


async def provider_costs(call: Call) -> object:
    """One provider's costs in a month and in the month before."""
    name = call.path["provider"]
    check_string(name, "provider")
    provider = call.services.prices.canonical_provider(name)
    year, month = _asked_month(call)
    now, before = await _two_months(call, year, month)
    part = _by_provider(call, now).get(provider) or _Part()
    earlier = _by_provider(call, before).get(provider) or _Part()
    newest = call.services.reports.freshness(call.caller).providers.get(provider)
    return call.envelope(
        ProviderCosts(
            service=provider,
            month=month,
            year=year,
            current_month=money(part.nano),
            previous_month=money(earlier.nano),
            breakdown={model: money(nano) for model, nano in part.models.items()},
            token_usage=TokenTotals(*part.tokens),
            usage=part.usage_part(),
            entries=part.entries_part(),
            data_freshness=newest[1] if newest else NO_DATA,
        )
    )


async def all_costs(call: Call) -> object:
    """Every provider's costs in a month, beside the month before."""
    year, month = _asked_month(call)
    now, before = await _two_months(call, year, month)
    parts = _by_provider(call, now)
    total = sum(part.nano for part in parts.values())
    earlier = sum(part.nano for part in _by_provider(call, before).values())
    everything = _Part()
    for part in parts.values():
        everything.usage.add(part.usage)
        everything.entries += part.entries
        everything.entries_nano += part.entries_nano
    return call.envelope(
        AllCosts(
            total=money(total),
            month=month,
            year=year,
            by_provider={provider: money(part.nano) for provider, part in sorted(parts.items())},
            comparison=Comparison(
                previous_month=money(earlier),
                change_percent=round((total - earlier) / earlier * 100, 2) if earlier else None,
            ),
            usage=everything.usage_part(),
            entries=everything.entries_part(),
            data_freshness=call.services.reports.freshness(call.caller).overall,
        )
    )


def _asked_month(call: Call) -> tuple[int, int]:
    asked: MonthQuery = call.query
    year, month = month_of(call.services.clock.now_ms())
    return asked.year or year, asked.month or month


async def _two_months(call: Call, year: int, month: int) -> tuple[MonthCosts, MonthCosts | None]:
    reports = call.services.reports
    now: MonthCosts = await call.read(reports.month_costs, call.caller, year, month)
    earlier = previous_month(year, month)
    if earlier < (FIRST_YEAR, 1):
        return now, None
    before: MonthCosts = await call.read(reports.month_costs, call.caller, *earlier)
    return now, before


def _by_provider(call: Call, costs: MonthCosts | None) -> dict[str, _Part]:
    parts: dict[str, _Part] = defaultdict(_Part)
    if costs is None:
        return parts
    for row in costs.usage:
        part, totals = parts[row.dimensions["provider"]], row.totals
        part.usage.add(totals)
        part.models[row.dimensions["model"]] += totals.cost_nano
        _add_tokens(
            part,
            totals.input_tokens,
            totals.output_tokens,
            totals.cache_read_tokens,
            totals.input_tokens + totals.output_tokens,
        )
    for entry in costs.entries:
        # Entries are filed under the service's name; usage under the provider's id in the price list.
        part = parts[call.services.prices.canonical_provider(entry.provider)]
        part.entries += entry.entries
        part.entries_nano += entry.cost_nano
        _add_tokens(part, entry.input_tokens, entry.output_tokens, entry.cached_tokens, entry.tokens)
    return parts


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
