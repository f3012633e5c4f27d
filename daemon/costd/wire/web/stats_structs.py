"""What the dashboard API's statistics take and answer: the month, its days, the burn rate, integrations."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from costd.services.spending import DEFAULT_HOURS, MAX_HOURS
from costd.wire.web.answers import Number, Usd
from costd.wire.web.dashboard_structs import BillingPeriod, Freshness, IsExact, Timezone
from costd.wire.web.fields import Text

Trend = Annotated[str, Meta(extra_json_schema={"enum": ["increasing", "decreasing", "stable"]})]


class StatsQuery(Struct, frozen=True):
    """Of which provider; of all when absent."""

    provider: Text | None = None
    timezone: Timezone | None = None


class Budget(Struct, frozen=True):
    """What may be spent in the month and what was, records and month entries together; null while there is none."""

    limit: Usd | None
    used: Usd | None
    remaining: Usd | None


class Projections(Struct, frozen=True, rename="camel"):
    """What the month will have cost at the pace of the last seven days, and how they compare to the seven before."""

    end_of_month: Usd | None
    trend: Trend


class UsageTotals(Struct, frozen=True, rename="camel"):
    """Single records added up; the cost is null where none of them has a price."""

    total_tokens: int
    total_cost: Usd | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    requests: int
    unpriced: int


class EntryTotals(Struct, frozen=True):
    """Month entries added up."""

    tokens: int
    cost: Usd
    entries: int


class Stats(Struct, frozen=True):
    """The current month so far."""

    budget: Budget
    projections: Projections
    usage: UsageTotals
    entries: EntryTotals
    period: BillingPeriod
    timezone: str
    exact: IsExact


class TimeseriesQuery(Struct, frozen=True, rename="camel"):
    """Days, both inclusive; the last thirty when absent."""

    start_date: Text | None = None
    end_date: Text | None = None
    provider: Text | None = None
    timezone: Timezone | None = None


class DayPoint(Struct, frozen=True, rename="camel"):
    """One day's records; every day of the period has a point."""

    date: str
    total_tokens: int
    cost: Usd | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    requests: int
    unpriced: int


class Aggregations(Struct, frozen=True, rename="camel"):
    """The period in one: `usage` (all points) and `entries` (of every month that it touches) added, and apart."""

    total_tokens: int
    total_cost: Usd | None
    usage: UsageTotals
    entries: EntryTotals


class Timeseries(Struct, frozen=True):
    """Usage by day."""

    series: list[DayPoint]
    aggregations: Aggregations
    period: BillingPeriod
    timezone: str
    exact: IsExact


class BurnRateQuery(Struct, frozen=True):
    """Over how many hours up to now, and of which provider; of all when absent."""

    hours: Annotated[int, Meta(ge=1, le=MAX_HOURS)] = DEFAULT_HOURS
    service: Text | None = None


class Burn(Struct, frozen=True, rename="camel"):
    """What is being spent in an hour and in a day, costs to the nearest nano-dollar; null: it has no price."""

    tokens_per_hour: Number
    cost_per_hour: Usd | None
    tokens_per_day: Number
    cost_per_day: Usd | None
    requests: int
    tokens: int
    cost: Usd | None
    unpriced: int


class BurnRateData(Struct, frozen=True, rename="camel"):
    """The burn rate from the records of the `hours` hours between `since` and `until`; month entries have no hour."""

    burn_rate: Burn
    by_service: dict[str, Burn]
    hours: int
    since: str
    until: str
    exact: IsExact


class Integration(Struct, frozen=True, rename="camel"):
    """Whether anything of a provider was ever recorded, when last, and how long ago that is."""

    connected: bool
    last_sync: str | None
    status: Freshness


class Status(Struct, frozen=True):
    """Every provider that is known here."""

    integrations: dict[str, Integration]
