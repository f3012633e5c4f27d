"""What the dashboard API takes and answers, field by field; answers are the `data` of its envelope."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from costd.wire.web.answers import Usd
from costd.wire.web.fields import CountIn, Name, Tags, Text, TimeIn, UsdIn

Freshness = Annotated[str, Meta(extra_json_schema={"enum": ["fresh", "stale", "very_stale", "no_data"]})]
_MonthNumber = Annotated[int, Meta(ge=1, le=12)]
_YearNumber = Annotated[int, Meta(ge=2000, le=2100)]
_Amount = Annotated[Any, Meta(description="USD.", extra_json_schema={"type": "number", "minimum": 0, "maximum": 10**9})]
_Month = Annotated[Any, Meta(extra_json_schema={"type": "integer", "minimum": 1, "maximum": 12})]
_Year = Annotated[Any, Meta(extra_json_schema={"type": "integer", "minimum": 2000, "maximum": 2100})]


Timezone = Annotated[str, Meta(max_length=64, description="IANA name; UTC when absent.")]
IsExact = Annotated[
    bool,
    Meta(description="False where a day begins within an hour whose records are no longer kept: it counted whole."),
]


class TrackBody(Struct, frozen=True, gc=False, rename="camel"):
    """What one call used."""

    model: Name
    provider: Text | None = None
    input_tokens: CountIn = None
    output_tokens: CountIn = None
    cached_tokens: CountIn = None
    cost: UsdIn = None
    currency: Text | None = None
    flush: bool | None = None
    request_id: Text | None = None
    timestamp: TimeIn = None
    source_app: Text | None = None
    user_id: Text | None = None
    project_id: Text | None = None
    team: Text | None = None
    feature_tags: Tags | None = None


class Tracked(Struct, frozen=True, gc=False, rename="camel"):
    """A record that is on disk. `flushed` says whether the hub has it as well; true where there is no hub."""

    id: str
    provider: str | None
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: Usd | None
    timestamp: str
    flushed: bool
    request_id: str | None
    duplicate: bool
    warnings: tuple[str, ...]


class BillingPeriodQuery(Struct, frozen=True, rename="camel"):
    """Days, both inclusive; the current month when absent."""

    billing_start_date: Text | None = None
    billing_end_date: Text | None = None
    timezone: Timezone | None = None


class BillingPeriod(Struct, frozen=True):
    """The days an answer covers, both inclusive."""

    start: str
    end: str


class TokenRow(Struct, frozen=True, rename="camel"):
    """Tokens of one provider and model (`source` "usage"), or of a service's month entries ("entries", model null).

    `cost` is null where none of the requests has a price.
    """

    source: str
    provider: str
    model: str | None
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    total_tokens: int
    cost: Usd | None
    unpriced: int


class Tokens(Struct, frozen=True, rename="camel"):
    """The tokens of a period."""

    tokens: list[TokenRow]
    last_updated: str | None
    data_freshness: Freshness
    billing_period: BillingPeriod
    timezone: str
    exact: IsExact


class MonthQuery(Struct, frozen=True):
    """A month; the current one when absent."""

    month: _MonthNumber | None = None
    year: _YearNumber | None = None
    timezone: Timezone | None = None


class TokenTotals(Struct, frozen=True, rename="camel"):
    """Tokens of a month, from single records and from month entries."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    total_tokens: int


class UsagePart(Struct, frozen=True):
    """The part of a cost that comes from single records; `unpriced` of them have no price yet (null: all)."""

    cost: Usd | None
    requests: int
    unpriced: int


class EntriesPart(Struct, frozen=True):
    """The part of a cost that comes from month entries."""

    cost: Usd
    entries: int


class ProviderCosts(Struct, frozen=True, rename="camel"):
    """One provider's month; `currentMonth` is `usage` and `entries` added."""

    service: str
    month: int
    year: int
    current_month: Usd | None
    previous_month: Usd | None
    breakdown: dict[str, Usd | None]
    token_usage: TokenTotals
    usage: UsagePart
    entries: EntriesPart
    data_freshness: Freshness
    timezone: str
    exact: IsExact


class Comparison(Struct, frozen=True, rename="camel"):
    """Against the month before; `changePercent` is null where that cost nothing."""

    previous_month: Usd | None
    change_percent: float | None


class AllCosts(Struct, frozen=True, rename="camel"):
    """Every provider's month; `total` is `usage` and `entries` added."""

    total: Usd | None
    month: int
    year: int
    by_provider: dict[str, Usd | None]
    comparison: Comparison
    usage: UsagePart
    entries: EntriesPart
    data_freshness: Freshness
    timezone: str
    exact: IsExact


class ManualBody(Struct, frozen=True):
    """A month's cost entered by hand."""

    service: Name
    amount: _Amount
    month: _Month
    year: _Year
    category: Text | None = None
    description: Annotated[str, Meta(max_length=4096)] | None = None
    currency: Text | None = None
    project: Text | None = None
    product: Text | None = None


class Manual(Struct, frozen=True):
    """An entry that is on disk."""

    id: str
    service: str
    amount: Usd
    month: int
    year: int
    category: str | None
    description: str | None
    duplicate: bool


class DatabaseHealth(Struct, frozen=True, rename="camel"):
    """Whether the database answers, and how long it took."""

    healthy: bool
    latency_ms: float | None


class HealthData(Struct, frozen=True):
    """The daemon's health in parts; `problems` are sentences for people."""

    status: str
    database: DatabaseHealth
    services: dict[str, str]
    problems: list[str]


class Health(Struct, frozen=True, rename="camel"):
    """The daemon's health in the form of every document at once."""

    success: bool
    status: str
    db_latency_ms: float | None
    data: HealthData
    timestamp: str
    request_id: str


class Buffer(Struct, frozen=True, rename="camel"):
    """Records on their way: `size` waits for the disk, `unforwarded` for the hub.

    `last_flush` is the hub's last acknowledgement or, where there is no hub, the last time records became durable.
    """

    size: int
    bytes: int
    capacity: int
    capacity_bytes: int
    unforwarded: int
    oldest_unforwarded: str | None
    oldest_unforwarded_seconds: float | None
    last_flush: str | None


class ProviderFreshness(Struct, frozen=True, rename="camel"):
    """How old a provider's newest record is."""

    last_updated: str
    data_freshness: Freshness


class HubHealth(Struct, frozen=True, rename="camel"):
    """The road to the hub: `state` is "connecting", "connected", "refused", "away" or "off".

    `quarantined` counts records that the hub has set aside, `lost` numbers of the sequence that it will never get;
    `clock_skew_ms` is how far this clock is behind the hub's.
    """

    address: str | None
    state: str
    connected_since: str | None
    last_error: str | None
    last_error_at: str | None
    source: str | None
    organization: str | None
    version: str | None
    clock_skew_ms: int
    watermark: int
    last_heard: str | None
    sealed_bytes: int
    quarantined: int
    lost: int


class TrackingErrors(Struct, frozen=True, rename="camel"):
    """What went wrong since the start: transactions the storage refused, records refused, the last error."""

    failed_commits: int
    rejected_records: int
    last_error: str | None


class TrackingHealth(Struct, frozen=True, rename="camel"):
    """How well records get in."""

    status: str
    buffer: Buffer
    hub: HubHealth | None
    data_freshness: Freshness
    last_updated: str | None
    providers: dict[str, ProviderFreshness]
    errors: TrackingErrors
    problems: list[str]
