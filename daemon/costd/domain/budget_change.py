"""What is said of a budget that is to be made or changed, and the budget that comes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from costd.domain.budget import Budget, changed, check_budget, scope_of
from costd.domain.errors import Invalid
from costd.domain.ids import parse_uuid

#: A share of an amount in digits: no exponent, no sign, nothing that only looks like a number.
_SHARE = re.compile(r"\d{1,4}(\.\d{1,20})?\Z|\.\d{1,20}\Z", re.ASCII)


class BudgetChange(NamedTuple):
    """What is said of a budget. None, and "" where a word is wanted, is not said.

    It is the one called `name`, unless `id` says which; then `name` is what it is to be called. What is not said stays
    as it is, or with `is_whole` becomes what it is by default. With `is_new` there may be none of that name yet.
    """

    name: str = ""
    id: str = ""
    scope: Mapping[str, str] | None = None
    each: str | None = None
    amount_nano: int | None = None
    period: str = ""
    timezone: str = ""
    anchor_day: int | None = None
    thresholds: Sequence[Decimal] | None = None
    hard: bool | None = None
    on_unpriced: str = ""
    on_hub_down: str = ""
    is_whole: bool = False
    is_new: bool = False


def applied(change: BudgetChange, held: Budget | None, org_id: int) -> Budget:
    """The budget after a change of `held`, or a new one (without an id) where that is None. Raises Invalid."""
    base = held
    if base is None or change.is_whole:
        if change.amount_nano is None:
            raise Invalid("amount", "is required: how many USD may be spent in one period")
        name = base.name if base is not None else ""
        base = Budget("", org_id, name, (), change.amount_nano)
    said = _said(change)
    if "period" in said and said["period"] != base.period and "anchor_day" not in said:
        said["anchor_day"] = 1  # the 15th of a month is no day of a week
    made = base._replace(**said)
    check_budget(made)
    if parse_uuid(made.name) is not None:
        raise Invalid("name", "must not have the form of an id")
    # 0.5 and 0.50 are one threshold; normalised only now that it is known to be short.
    made = made._replace(thresholds=tuple(threshold.normalize() for threshold in made.thresholds))
    return made if held is None else changed(held, made._replace(since_ms=held.since_ms))


def _said(change: BudgetChange) -> dict[str, Any]:
    """What was said, by the budget's own fields."""
    said: dict[str, Any] = {
        name: getattr(change, name) for name in ("name", "period", "timezone", "on_unpriced", "on_hub_down")
    }
    said = {name: value for name, value in said.items() if value}
    maybe = {name: getattr(change, name) for name in ("each", "amount_nano", "anchor_day", "hard")}
    said |= {name: value for name, value in maybe.items() if value is not None}
    if change.scope is not None:
        said["scope"] = scope_of(change.scope)
    if change.thresholds is not None:
        said["thresholds"] = tuple(change.thresholds)
    return said


def parse_thresholds(texts: Iterable[str], field: str = "thresholds") -> tuple[Decimal, ...]:
    """Shares of the amount as they are written, "0.8"; raises Invalid naming `field`."""
    found = []
    for text in texts:
        if not _SHARE.match(text.strip()):
            raise Invalid(field, f'must each be a share of the amount such as 0.8, not "{text[:32]}"')
        found.append(Decimal(text.strip()))
    return tuple(found)
