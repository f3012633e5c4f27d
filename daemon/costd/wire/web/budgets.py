"""`/api/budgets`: budgets are made, changed, removed, and asked how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any

from msgspec import Raw

from costd.domain import budget as domain
from costd.domain.budget_change import BudgetChange
from costd.domain.errors import Invalid
from costd.domain.money import MAX_ENTRY_NANO
from costd.domain.standing import WindowStanding
from costd.domain.usage import check_string
from costd.domain.window import FOREVER_MS
from costd.services import budget_status
from costd.services.budget_status import BudgetStanding
from costd.store.budgets import StoredBudget, StoredChange
from costd.wire.web import budget_structs as types
from costd.wire.web.answers import Envelope, money, money_or_null, rfc3339
from costd.wire.web.budget_structs import BudgetBody
from costd.wire.web.fields import is_number, usd_of, whole_of
from costd.wire.web.route import Call, Route

#: The domain's names of fields → this surface's.
FIELD_NAMES = MappingProxyType({"amount": "amount_usd", "thresholds": "alert_thresholds"})
_MAX_ANCHOR_DAY = 31


@dataclass(frozen=True)
class _Manner:
    """How a body is to be taken."""

    is_new: bool = False
    is_whole: bool = False


async def list_budgets(call: Call) -> object:
    """The organization's budgets by name."""
    found: list[BudgetStanding] = await call.read(call.services.budget_status.standings, call.caller)
    return call.envelope(types.BudgetList([types.ListedBudget(**_listed(standing)) for standing in found]))


async def create_budget(call: Call) -> object:
    """Make a budget; in force when it is answered."""
    return await _set(call, _change(call.body, _Manner(is_new=True, is_whole=True)))


async def replace_budget(call: Call) -> object:
    """Say all of a budget anew: what is left out is as by default, but for its name."""
    return await _set(call, _change(call.body, _Manner(is_whole=True), _id(call)))


async def change_budget(call: Call) -> object:
    """Change some of a budget: what is left out stays."""
    return await _set(call, _change(call.body, _Manner(), _id(call)))


async def one_budget(call: Call) -> object:
    """A budget and how its present windows stand."""
    asked: types.BudgetQuery = call.query
    found: BudgetStanding = await call.read(
        partial(call.services.budget_status.standing, call.caller, _id(call), value=asked.value, limit=asked.limit or 0)
    )
    windows = [_window(window) for window in found.windows]
    return call.envelope(types.BudgetDetail(**_listed(found), windows=windows))


async def remove_budget(call: Call) -> object:
    """Remove a budget, which stays in the history."""
    held: StoredBudget = await call.read(call.services.budgets.remove, call.caller, _id(call))
    return call.envelope(types.Budget(**_budget(held)))


async def budget_history(call: Call) -> object:
    """Who changed a budget, and how its past windows ended."""
    asked: types.HistoryQuery = call.query
    found: budget_status.BudgetHistory = await call.read(
        call.services.budget_status.history, call.caller, _id(call), asked.limit or 0
    )
    return call.envelope(
        types.BudgetHistory([_changed(change) for change in found.changes], [_window(each) for each in found.windows])
    )


def budget_routes() -> list[Route]:
    """Create, read, replace, change and delete budgets; their history."""
    one = "/api/budgets/{id}"

    def setting(method: str, path: str, handler: Any, summary: str) -> Route:
        return Route(
            method,
            path,
            handler,
            summary,
            Envelope[types.Budget],
            role="admin",
            body=BudgetBody,
            field_names=FIELD_NAMES,
            has_names=True,
        )

    return [
        Route(
            "GET",
            "/api/budgets",
            list_budgets,
            "The budgets, and how they stand",
            Envelope[types.BudgetList],
            role="read",
        ),
        setting("POST", "/api/budgets", create_budget, "Make a budget"),
        Route(
            "GET",
            one,
            one_budget,
            "A budget, and how its present windows stand",
            Envelope[types.BudgetDetail],
            role="read",
            query=types.BudgetQuery,
        ),
        setting("PUT", one, replace_budget, "Say all of a budget anew"),
        setting("PATCH", one, change_budget, "Change some of a budget"),
        Route("DELETE", one, remove_budget, "Remove a budget", Envelope[types.Budget], role="admin"),
        Route(
            "GET",
            one + "/history",
            budget_history,
            "Who changed a budget, and how its past windows ended",
            Envelope[types.BudgetHistory],
            role="read",
            query=types.HistoryQuery,
        ),
    ]


def _id(call: Call) -> str:
    wanted = call.path["id"]
    check_string(wanted, "id")
    return wanted


async def _set(call: Call, change: BudgetChange) -> object:
    held: StoredBudget = await call.read(call.services.budgets.set, call.caller, change)
    return call.envelope(types.Budget(**_budget(held)))


# -- what is sent ------------------------------------------------------------------------------------------------------


