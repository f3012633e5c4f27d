"""A budget as its message, in both directions."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from costd.domain.budget import Budget, scope_of
from costd.domain.errors import Invalid
from costd.v1 import budget_pb2

#: Longer than any threshold that may be said.
_MAX_DIGITS = 20


def budget_message(budget: Budget, organization: str, created_ms: int, updated_ms: int) -> budget_pb2.Budget:
    """A budget's message; `organization` is the name of its organization, times are UTC milliseconds."""
    return budget_pb2.Budget(
        id=budget.id,
        name=budget.name,
        scope=dict(budget.scope),
        each=budget.each,
        amount_nano_usd=budget.amount_nano,
        period=budget.period,
        timezone=budget.timezone,
        anchor_day=budget.anchor_day,
        alert_thresholds=[format(threshold, "f") for threshold in budget.thresholds],
        hard=budget.hard,
        on_unpriced=budget.on_unpriced,
        on_hub_down=budget.on_hub_down,
        revision=budget.revision,
        created_ms=created_ms,
        updated_ms=updated_ms,
        since_ms=budget.since_ms,
        organization=organization,
    )


def read_budget(message: budget_pb2.Budget, org_id: int = 0) -> Budget:
    """The budget, of the organization with this number here, unchecked; Invalid where a part cannot be read."""
    return Budget(
        id=message.id,
        org_id=org_id,
        name=message.name,
        scope=scope_of(dict(message.scope)),
        amount_nano=message.amount_nano_usd,
        period=message.period,
        timezone=message.timezone,
        anchor_day=message.anchor_day,
        each=message.each,
        thresholds=tuple(map(_threshold, message.alert_thresholds)),
        hard=message.hard,
        on_unpriced=message.on_unpriced,
        on_hub_down=message.on_hub_down,
        revision=message.revision,
        since_ms=message.since_ms,
    )


def _threshold(text: str) -> Decimal:
    try:
        if len(text) > _MAX_DIGITS:
            raise InvalidOperation
        return Decimal(text)
    except InvalidOperation:
        raise Invalid("alert_thresholds", "must each be a decimal number, such as 0.8") from None
