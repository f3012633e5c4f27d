"""What came of a preflight: the answer of costd, or what the tracker was told to do without one."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from costd_client import budget as budgets
from costd_client.budget import Budget
from costd_client.errors import BudgetExceeded, Undecided
from costd_client.v1 import usage_pb2

UNREACHABLE = "unreachable"


class Decision(NamedTuple):
    """Whether a call may be made; `is_answer` tells costd's word from the tracker's own.

    `budget` is the one that refused, or the tightest of those that allowed it.
    """

    allow: bool
    is_answer: bool
    deny_reason: str = ""
    estimated_cost_nano: int | None = None
    budget: Budget | None = None
    warnings: tuple[str, ...] = ()

    @property
    def estimated_cost(self) -> Decimal | None:
        """In USD."""
        return None if self.estimated_cost_nano is None else Decimal(self.estimated_cost_nano).scaleb(-9)

    def check(self, request_id: str, model: str) -> None:
        """Raise BudgetExceeded where the call may not be made."""
        if self.allow:
            return
        kind = BudgetExceeded if self.is_answer else Undecided
        why = self.deny_reason or "refused"
        by = f" by the budget {self.budget}" if self.budget else ""
        cost = "" if self.estimated_cost is None else f", estimated at {budgets.usd(self.estimated_cost)},"
        raise kind(
            f"this call of {model}{cost} may not be made: {why}{by}",
            deny_reason=why,
            request_id=request_id,
            estimated_cost=self.estimated_cost,
            budget=self.budget,
            warnings=self.warnings,
        )


ALLOWED_UNASKED = Decision(allow=True, is_answer=False)


def without_answer(*, allow: bool) -> Decision:
    """The decision where costd did not make one."""
    return Decision(allow, is_answer=False, deny_reason="" if allow else UNREACHABLE)


def of_answer(answer: usage_pb2.PreflightResponse) -> Decision:
    """The decision in costd's answer."""
    return Decision(
        answer.allow,
        is_answer=True,
        deny_reason=answer.deny_reason,
        estimated_cost_nano=answer.estimated_cost_nano_usd if answer.HasField("estimated_cost_nano_usd") else None,
        budget=budgets.of_answer(answer),
        warnings=tuple(answer.warnings) if answer.warnings else (),
    )
