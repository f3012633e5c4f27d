"""What `/api/budgets` takes and answers, field by field."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from costd.domain.budget import DIMENSIONS, MAX_THRESHOLDS
from costd.services.budget_status import MAX_WINDOWS
from costd.wire.web.answers import Number, Usd
from costd.wire.web.fields import CountIn, Text, UsdIn

_SCOPE = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"type": "string", "maxLength": 256}},
        {"type": ["string", "null"], "maxLength": 256},
    ]
}
ScopeIn = Annotated[
    Any,
    Meta(
        description=f"What a record must have, by dimension ({', '.join(DIMENSIONS)}); or the value of `scope_type`.",
        extra_json_schema=_SCOPE,
    ),
]
ThresholdsIn = Annotated[
    list[Any],
    Meta(
        max_length=MAX_THRESHOLDS,
        description="Shares of the amount, ascending: [0.5, 0.8, 1.0].",
        extra_json_schema={"items": {"type": "number", "exclusiveMinimum": 0, "maximum": 10}},
    ),
]


class BudgetBody(Struct, frozen=True):
    """A budget to be made, or what is to be changed of one."""

    name: Text | None = None
    scope: ScopeIn = None
    scope_type: Text | None = None
    scope_id: Text | None = None
    scope_value: Text | None = None
    each: Text | None = None
    amount_usd: UsdIn = None
    period: Text | None = None
    timezone: Text | None = None
    anchor_day: CountIn = None
    alert_thresholds: ThresholdsIn | None = None
    hard_limit: bool | None = None
    on_unpriced: Text | None = None
    on_hub_down: Text | None = None


class BudgetQuery(Struct, frozen=True):
    """Which windows of a budget to tell of."""

    value: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_WINDOWS)] | None = None


class HistoryQuery(Struct, frozen=True):
    """How much of the history to tell."""

    limit: Annotated[int, Meta(ge=1, le=MAX_WINDOWS)] | None = None


class Holder(Struct, frozen=True):
    """What one source has of a window; `source` is null for this daemon itself."""

    source: str | None
    bound_usd: Usd
    settled_usd: Usd
    held_usd: Usd


class Window(Struct, frozen=True):
    """How a window stands: limit = available + held + settled - overshoot; `reserved` is part of `held`."""

    value: str | None
    start: str
    end: str | None
    revision: int
    limit_usd: Usd
    settled_usd: Usd
    reserved_usd: Usd
    held_usd: Usd
    available_usd: Usd
    overshoot_usd: Usd
    forecast_usd: Usd | None
    seconds_to_exhaustion: int | None
    holders: list[Holder]
    partial: bool


class Budget(Struct, frozen=True):
    """A budget; `scope_id` is null where its scope names other than one dimension."""

    id: str
    name: str
    organization: str
    scope: dict[str, str]
    scope_type: str
    scope_id: str | None
    each: str | None
    amount_usd: Usd
    period: str
    timezone: str
    anchor_day: int
    alert_thresholds: list[Number]
    hard_limit: bool
    on_unpriced: str
    on_hub_down: str
    revision: int
    since: str
    created: str
    updated: str


class ListedBudget(Budget, frozen=True):
    """A budget with its fullest window, null where nothing was spent or reserved in the present period."""

    window: Window | None
    window_count: int


class BudgetList(Struct, frozen=True):
    """The organization's budgets by name."""

    budgets: list[ListedBudget]


class BudgetDetail(ListedBudget, frozen=True):
    """A budget with its present windows, the fullest first."""

    windows: list[Window]


class BudgetSaid(Struct, frozen=True):
    """A budget as it was after a change."""

    name: str
    scope: dict[str, str]
    each: str | None
    amount_usd: Usd
    period: str
    timezone: str
    anchor_day: int
    alert_thresholds: list[Number]
    hard_limit: bool
    on_unpriced: str
    on_hub_down: str
    revision: int


class BudgetChange(Struct, frozen=True):
    """A change of a budget: "created", "changed" or "removed", by the key with this id (null: the local user)."""

    at: str
    actor: str | None
    actor_name: str | None
    action: str
    budget: BudgetSaid


class BudgetHistory(Struct, frozen=True):
    """What became of a budget, and how its windows ended, both newest first."""

    changes: list[BudgetChange]
    windows: list[Window]
