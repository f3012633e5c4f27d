"""Projection: where a month's spend is heading, and whether it rises or falls."""

from __future__ import annotations

from costd.domain.days import DAY_MS
from costd.domain.money import round_half_even
from costd.domain.spend import Spend

WEEK_MS = 7 * DAY_MS

INCREASING = "increasing"
DECREASING = "decreasing"
STABLE = "stable"
#: A week within this many percent of the one before is no change worth a word.
_STABLE_PERCENT = 10


def projected_nano(spent_nano: int | None, week: Spend, observed_ms: int, remaining_ms: int) -> int | None:
    """What will have been spent when `remaining_ms` more have passed at the pace of the last week, in nano-USD.

    `observed_ms` says for how long there have been records at all: a younger ledger's pace is measured over that, but
    over a day at least. None where what was spent has no price, or what is being spent.
    """
    if spent_nano is None or week.shown_cost_nano is None:
        return None
    return spent_nano + round_half_even(week.cost_nano * remaining_ms, min(WEEK_MS, max(DAY_MS, observed_ms)))


def trend(week: Spend, week_before: Spend) -> str:
    """How the cost of the last week compares to the week before, or its tokens where neither has a cost."""
    now, before = week.cost_nano, week_before.cost_nano
    if not now and not before:
        now, before = week.tokens, week_before.tokens
    if 100 * now > (100 + _STABLE_PERCENT) * before:
        return INCREASING
    return DECREASING if 100 * now < (100 - _STABLE_PERCENT) * before else STABLE


def per_hour_nano(cost_nano: int | None, hours: int, times: int = 1) -> int | None:
    """A cost over `hours` as a cost for `times` hours, to the nearest nano-USD; None stays None."""
    return None if cost_nano is None else round_half_even(cost_nano * times, hours)
