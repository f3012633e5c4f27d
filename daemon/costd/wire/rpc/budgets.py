"""The budgets' part of AdminService and QueryService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Unavailable
from costd.v1 import budget_pb2 as pb

if TYPE_CHECKING:
    from costd.services.services import Services


class BudgetsService:
    """Answers the calls that are about budgets."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def set_budget(self, caller: Caller, request: pb.SetBudgetRequest) -> pb.Budget:
        """Make or change a budget."""
        raise Unavailable("not built yet")

    def remove_budget(self, caller: Caller, request: pb.RemoveBudgetRequest) -> pb.Budget:
        """Remove a budget."""
        raise Unavailable("not built yet")

    def list_budgets(self, caller: Caller, request: pb.ListBudgetsRequest) -> pb.ListBudgetsResponse:
        """All budgets."""
        raise Unavailable("not built yet")

    def budget_status(self, caller: Caller, request: pb.BudgetStatusRequest) -> pb.BudgetStatusResponse:
        """How a budget stands."""
        raise Unavailable("not built yet")

    def budget_history(self, caller: Caller, request: pb.BudgetHistoryRequest) -> pb.BudgetHistoryResponse:
        """What became of a budget."""
        raise Unavailable("not built yet")
