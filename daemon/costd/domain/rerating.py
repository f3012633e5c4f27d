"""Rating recorded usage again: the cost it has by other prices, and what that changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from costd.domain.batch import COUNT_COLUMNS
from costd.domain.errors import Invalid
from costd.domain.money import MAX_RECORD_NANO, round_half_even
from costd.domain.pricebook import ColumnPrice, PriceBook, Quote
from costd.domain.rates import DAY_MS, Context, Linear
from costd.domain.units import Quantity

#: Models remembered with their factors; the rest are asked for again.
_MAX_PLANS = 4_096


class Rating(NamedTuple):
    """What usage costs by the prices asked for; `cost_nano` None is unpriced. `source_id` is None there."""

    cost_nano: int | None
    is_unrated: bool
    source_id: int | None


class Model(NamedTuple):
    """What is rated: a model of a provider ("" where nobody named one), used by an organization."""

    org_id: int
    provider: str
    model: str


class Rater:
    """Rates usage by a book: by the prices of its own time, or of one day, at its time of day."""

    def __init__(self, book: PriceBook, day_ms: int | None = None) -> None:
        """`day_ms` is the first moment of that day, None for each record's own."""
        self._book = book
        self._day_ms = day_ms
        self._plans: dict[tuple[Model, int], tuple[Linear, int] | None] = {}

    def rate(self, model: Model, at_ms: int, counts: Sequence[int], extra: str | None) -> Rating | None:
        """The rating; None where these prices cannot rate it at all (counts that do not fit, an absurd cost)."""
        moment = at_ms if self._day_ms is None else self._day_ms + at_ms % DAY_MS
        if extra is None:
            plan = self._plan(model, moment)
            if plan is not None:
                cost = linear_cost(plan[0], *counts)
                if cost is not None and cost <= MAX_RECORD_NANO:
                    return Rating(cost, is_unrated=False, source_id=plan[1])
        return self._in_full(model, moment, counts, extra)

    def _plan(self, model: Model, moment: int) -> tuple[Linear, int] | None:
        """How to rate by factors what was used in one UTC day; None where each record needs a quote of its own."""
        key = (model, moment // DAY_MS)
        if key in self._plans:
            return self._plans[key]
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        first_ms = moment // DAY_MS * DAY_MS
        price = self._book.price_columns(*model, COUNT_COLUMNS, first_ms, first_ms + DAY_MS - 1)
        plan = None
        if isinstance(price, ColumnPrice) and price.linear is not None:
            plan = price.linear, price.source_id
        self._plans[key] = plan
        return plan

    def _in_full(self, model: Model, moment: int, counts: Sequence[int], extra: str | None) -> Rating | None:
        said = json.loads(extra) if extra is not None else {}
        context: Context = tuple(sorted(said.get("context", {}).items()))
        try:
            quote: Quote = self._book.price(*model, used_units(counts, said.get("units", {})), moment, context)
        except Invalid:
            return None
        if quote.cost_nano is None:
            return Rating(None, is_unrated=False, source_id=None)
        if quote.cost_nano > MAX_RECORD_NANO:
            return None
        return Rating(quote.cost_nano, bool(quote.unrated), quote.source_id)


def used_units(counts: Sequence[int], rare: dict[str, str]) -> dict[str, Quantity]:
    """The units of a record as its price was found by: those with a column that are not zero, and the others."""
    units: dict[str, Quantity] = {name: count for name, count in zip(COUNT_COLUMNS, counts, strict=True) if count}
    for name, text in rare.items():
        amount = Decimal(text)
        units[name] = int(amount) if "." not in text and amount == amount.to_integral_value() else amount
    return units


def linear_cost(linear: Linear, in_: int, out: int, read: int, write: int, reasoning: int) -> int | None:
    """The cost of COUNT_COLUMNS by factors; None where a count above zero has no rate."""
    factors = linear.brackets[0]
    for at, threshold in enumerate(linear.thresholds):
        if in_ > threshold:
            factors = linear.brackets[at + 1]
    total = in_ * factors[0] + out * factors[1]
    if read or write or reasoning:
        total += read * factors[2] + write * factors[3] + reasoning * factors[4]
    if not linear.all_rated:
        counts = (in_, out, read, write, reasoning)
        if any(count and not rated for count, rated in zip(counts, linear.rated, strict=True)):
            return None
    return total if linear.denominator == 1 else round_half_even(total, linear.denominator)
