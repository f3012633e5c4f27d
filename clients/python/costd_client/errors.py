"""What the client raises on purpose, beside TypeError and ValueError for mistakes in the program that uses it.

CostdClientError
└── BudgetExceeded          the call may not be made
    └── Undecided           nobody could say whether it may, and the tracker was told to deny then
"""

from __future__ import annotations

from decimal import Decimal

from costd_client.budget import Budget


class CostdClientError(Exception):
    """Something of costd's."""


class BudgetExceeded(CostdClientError):
    """The call may not be made; nothing was spent, and nothing is recorded.

    `deny_reason` is costd's word: "budget_exceeded", "lease_unavailable", "model_blocked"; "unreachable" where costd
    did not answer. `estimated_cost` is in USD, None where unknown. `budget` is the one that refused, with its numbers
    and when it resets, None where costd named none. `warnings` are sentences for people.
    """

    def __init__(
        self,
        message: str,
        *,
        deny_reason: str,
        request_id: str,
        estimated_cost: Decimal | None = None,
        budget: Budget | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.deny_reason = deny_reason
        self.request_id = request_id
        self.estimated_cost = estimated_cost
        self.budget = budget
        self.warnings = warnings


class Undecided(BudgetExceeded):
    """costd could not say whether the call may be made, and `on_unreachable` is "deny"."""
