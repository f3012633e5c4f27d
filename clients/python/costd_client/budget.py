"""A budget as costd named it in an answer: its name, its numbers, and when it begins anew."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from costd_client.v1 import usage_pb2


class Budget(NamedTuple):
    """A budget as a preflight saw it; amounts in USD.

    `scope_type` names the dimensions it is for, separated by commas. `spent` is what is spent and reserved, `remaining`
    what is left. `resets_at` is when its period ends (in UTC), None where it never does.
    """

    id: str
    name: str
    scope_type: str
    limit: Decimal
    spent: Decimal
    remaining: Decimal
    resets_at: datetime | None

    def __str__(self) -> str:
        until = "never resets" if self.resets_at is None else f"resets {self.resets_at:%Y-%m-%d %H:%M} UTC"
        return f'"{self.name}" ({usd(self.spent)} of {usd(self.limit)} spent or reserved, {until})'


def of_answer(answer: usage_pb2.PreflightResponse) -> Budget | None:
    """The budget that an answer names; None where it names none."""
    if not answer.HasField("budget"):
        return None
    said = answer.budget
    return Budget(
        said.id,
        said.name,
        said.scope_type,
        amount(said.limit_nano_usd),
        amount(said.spent_nano_usd),
        amount(said.remaining_nano_usd),
        datetime.fromtimestamp(said.resets_ms / 1000, UTC) if said.resets_ms else None,
    )


def amount(nano_usd: int) -> Decimal:
    """Nano-USD in USD, without zeros at the end."""
    return Decimal(f"{Decimal(nano_usd).scaleb(-9).normalize():f}")


def usd(exact: Decimal) -> str:
    """An amount as people read it: cents at least, and as many digits as it has."""
    cents = exact.quantize(Decimal("0.01"))
    return f"${cents if cents == exact else exact.normalize():f}"
