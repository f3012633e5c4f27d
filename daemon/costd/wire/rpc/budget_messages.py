"""Budgets as messages."""

from __future__ import annotations

from costd.domain.budget import Budget
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
