"""Spending: what was used and what it cost, over any days, by whatever it is attributed to; every call blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo

from costd.clock import Clock
from costd.domain import days, projection
from costd.domain.access import Caller
from costd.domain.days import HOUR_MS, Span
from costd.domain.errors import Invalid
from costd.domain.series import TAG_SEPARATOR
from costd.domain.spend import UNKNOWN, Spend, cost_with_entries
from costd.store import months, sums
from costd.store.catalog_kinds import TEAM
from costd.store.catalog_lists import registered_names
from costd.store.keys import StoredKey, load_keys
from costd.store.months import MonthTotal
from costd.store.reader import Readers
from costd.store.sums import SpendRow, SpendTable, Wanted
from costd.store.whole_hours import first_and_last_hour

#: A bucket for each day of the longest time that rollups may be kept for, and no more: every one is answered.
MAX_DAYS = 1100
MAX_HOURS = 24 * 366
DEFAULT_HOURS = 24

Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Entries:
    """Month entries added up."""

    entries: int = 0
    cost_nano: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """Usage of a span, and by provider the month entries beside it; `usage.exact` as in SpendTable."""

    usage: SpendTable
    entries: list[MonthTotal]


@dataclass(frozen=True, slots=True)
class Days:
    """A spend for each of the days from `first` on, one after the other, and the entries of the months they touch."""

    first: date
    spends: list[Spend]
    entries: Entries
    exact: bool


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Sums of records by model, and by day for the days that have any."""

    models: list[SpendRow]
    days: list[tuple[date, Spend]]
    exact: bool


@dataclass(frozen=True, slots=True)
class BurnRate:
    """What was spent in the `hours` hours before `until_ms`, altogether and by provider, the fastest first."""

    since_ms: int
    until_ms: int
    hours: int
    total: Spend
    providers: list[SpendRow]
    exact: bool


@dataclass(frozen=True, slots=True)
class MonthStats:
    """A month so far, and what it will have cost at its end (nano-USD, None where that has no price)."""

    first: date
    last: date
    usage: Spend
    entries: Entries
    spent_nano: int | None
    projected_nano: int | None
    trend: str
    exact: bool


