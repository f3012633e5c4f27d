"""Budgets as messages."""

from __future__ import annotations

from costd.domain.budget import Budget
from costd.domain.money import MOST_NANO
from costd.domain.standing import WindowStanding
from costd.store.budgets import StoredBudget
from costd.v1 import budget_pb2 as pb


def budget_message(held: StoredBudget) -> pb.Budget:
    """A budget with its organization and times."""
    made = budget_after(held.budget)
    made.organization = held.organization
    made.created_ms = held.created_ms
    made.updated_ms = held.updated_ms
    return made


def budget_after(budget: Budget) -> pb.Budget:
    """A budget as it was at some time."""
    return pb.Budget(
        id=budget.id,
        name=budget.name,
        scope=dict(budget.scope),
        each=budget.each,
        amount_nano_usd=budget.amount_nano,
        period=budget.period,
        timezone=budget.timezone,
        anchor_day=budget.anchor_day,
        alert_thresholds=[f"{threshold:f}" for threshold in budget.thresholds],
        hard=budget.hard,
        on_unpriced=budget.on_unpriced,
        on_hub_down=budget.on_hub_down,
        revision=budget.revision,
        since_ms=budget.since_ms,
    )


def window_message(standing: WindowStanding) -> pb.WindowStanding:
    """How a window stands."""
    return pb.WindowStanding(
        value=standing.key.value,
        start_ms=standing.window.start_ms,
        end_ms=standing.window.end_ms,
        limit_nano_usd=standing.limit_nano,
        settled_nano_usd=_bounded(standing.settled_nano),
        reserved_nano_usd=_bounded(standing.reserved_nano),
        held_nano_usd=_bounded(standing.held_nano),
        available_nano_usd=standing.available_nano,
        overshoot_nano_usd=_bounded(standing.overshoot_nano),
        forecast_nano_usd=None if standing.forecast_nano is None else _bounded(standing.forecast_nano),
        exhausted_in_s=standing.exhausted_in_s,
        holders=[
            pb.WindowHolder(
                source=holder.source,
                bound_nano_usd=_bounded(holder.bound_nano),
                settled_nano_usd=_bounded(holder.settled_nano),
                held_nano_usd=_bounded(holder.held_nano),
            )
            for holder in standing.holders
        ],
        partial=standing.is_partial,
        revision=standing.key.revision,
    )


def _bounded(nano: int) -> int:
    """What fits into a field: beyond nine billion USD nobody counts."""
    return max(-MOST_NANO, min(nano, MOST_NANO))
