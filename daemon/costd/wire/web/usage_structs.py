"""What the preflight/record surface takes and answers, field by field."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from costd.wire.web.answers import ErrorBody, Usd
from costd.wire.web.fields import CountIn, Name, Tags, Text, TimeIn, UnitsIn, UsdIn

PriceContext = Annotated[
    dict[str, Text],
    Meta(description='Selects a price variant: {"service_tier": "priority"}, {"processing": "batch"}, …'),
]


class PreflightBody(Struct, frozen=True, gc=False):
    """A call about to be made, and the most it may use."""

    user_external_id: Text
    model: Name
    estimated_units: UnitsIn
    source_app: Text | None = None
    provider: Text | None = None
    project_external_id: Text | None = None
    job_external_id: Text | None = None
    team: Text | None = None
    product: Text | None = None
    endpoint: Text | None = None
    prompt_key: Text | None = None
    prompt_version: Text | int | None = None
    feature_tags: Tags | None = None
    request_id: Text | None = None
    price_context: PriceContext | None = None
    service_tier: Text | None = None


class Budget(Struct, frozen=True):
    """The budget that refused or, if allowed, the tightest one; what is reserved counts as spent.

    `resets_at` is null where its one window never ends.
    """

    id: str
    name: str
    scope_type: str
    limit_usd: Usd
    spent_usd: Usd
    remaining_usd: Usd
    resets_at: str | None


class PreflightAnswer(Struct, frozen=True, gc=False):
    """Whether the call may be made. A refusal is an answer too; `budget` is null where no budget matches."""

    allow: bool
    request_id: str
    estimated_cost_usd: Usd | None
    deny_reason: str | None
    budget: Budget | None
    warnings: tuple[str, ...]


class ReleaseBody(Struct, frozen=True, gc=False):
    """A call that will not be made."""

    request_id: Text | None = None


class ReleaseAnswer(Struct, frozen=True, gc=False):
    """Whether something was reserved for it."""

    released: bool
    request_id: str


class RecordBody(Struct, frozen=True, gc=False):
    """What one call used: `units`, or the provider's own `usage` object with `provider`."""

    user_external_id: Text
    model: Name
    units: UnitsIn | None = None
    usage: dict[str, Any] | None = None
    source_app: Text | None = None
    provider: Text | None = None
    project_external_id: Text | None = None
    job_external_id: Text | None = None
    team: Text | None = None
    product: Text | None = None
    endpoint: Text | None = None
    prompt_key: Text | None = None
    prompt_version: Text | int | None = None
    feature_tags: Tags | None = None
    request_id: Text | None = None
    latency_ms: CountIn = None
    status: Text | None = None
    timestamp: TimeIn = None
    cost_usd: UsdIn = None
    currency: Text | None = None
    price_context: PriceContext | None = None
    service_tier: Text | None = None


class RecordAnswer(Struct, frozen=True, gc=False):
    """A record that is on disk; `cost_usd` is null where no price matches the model."""

    event_id: str
    cost_usd: Usd | None
    request_id: str | None
    duplicate: bool
    warnings: tuple[str, ...]


class RecordResult(Struct, frozen=True):
    """The outcome of one record of several, at its place in what was sent.

    Recorded (or held already): the fields of a single record's answer. Refused: `status` and `error`, the HTTP status
    and the body it would have got alone.
    """

    index: int
    success: bool
    event_id: str | None = None
    cost_usd: Usd | UnsetType | None = UNSET
    request_id: str | None = None
    duplicate: bool | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    status: int | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class RecordsAnswer(Struct, frozen=True):
    """The outcomes of several records; the counts add up to all that were sent."""

    results: list[RecordResult]
    recorded: int
    duplicates: int
    refused: int


class UserBody(Struct, frozen=True):
    """A user under the id its application gave it; what is absent or null stays as it was."""

    external_id: Name
    source_app: Text | None = None
    email: Text | None = None
    full_name: Text | None = None


class UserAnswer(Struct, frozen=True):
    """The user as stored."""

    external_id: str
    source_app: str
    email: str | None
    full_name: str | None
    created_at: str
    updated_at: str


class ProjectBody(Struct, frozen=True):
    """A project under the id its application gave it; what is absent or null stays as it was."""

    external_id: Name
    name: Name
    source_app: Text | None = None
    workspace_id: Text | None = None
    team_id: Text | None = None


class ProjectAnswer(Struct, frozen=True):
    """The project as stored; one that is not registered was only seen in records."""

    external_id: str
    source_app: str
    name: str | None
    workspace_id: str | None
    team_id: str | None
    registered: bool
    created_at: str
    updated_at: str


class HealthAnswer(Struct, frozen=True):
    """Whether the daemon can take records."""

    status: str
    db: str
