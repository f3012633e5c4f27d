"""What the aggregations take and answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from costd.wire.web.answers import Usd
from costd.wire.web.dashboard_structs import BillingPeriod, EntriesPart, IsExact, Timezone, UsagePart
from costd.wire.web.fields import Text

End = Annotated[str, Meta(max_length=64, description="A day, inclusive, or an RFC 3339 time.")]


class AggregationQuery(Struct, frozen=True):
    """A period, the current month when absent, and a provider, all when absent."""

    start: End | None = None
    end: End | None = None
    provider: Text | None = None
    timezone: Timezone | None = None


class VersionQuery(AggregationQuery, frozen=True):
    """The same of one prompt, which must be named."""

    prompt_key: Text | None = None


class VersionRow(Struct, frozen=True):
    """One version of a prompt; `version_number` is null where a record named none, or one that is no number."""

    version_number: int | None
    version: str
    total_cost: Usd | None
    request_count: int
    avg_cost_per_request: Usd | None
    total_tokens: int
    unpriced: int


class VersionComparison(Struct, frozen=True):
    """Versions of a prompt in their order."""

    prompt_key: str
    versions: list[VersionRow]
    period: BillingPeriod
    timezone: str
    exact: IsExact


class Monthly(Struct, frozen=True):
    """A period's cost; `total_cost` is `usage` and `entries` added, null where nothing in it has a price."""

    total_cost: Usd | None
    period: BillingPeriod
    usage: UsagePart
    entries: EntriesPart
    timezone: str
    exact: IsExact


class PromptRow(Struct, frozen=True):
    """One prompt; "unknown" for records without one. `total_cost` is null where all requests are `unpriced`."""

    prompt_key: str
    total_cost: Usd | None
    request_count: int
    total_tokens: int
    unpriced: int


class ByPrompt(Struct, frozen=True):
    """Prompts, the dearest first."""

    prompts: list[PromptRow]
    period: BillingPeriod
    timezone: str
    exact: IsExact


class TeamRow(Struct, frozen=True):
    """One team; "unknown" for records without one. `total_cost` is null where all requests are `unpriced`.

    `team_name` is what the team was registered as, else its id.
    """

    team_id: str
    team_name: str
    total_cost: Usd | None
    request_count: int
    total_tokens: int
    unpriced: int


class ByTeam(Struct, frozen=True):
    """Teams, the dearest first."""

    teams: list[TeamRow]
    period: BillingPeriod
    timezone: str
    exact: IsExact


class TagRow(Struct, frozen=True):
    """One tag; "unknown" for records without any. `total_cost` is null where all requests are `unpriced`."""

    tag: str
    total_cost: Usd | None
    request_count: int
    total_tokens: int
    unpriced: int


class ByTag(Struct, frozen=True):
    """Tags, the dearest first; a record counts under each of its tags, so these do not add up to the total."""

    tags: list[TagRow]
    period: BillingPeriod
    timezone: str
    exact: IsExact


class KeyRow(Struct, frozen=True):
    """One API key; "unknown" for records made without one. `total_cost` is null where all requests are `unpriced`."""

    key_id: str
    key_name: str
    key_prefix: str | None
    team_name: str | None
    total_cost: Usd | None
    request_count: int
    total_tokens: int
    unpriced: int


class ByKey(Struct, frozen=True):
    """API keys, the dearest first."""

    keys: list[KeyRow]
    period: BillingPeriod
    timezone: str
    exact: IsExact