def _change(sent: BudgetBody, manner: _Manner, budget_id: str = "") -> BudgetChange:
    """What a body says; raises Invalid naming the field."""
    scope = _scope(sent)
    thresholds = None if sent.alert_thresholds is None else [*map(_threshold, sent.alert_thresholds)]
    anchor_day = whole_of(sent.anchor_day, "anchor_day")
    if anchor_day is not None and not 0 < anchor_day <= _MAX_ANCHOR_DAY:
        raise Invalid("anchor_day", f"must be between 1 and {_MAX_ANCHOR_DAY}")
    name = sent.name or ""
    if manner.is_new and not name and scope:
        # As the preflight/record document has it, which knows no names.
        name = " ".join(f"{dimension}={value}" for dimension, value in scope.items())[:256]
    return BudgetChange(
        name=name,
        id=budget_id,
        scope=scope,
        each=sent.each,
        amount_nano=usd_of(sent.amount_usd, "amount", limit_nano=MAX_ENTRY_NANO),
        period=sent.period or "",
        timezone=sent.timezone or "",
        anchor_day=anchor_day,
        thresholds=thresholds,
        hard=sent.hard_limit,
        on_unpriced=sent.on_unpriced or "",
        on_hub_down=sent.on_hub_down or "",
        is_whole=manner.is_whole,
        is_new=manner.is_new,
    )


def _scope(sent: BudgetBody) -> dict[str, str] | None:
    """The scope, as an object or by `scope_type` and its value; None where nothing is said of it."""
    if sent.scope is None or isinstance(sent.scope, str):
        return _single_scope(sent)
    if not isinstance(sent.scope, dict):
        raise Invalid("scope", 'must be an object of dimensions, such as {"team": "video"}')
    for dimension, value in sent.scope.items():
        if not isinstance(value, str):
            raise Invalid(f"scope.{dimension[:64]}", "must be a string")
    # As it is answered, it names the dimension of `each` as well.
    told = None if sent.scope_type is None else {*sent.scope_type.split(",")} - {sent.each}
    if told is not None and told != {*sent.scope} - {sent.each}:
        raise Invalid("scope_type", "says another scope than scope does; give one of them")
    return sent.scope


def _single_scope(sent: BudgetBody) -> dict[str, str] | None:
    given = {"scope": sent.scope, "scope_id": sent.scope_id, "scope_value": sent.scope_value}
    said = {name: value for name, value in given.items() if value is not None}
    if sent.scope_type is None:
        for name in said:
            raise Invalid(name, 'needs scope_type beside it; or give scope as an object: {"team": "video"}')
        return None
    if sent.scope_type not in domain.DIMENSIONS:
        raise Invalid("scope_type", f"must be one of {', '.join(domain.DIMENSIONS)}; several are said by scope")
    if len(set(said.values())) > 1:
        raise Invalid(next(iter(said)), f"differs from {', '.join([*said][1:])}; give one of them")
    if not said:
        raise Invalid("scope_id", f"is required beside scope_type: which {sent.scope_type} the budget is for")
    return {sent.scope_type: str(next(iter(said.values())))}


def _threshold(value: Any) -> Decimal:
    if not is_number(value):
        raise Invalid("thresholds", "must each be a number: a share of the amount, such as 0.8")
    return Decimal(value)


# -- what is answered --------------------------------------------------------------------------------------------------


def _listed(standing: BudgetStanding) -> dict[str, Any]:
    window = _window(standing.windows[0]) if standing.windows else None
    return {**_budget(standing.held), "window": window, "window_count": standing.window_count}


def _budget(held: StoredBudget) -> dict[str, Any]:
    budget = held.budget
    return {
        "id": budget.id,
        "organization": held.organization,
        "scope_type": ",".join([*dict(budget.scope), *([budget.each] if budget.each else [])]),
        "scope_id": budget.scope[0][1] if len(budget.scope) == 1 and not budget.each else None,
        "since": rfc3339(budget.since_ms),
        "created": rfc3339(held.created_ms),
        "updated": rfc3339(held.updated_ms),
        **_said(budget),
    }


def _said(budget: domain.Budget) -> dict[str, Any]:
    return {
        "name": budget.name,
        "scope": dict(budget.scope),
        "each": budget.each or None,
        "amount_usd": money(budget.amount_nano),
        "period": budget.period,
        "timezone": budget.timezone,
        "anchor_day": budget.anchor_day,
        "alert_thresholds": [Raw(f"{threshold:f}".encode()) for threshold in budget.thresholds],
        "hard_limit": budget.hard,
        "on_unpriced": budget.on_unpriced,
        "on_hub_down": budget.on_hub_down,
        "revision": budget.revision,
    }


def _changed(change: StoredChange) -> types.BudgetChange:
    said = types.BudgetSaid(**_said(change.budget))
    actor, name = change.actor or None, change.actor_name or None
    return types.BudgetChange(rfc3339(change.at_ms), actor, name, change.action, said)


def _window(standing: WindowStanding) -> types.Window:
    return types.Window(
        value=standing.key.value or None,
        start=rfc3339(standing.window.start_ms),
        end=None if standing.window.end_ms >= FOREVER_MS else rfc3339(standing.window.end_ms),
        revision=standing.key.revision,
        limit_usd=money(standing.limit_nano),
        settled_usd=money(standing.settled_nano),
        reserved_usd=money(standing.reserved_nano),
        held_usd=money(standing.held_nano),
        available_usd=money(standing.available_nano),
        overshoot_usd=money(standing.overshoot_nano),
        forecast_usd=money_or_null(standing.forecast_nano),
        seconds_to_exhaustion=standing.exhausted_in_s,
        holders=[
            types.Holder(
                holder.source or None, money(holder.bound_nano), money(holder.settled_nano), money(holder.held_nano)
            )
            for holder in standing.holders
        ],
        partial=standing.is_partial,
    )
