"""Budgets of one data folder, built: their definitions, and the tills that hold everybody to them."""

from __future__ import annotations

from typing import NamedTuple

from costd.app.roads import Ground
from costd.services.budget_gauges import BudgetGauges
from costd.services.budget_status import BudgetStatus
from costd.services.budgets import Budgets
from costd.services.membership import Membership
from costd.services.prices import Prices
from costd.services.till_keeper import TillKeeper
from costd.services.tills import Tills


class Treasury(NamedTuple):
    """All of it."""

    budgets: Budgets
    status: BudgetStatus
    tills: Tills
    keeper: TillKeeper


def build_treasury(ground: Ground, membership: Membership, prices: Prices) -> Treasury:
    """Everything about budgets; the writer charges them from now on."""
    config = ground.config
    budgets = Budgets(ground.writer, ground.readers, ground.clock, membership, prices.canonical_provider)
    tills = Tills(
        ground.writer,
        ground.readers,
        budgets,
        ground.clock,
        reservation_minutes=config.budgets.reservation_minutes,
        max_reservations=config.budgets.max_reservations,
        is_joined=config.hub.address is not None,
    )
    ground.writer.budgeting = tills
    status = BudgetStatus(budgets, ground.readers, ground.clock)
    status.read_reserved_from(tills.reserved_in)
    gauges = BudgetGauges(
        budgets,
        status,
        tills,
        max_series=config.metrics.max_series,
        max_reservations=config.budgets.max_reservations,
    )
    ground.metrics.read_budgets_from(gauges.readings, gauges.reservations)
    return Treasury(budgets, status, tills, TillKeeper(tills))
