"""The budgets' part of AdminService and QueryService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.budget_change import BudgetChange, parse_thresholds
from costd.domain.errors import Invalid
from costd.v1 import budget_pb2 as pb
from costd.wire.rpc.budget_messages import budget_after, budget_message, window_message

if TYPE_CHECKING:
    from costd.services.budget_status import BudgetStanding
    from costd.services.services import Services

#: The domain's names of fields → this surface's.
_FIELDS = {"amount": "amount_nano_usd", "thresholds": "alert_thresholds"}
_NONE = "-"


class BudgetsService:
    """Answers the calls that are about budgets."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def set_budget(self, caller: Caller, request: pb.SetBudgetRequest) -> pb.Budget:
        """Make or change a budget."""
        caller.require("admin")
        try:
            return budget_message(self._services.budgets.set(caller, _change(request)))
        except Invalid as refusal:
            raise refusal.renamed(_FIELDS.get(refusal.field, refusal.field)) from None

    def remove_budget(self, caller: Caller, request: pb.RemoveBudgetRequest) -> pb.Budget:
        """Remove a budget."""
        return budget_message(self._services.budgets.remove(caller, request.budget))

    def list_budgets(self, caller: Caller, _request: pb.ListBudgetsRequest) -> pb.ListBudgetsResponse:
        """All budgets, each with its fullest window."""
        found = self._services.budget_status.standings(caller)
        return pb.ListBudgetsResponse(budgets=[_listed(standing) for standing in found])

    def budget_status(self, caller: Caller, request: pb.BudgetStatusRequest) -> pb.BudgetStatusResponse:
        """How a budget stands."""
        value = request.value or None
        found = self._services.budget_status.standing(caller, request.budget, value=value, limit=request.limit)
        return pb.BudgetStatusResponse(
            budget=budget_message(found.held),
            windows=map(window_message, found.windows),
            window_count=found.window_count,
        )

    def budget_history(self, caller: Caller, request: pb.BudgetHistoryRequest) -> pb.BudgetHistoryResponse:
        """What became of a budget."""
        found = self._services.budget_status.history(caller, request.budget, request.limit)
        changes = [
            pb.BudgetChange(
                at_ms=change.at_ms,
                actor=change.actor,
                actor_name=change.actor_name,
                action=change.action,
                budget=budget_after(change.budget),
            )
            for change in found.changes
        ]
        return pb.BudgetHistoryResponse(changes=changes, windows=map(window_message, found.windows))


def _listed(standing: BudgetStanding) -> pb.BudgetStanding:
    return pb.BudgetStanding(
        budget=budget_message(standing.held),
        window=window_message(standing.windows[0]) if standing.windows else None,
        window_count=standing.window_count,
    )


def _change(request: pb.SetBudgetRequest) -> BudgetChange:
    """What a request says; raises Invalid naming the field."""
    if request.no_alerts and request.alert_thresholds:
        raise Invalid("no_alerts", "says that there are none; give it without alert_thresholds")
    thresholds = parse_thresholds(request.alert_thresholds)
    return BudgetChange(
        name=request.name,
        scope=dict(request.scope) or None,
        each=("" if request.each == _NONE else request.each) if request.each else None,
        amount_nano=request.amount_nano_usd if request.HasField("amount_nano_usd") else None,
        period=request.period,
        timezone=request.timezone,
        anchor_day=request.anchor_day if request.HasField("anchor_day") else None,
        thresholds=thresholds if thresholds or request.no_alerts else None,
        hard=request.hard if request.HasField("hard") else None,
        on_unpriced=request.on_unpriced,
        on_hub_down=request.on_hub_down,
    )
