"""Aggregations: a period's cost altogether, and by prompt, team, tag and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any, TypedDict

from costd.domain import days
from costd.domain.errors import Invalid
from costd.domain.money import round_half_even
from costd.domain.spend import UNKNOWN, Spend, cost_with_entries
from costd.domain.usage import check_string
from costd.services.spending import Period, added, by_tag, merged
from costd.store.keys import StoredKey
from costd.store.sums import SpendTable
from costd.wire.web.aggregation_structs import (
    AggregationQuery,
    ByKey,
    ByPrompt,
    ByTag,
    ByTeam,
    KeyRow,
    Monthly,
    PromptRow,
    TagRow,
    TeamRow,
    VersionComparison,
    VersionRow,
)
from costd.wire.web.answers import money, money_or_null
from costd.wire.web.dashboard_structs import BillingPeriod, EntriesPart, UsagePart
from costd.wire.web.route import Call
from costd.wire.web.stats import checked_provider
from costd.wire.web.zones import Asked, parse_zone, period_of, zone_name


class _Sums(TypedDict):
    """What every row has."""

    total_cost: Any
    request_count: int
    total_tokens: int
    unpriced: int


class _Frame(TypedDict):
    """What every answer has."""

    period: BillingPeriod
    timezone: str
    exact: bool


async def monthly(call: Call) -> object:
    """A period's cost, of single records and of month entries."""
    asked, zone, filters = _asked(call)
    found: Period = await call.read(
        call.services.spending.period, call.caller, (), asked.first, asked.last, asked.span, filters
    )
    usage, entries = found.usage.total(), added(found.entries)
    return Monthly(
        total_cost=money_or_null(cost_with_entries(usage, entries.entries, entries.cost_nano)),
        usage=UsagePart(money_or_null(usage.shown_cost_nano), usage.requests, usage.unpriced),
        entries=EntriesPart(money(entries.cost_nano), entries.entries),
        **_frame(asked, zone, exact=found.usage.exact),
    )


async def by_prompt(call: Call) -> object:
    """Usage by prompt."""
    table, frame = await _table(call, "prompt_key")
    return ByPrompt([PromptRow(row.names[0], **_sums(row.spend)) for row in merged(table.rows)], **frame)


async def by_team(call: Call) -> object:
    """Usage by team: the record's, its project's or its user's."""
    asked, zone, filters = _asked(call)
    table: SpendTable
    names: Mapping[str, str]
    table, names = await call.read(call.services.spending.by_team, call.caller, asked.span, filters)
    rows = [(row.names[0], row.spend) for row in merged(table.rows)]
    teams = [TeamRow(team, names.get(team, team), **_sums(spend)) for team, spend in rows]
    return ByTeam(teams, **_frame(asked, zone, exact=table.exact))


async def by_tags(call: Call) -> object:
    """Usage by tag, each record under every one of its tags."""
    table, frame = await _table(call, "tags")
    return ByTag([TagRow(row.names[0], **_sums(row.spend)) for row in by_tag(table.rows)], **frame)


async def by_key(call: Call) -> object:
    """Usage by API key."""
    asked, zone, filters = _asked(call)
    table: SpendTable
    keys: Mapping[str, StoredKey]
    table, keys = await call.read(call.services.spending.by_key, call.caller, asked.span, filters)
    rows = [_key_row(keys, row.names[0], row.spend) for row in merged(table.rows)]
    return ByKey(rows, **_frame(asked, zone, exact=table.exact))


async def version_comparison(call: Call) -> object:
    """Usage of one prompt by its versions."""
    wanted = call.query.prompt_key
    if not wanted:
        raise Invalid("prompt_key", "is required: the prompt whose versions are compared")
    check_string(wanted, "prompt_key")
    asked, zone, filters = _asked(call)
    filters = {**filters, "prompt_key": ("" if wanted == UNKNOWN else wanted,)}
    table: SpendTable = await call.read(
        call.services.spending.by, call.caller, ("prompt_version",), asked.span, filters
    )
    rows = sorted(((row.names[0], row.spend) for row in merged(table.rows)), key=_version_order)
    versions = [_version_row(version, spend) for version, spend in rows]
    return VersionComparison(wanted, versions, **_frame(asked, zone, exact=table.exact))


def _version_order(row: tuple[str, Spend]) -> tuple[bool, int, str]:
    version = row[0]
    is_number = version.isascii() and version.isdigit()
    return not is_number, int(version) if is_number else 0, version


def _version_row(version: str, spend: Spend) -> VersionRow:
    is_number = version.isascii() and version.isdigit()
    priced = spend.requests - spend.unpriced
    nano = spend.shown_cost_nano
    average = None if nano is None or not priced else money(round_half_even(nano, priced))
    sums = _sums(spend)
    return VersionRow(int(version) if is_number else None, version, avg_cost_per_request=average, **sums)


def _key_row(keys: Mapping[str, StoredKey], key_id: str, spend: Spend) -> KeyRow:
    key = keys.get(key_id)
    if key is None:
        return KeyRow(key_id, key_id, None, None, **_sums(spend))
    return KeyRow(key_id, key.name, key.key_prefix, key.team or None, **_sums(spend))


async def _table(call: Call, dimension: str) -> tuple[SpendTable, _Frame]:
    asked, zone, filters = _asked(call)
    found: SpendTable = await call.read(call.services.spending.by, call.caller, (dimension,), asked.span, filters)
    return found, _frame(asked, zone, exact=found.exact)


def _asked(call: Call) -> tuple[Asked, tzinfo, Mapping[str, Sequence[str]]]:
    query: AggregationQuery = call.query
    zone = parse_zone(query.timezone)
    today = days.day_of(call.services.clock.now_ms(), zone)
    month = today.replace(day=1), days.last_day(today.year, today.month)
    asked = period_of(query.start, query.end, zone, ("start", "end"), month)
    return asked, zone, call.services.spending.provider_filter(checked_provider(query.provider, "provider"))


def _frame(asked: Asked, zone: tzinfo, *, exact: bool) -> _Frame:
    return _Frame(period=BillingPeriod(start=asked.start, end=asked.end), timezone=zone_name(zone), exact=exact)


def _sums(spend: Spend) -> _Sums:
    return _Sums(
        total_cost=money_or_null(spend.shown_cost_nano),
        request_count=spend.requests,
        total_tokens=spend.tokens,
        unpriced=spend.unpriced,
    )