class Spending:
    """Adds up the ledger of the caller's organization; every method needs the role read."""

    def __init__(self, readers: Readers, clock: Clock, canonical_provider: Callable[[str], str]) -> None:
        """`canonical_provider` gives the one id of a provider that callers name in their own words."""
        self._readers = readers
        self._clock = clock
        self._canonical = canonical_provider

    def provider_filter(self, name: str) -> Filters:
        """The filter for a provider as a caller names it; none for ""."""
        if not name.strip():
            return {}
        provider = self._canonical(name.strip())
        return {"provider": ("", UNKNOWN) if provider == UNKNOWN else (provider,)}

    def period(
        self, caller: Caller, by: Sequence[str], first: date, last: date, span: Span, filters: Filters
    ) -> Period:
        """Usage of `span` by dimensions, and the entries of the months that the days `first` to `last` touch.

        Entries know no dimension but their provider: any other filter leaves them out.
        """
        caller.require("read")
        with self._readers.snapshot() as connection:
            table = sums.sum_by(connection, Wanted(caller.org_id, filters), by, span)
            totals = months.month_totals(connection, caller.org_id, days.month_number(first), days.month_number(last))
        return Period(table, self._chosen(totals, filters))

    def by(self, caller: Caller, dimensions: Sequence[str], span: Span, filters: Filters) -> SpendTable:
        """Usage of `span` by dimensions."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            return sums.sum_by(connection, Wanted(caller.org_id, filters), dimensions, span)

    def daily(self, caller: Caller, first: date, last: date, zone: tzinfo, filters: Filters) -> Days:
        """Usage of each of the days `first` to `last`."""
        caller.require("read")
        if (last - first).days >= MAX_DAYS:
            raise Invalid("endDate", f"must be less than {MAX_DAYS} days after startDate")
        bounds = days.day_bounds_ms(first, last, zone)
        with self._readers.snapshot() as connection:
            spends, exact = sums.sum_buckets(connection, Wanted(caller.org_id, filters), bounds)
            totals = months.month_totals(connection, caller.org_id, days.month_number(first), days.month_number(last))
        return Days(first, spends, added(self._chosen(totals, filters)), exact)

    def summary(self, caller: Caller, span: Span, zone: tzinfo, filters: Filters) -> UsageSummary:
        """Usage of `span` by model and by day."""
        caller.require("read")
        wanted = Wanted(caller.org_id, filters)
        with self._readers.snapshot() as connection:
            table = sums.sum_by(connection, wanted, ("model",), span)
            first_hour, last_hour = first_and_last_hour(connection) or (0, 0)
            start_ms = max(first_hour * HOUR_MS, span.start_ms or 0)
            end_ms = (last_hour + 1) * HOUR_MS if span.end_ms is None else min((last_hour + 1) * HOUR_MS, span.end_ms)
            if not table.rows or start_ms >= end_ms:
                return UsageSummary(table.rows, [], table.exact)
            first = days.day_of(start_ms, zone)
            bounds = days.day_bounds_ms(first, days.day_of(end_ms - 1, zone), zone)
            # Days at the ends of the span count only as far as it reaches.
            bounds[0] = max(bounds[0], span.start_ms or 0)
            bounds[-1] = bounds[-1] if span.end_ms is None else min(bounds[-1], span.end_ms)
            spends, exact = sums.sum_buckets(connection, wanted, bounds)
        dated = [(first + timedelta(days=number), spend) for number, spend in enumerate(spends) if spend.requests]
        return UsageSummary(table.rows, dated, table.exact and exact)

    def burn_rate(self, caller: Caller, hours: int, provider: str) -> BurnRate:
        """What is being spent, from the last `hours` hours (DEFAULT_HOURS for 0) of one or of all providers."""
        caller.require("read")
        hours = hours or DEFAULT_HOURS
        if not 1 <= hours <= MAX_HOURS:
            raise Invalid("hours", f"must be between 1 and {MAX_HOURS}")
        now_ms = self._clock.now_ms()
        # Open at the end: callers' clocks may be a little ahead of ours.
        span = Span(now_ms - hours * HOUR_MS, None)
        table = self.by(caller, ("provider",), span, self.provider_filter(provider))
        return BurnRate(now_ms - hours * HOUR_MS, now_ms, hours, table.total(), merged(table.rows), table.exact)

    def month_stats(self, caller: Caller, provider: str, zone: tzinfo) -> MonthStats:
        """The current month of one or of all providers."""
        caller.require("read")
        now_ms = self._clock.now_ms()
        today = days.day_of(now_ms, zone)
        first, last = today.replace(day=1), days.last_day(today.year, today.month)
        month = days.days_span(first, last, zone)
        assert month.end_ms is not None
        filters = self.provider_filter(provider)
        number = days.month_number(today)
        with self._readers.snapshot() as connection:
            used, week, before = (
                sums.sum_by(connection, Wanted(caller.org_id, filters), (), span) for span in (month, *_weeks(now_ms))
            )
            totals = months.month_totals(connection, caller.org_id, number, number)
            hours = first_and_last_hour(connection)
        usage, entries = used.total(), added(self._chosen(totals, filters))
        spent_nano = cost_with_entries(usage, entries.entries, entries.cost_nano)
        observed_ms = 0 if hours is None else now_ms - hours[0] * HOUR_MS
        return MonthStats(
            first,
            last,
            usage,
            entries,
            spent_nano,
            projection.projected_nano(spent_nano, week.total(), observed_ms, month.end_ms - now_ms),
            projection.trend(week.total(), before.total()),
            used.exact,
        )

    def by_team(self, caller: Caller, span: Span, filters: Filters) -> tuple[SpendTable, dict[str, str]]:
        """Usage of `span` by team, and the names of those teams that have one, by their ids."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            table = sums.sum_by(connection, Wanted(caller.org_id, filters), ("team",), span)
            names = registered_names(connection, caller.org_id, TEAM)
        return table, {team: name for team, name in names.items() if name}

    def by_key(self, caller: Caller, span: Span, filters: Filters) -> tuple[SpendTable, dict[str, StoredKey]]:
        """Usage of `span` by the key that recorded it, and those keys by their ids."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            table = sums.sum_by(connection, Wanted(caller.org_id, filters), ("key_id",), span)
            keys = {key.id: key for key in load_keys(connection) if key.org_id == caller.org_id}
        return table, keys

    def _chosen(self, totals: Sequence[MonthTotal], filters: Filters) -> list[MonthTotal]:
        if any(name != "provider" for name in filters):
            return []
        wanted = filters.get("provider")
        # Entries are filed under the service's name; usage under the provider's id in the price list.
        return [each for each in totals if wanted is None or self._canonical(each.provider) in wanted]


def _weeks(now_ms: int) -> tuple[Span, Span]:
    """The last week and the one before; in whole hours, as a trend needs no single records."""
    until_ms = -(-now_ms // HOUR_MS) * HOUR_MS
    since_ms = until_ms - projection.WEEK_MS
    return Span(since_ms, None), Span(since_ms - projection.WEEK_MS, since_ms)


def added(totals: Sequence[MonthTotal]) -> Entries:
    """Month entries of all providers together."""
    return Entries(
        sum(each.entries for each in totals),
        sum(each.cost_nano for each in totals),
        sum(each.tokens for each in totals),
    )


def merged(rows: Iterable[SpendRow]) -> list[SpendRow]:
    """Rows with "" under UNKNOWN, together with what is really called that; the dearest first."""
    found: dict[tuple[str, ...], Spend] = {}
    for row in rows:
        names = tuple(name or UNKNOWN for name in row.names)
        found[names] = found.get(names, Spend()).plus(row.spend)
    return sorted(
        (SpendRow(names, spend) for names, spend in found.items()),
        key=lambda row: (-row.spend.cost_nano, -row.spend.requests, row.names),
    )


def by_tag(rows: Iterable[SpendRow]) -> list[SpendRow]:
    """Rows by sets of tags as rows by tag, each record under every one of its tags; the dearest first."""
    return merged(SpendRow((tag,), row.spend) for row in rows for tag in row.names[0].split(TAG_SEPARATOR))
