"""A hub's budgets on a Sync stream, as messages: both directions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation

from costd.domain.budget import Budget, check_budget, scope_of
from costd.domain.errors import Invalid
from costd.domain.synced import SyncedBudget
from costd.v1 import budget_pb2 as pb
from costd.wire.rpc.budget_messages import budget_after

#: Longer than any threshold that may be said.
_MAX_DIGITS = 20


def budgets_message(budgets: Iterable[SyncedBudget]) -> pb.SyncedBudgets:
    """All budgets that a source has to heed."""
    message = pb.SyncedBudgets()
    for each in budgets:
        told = budget_after(each.budget)
        told.organization, told.created_ms, told.updated_ms = each.organization, each.created_ms, each.updated_ms
        message.budgets.append(pb.SyncedBudget(budget=told))
    return message


def read_budgets(message: pb.SyncedBudgets) -> tuple[Sequence[SyncedBudget], Sequence[str]]:
    """The budgets, and why each of the others is none that this release, or this machine, can make sense of."""
    sound, unread = [], []
    for each in message.budgets:
        told = each.budget
        try:
            budget = _read(told)
            check_budget(budget)
        except Invalid as refusal:
            unread.append(f'"{told.name[:64]}": {refusal.field} {refusal.message}')
        else:
            sound.append(SyncedBudget(told.organization, budget, told.created_ms, told.updated_ms))
    return sound, unread


def _read(message: pb.Budget) -> Budget:
    return Budget(
        id=message.id,
        org_id=0,
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
