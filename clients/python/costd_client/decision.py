"""What came of a preflight: the answer of costd, or what the tracker was told to do without one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from costd_client.errors import BudgetExceeded, Undecided
from costd_client.v1 import usage_pb2

UNREACHABLE = "unreachable"


class Decision(NamedTuple):
    """Whether a call may be made; `is_answer` tells costd's word from the tracker's own."""

    allow: bool
    is_answer: bool
    deny_reason: str = ""
    estimated_cost_nano: int | None = None
    budget: Mapping[str, object] | None = None
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
        named = (self.budget or {}).get("name")
        budget = f' by the budget "{named}"' if named else ""
        cost = "" if self.estimated_cost is None else f", estimated at ${self.estimated_cost.normalize():f}"
        raise kind(
            f"this call of {model}{cost} may not be made: {why}{budget}",
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
        budget=_budget(answer),
        warnings=tuple(answer.warnings) if answer.warnings else (),
    )


def _budget(answer: Any) -> Mapping[str, object] | None:
    """The fields of the budget that the answer names, whichever this release of the protos has; None without one."""
    if "budget" not in answer.DESCRIPTOR.fields_by_name or not answer.HasField("budget"):
        return None
    return {field.name: getattr(answer.budget, field.name) for field in answer.budget.DESCRIPTOR.fields}
