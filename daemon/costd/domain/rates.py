"""What one model costs: its dated and timed prices, their variants, and the exact arithmetic of a rate card.

Rates are never rounded: a card holds them as integers over one common denominator, in nano-USD for one of a unit, and
a cost is rounded once, at its end. The rules are those of genai_prices.types (ModelInfo.get_prices,
ModelPrice.calc_price) and genai_prices.decompose.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from math import lcm
from operator import mul
from typing import Any, NamedTuple

from costd.domain.errors import Invalid
from costd.domain.money import NANO_PER_USD, round_half_even
from costd.domain.units import PER_REQUEST, Quantity, UnitRegistry

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
#: From a Monday's midnight to the first of January 1970, a Thursday.
_MONDAY_MS = 3 * DAY_MS
#: Combinations of units remembered for each card; callers use a handful.
MAX_SHAPES = 64

#: Where a provider says how a call was served; only their words are ever reported as unmapped.
TIER_KEYS = ("service_tier", "processing", "speed")
#: Words for the standard service, which need no variant.
STANDARD_TIERS = frozenset({"", "auto", "default", "on_demand", "standard", "standard_only"})

#: {unit: [mantissa, power of ten, [threshold, mantissa, power of ten], …]} in USD for the unit's `per`.
Rates = Mapping[str, list[Any]]

#: What selects price variants, as (("processing", "batch"), …).
Context = tuple[tuple[str, str], ...]


class Unknowable(NamedTuple):
    """Why usage cannot be priced though the model has a price: a sentence that reads on from "not priced: "."""

    reason: str


class Minimum(NamedTuple):
    """The first of `units` that was sent is billed as at least `quantity`, and so are the others."""

    units: tuple[str, ...]
    quantity: int


class Linear(NamedTuple):
    """A rate card over given columns of counts: nano-USD = sum(count * factor) / denominator, rounded half-even.

    The factors are those of the bracket that the input tokens fall into (`thresholds`, exclusive, ascending).
    `rated` says of each column whether the card has a rate for it.
    """

    thresholds: tuple[int, ...]
    brackets: tuple[tuple[int, ...], ...]
    denominator: int
    rated: tuple[bool, ...]
    all_rated: bool


class ModelPrices:
    """One model of a table: which rate card holds at a time, for a context."""

    __slots__ = (
        "_cards",
        "_dates",
        "_minimum",
        "_prices",
        "_source_id",
        "_times",
        "_units",
        "_variants",
        "_weeks",
        "id",
    )

    def __init__(self, raw: Mapping[str, Any], units: UnitRegistry, source_id: int = 0) -> None:
        """Take a model as the table holds it (see costd.store.price_compiler), and the table's units.

        `source_id` is what its cards carry.
        """
        self.id: str = raw["id"]
        self._source_id = source_id
        self._units = units
        self._prices: list[Any] = raw["prices"]
        self._variants: list[Any] = raw.get("variants", [])
        constraints = [each[0] for each in self._prices] + [each[1] for each in self._variants]
        self._dates = sorted({c[1] * DAY_MS for c in constraints if c and c[0] == "date"})
        self._times = sorted({cut for c in constraints if c and c[0] == "time" for cut in c[1:]})
        self._weeks = sorted({cut for c in constraints if c and c[0] == "week" for cut in c[1:]})
        minimum = raw.get("minimum")
        self._minimum = Minimum(tuple(minimum[0]), minimum[1]) if minimum else None
        #: As many as there are moments and contexts that mean something to this model.
        self._cards: dict[tuple[Context, int, int, int], RateCard] = {}

    def meaningful(self, context: Context) -> Context:
        """The part of a context that selects some variant of this model."""
        words = dict(context).items()
        return tuple(sorted({pair for when, _, _ in self._variants for pair in when.items() if pair in words}))

    def card(self, at_ms: int, context: Context) -> RateCard:
        """The rate card at a time in UTC milliseconds, for a context out of `meaningful`."""
        key = (
            context,
            bisect_right(self._dates, at_ms) if self._dates else 0,
            bisect_right(self._times, at_ms % DAY_MS) if self._times else 0,
            bisect_right(self._weeks, (at_ms + _MONDAY_MS) % WEEK_MS) if self._weeks else 0,
        )
        card = self._cards.get(key)
        if card is None:
            rates = self.rates(at_ms, dict(context))
            card = self._cards[key] = RateCard(rates, self._units, self._minimum, self._source_id)
        return card

    def steady_card(self, first_ms: int, last_ms: int, context: Context) -> RateCard | None:
        """The rate card of a whole period, None where it changes within it."""
        if self._times or self._weeks:
            return None
        if self._dates and bisect_right(self._dates, first_ms) != bisect_right(self._dates, last_ms):
            return None
        return self.card(first_ms, context)

    def cuts(self, _context: Context) -> list[int]:
        """The moments at which a dated price begins."""
        return self._dates

    @property
    def is_timed(self) -> bool:
        """Whether prices change within a day or a week."""
        return bool(self._times or self._weeks)

    def contexts(self) -> list[Context]:
        """The contexts that have variants."""
        return sorted({tuple(sorted(when.items())) for when, _, _ in self._variants})

    def rates(self, at_ms: int, context: Mapping[str, str]) -> Rates:
        """The rates that hold at a time: the last active price, with the first active variant of each unit over it."""
        standard: Rates = self._prices[0][1]
        for constraint, rates in reversed(self._prices):
            if _active(constraint, at_ms):
                standard = rates
                break
        overrides: dict[str, list[Any]] = {}
        for when, constraint, rates in self._variants if context else ():
            if _active(constraint, at_ms) and all(context.get(key) == value for key, value in when.items()):
                for unit, rate in rates.items():
                    overrides.setdefault(unit, rate)
        return {**standard, **overrides}

    def unmapped_tier(self, context: Mapping[str, str], *, variants_apply: bool) -> str:
        """The first tier word of the context that neither a variant of this model nor plain sense knows, or ""."""
        known = {pair for when, _, _ in self._variants for pair in when.items()} if variants_apply else frozenset()
        return unknown_tier({key: word for key, word in context.items() if (key, word) not in known})


def unknown_tier(context: Mapping[str, str]) -> str:
    """The first word for a tier that is none for the standard service, or ""."""
    return next((word for key in TIER_KEYS if (word := context.get(key, "")) not in STANDARD_TIERS), "")


def _active(constraint: list[Any] | None, at_ms: int) -> bool:
    if constraint is None:
        return True
    if constraint[0] == "date":
        return bool(at_ms >= constraint[1] * DAY_MS)
    start, end = constraint[1:]
    moment = at_ms % DAY_MS if constraint[0] == "time" else (at_ms + _MONDAY_MS) % WEEK_MS
    if end < start:
        return bool(moment >= start or moment < end)
    return bool(start <= moment < end)


class _PricedUnit(NamedTuple):
    """A unit with a rate, and what its leaf (what is in none of its priced parts) depends on."""

    name: str
    parts: tuple[str, ...]
    contained: tuple[str, ...]
    overlaps: tuple[tuple[str, str], ...]


class _Shape(NamedTuple):
    """What a combination of units costs: factors for each count, by bracket; `leaves` must not come out negative."""

    leaves: tuple[tuple[int, ...], ...]
    brackets: tuple[tuple[int, ...], ...]


class RateCard:
    """The rates of one model at one moment in one context, ready for arithmetic."""

    __slots__ = (
        "_brackets",
        "_denominator",
        "_linear",
        "_priced",
        "_rated",
        "_shapes",
        "_thresholds",
        "_units",
        "defect",
        "is_free",
        "minimum",
        "rates",
        "source_id",
    )

    def __init__(
        self,
        rates: Rates,
        units: UnitRegistry,
        minimum: Minimum | None = None,
        source_id: int = 0,
        *,
        is_free: bool = False,
        defect: str = "",
    ) -> None:
        """Prepare `rates`, of the registry's `units` and of others, which stand alone.

        `source_id` is the number of the price source; with `is_free` nothing costs anything, whatever is used; a
        `defect` says why nothing can be priced.
        """
        self.rates = rates
        self.minimum = minimum
        self.source_id = source_id
        self.is_free = is_free
        self._units = units
        self._linear: dict[tuple[str, ...], Linear | None] = {}
        self.defect = defect or _defect(rates, units)
        self._priced = _in_order(rates, units)
        self._rated = frozenset(rates).union(*(units.descendants.get(name, ()) for name in rates))
        # A rate with tiers applies from above a threshold of input tokens, to all tokens at once.
        self._thresholds: list[int] = sorted({tier[0] for rate in rates.values() for tier in rate[2:]})
        exact = [
            {name: _nano_each(rate, units.per(name), bracket) for name, rate in rates.items()}
            for bracket in [0, *(threshold + 1 for threshold in self._thresholds)]
        ]
        self._denominator = lcm(*(nano.denominator for bracket in exact for nano in bracket.values()))
        self._brackets = [{name: int(nano * self._denominator) for name, nano in b.items()} for b in exact]
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}

    def plain_cost_nano(self, units: Mapping[str, Quantity]) -> int | None:
        """The cost where whole numbers of units were used that the card has rates for, and nothing needs judging.

        Otherwise None: use `cost_nano`, with which it agrees.
        """
        names = tuple(units)
        shape = self._shapes[names] if names in self._shapes else self._remember_shape(names)
        if shape is None:
            return None
        counts = tuple(units.values())
        for count in counts:
            if type(count) is not int:
                return None
        for leaf in shape.leaves:
            if sum(map(mul, counts, leaf)) < 0:  # cost_nano says which count does not fit
                return None
        bracket = bisect_left(self._thresholds, units.get("input_tokens", 0)) if self._thresholds else 0
        total = sum(map(mul, counts, shape.brackets[bracket]))
        return int(total) if self._denominator == 1 else round_half_even(int(total), self._denominator)

    def _remember_shape(self, names: tuple[str, ...]) -> _Shape | None:
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        shape = self._shapes[names] = self._shape(names)
        return shape

    def _shape(self, names: tuple[str, ...]) -> _Shape | None:
        linear = self._as_linear(names)
        present = frozenset(names)
        if linear is None or not linear.all_rated:
            return None
        for unit in self._priced:
            # What was not sent counts as zero, but only where nothing that was sent says otherwise.
            if unit.name not in present and (
                present.intersection(unit.contained) or any(present.issuperset(pair) for pair in unit.overlaps)
            ):
                return None
        leaves = (tuple(share.get(name, 0) for name in names) for share in self._leaves().values())
        return _Shape(tuple(leaf for leaf in leaves if any(weight < 0 for weight in leaf)), linear.brackets)

    def _leaves(self) -> dict[str, dict[str, int]]:
        """For each priced unit, its leaf as a weighted sum of counts."""
        leaves: dict[str, dict[str, int]] = {}
        for unit in self._priced:
            share = {unit.name: 1}
            for part in unit.parts:
                for name, weight in leaves[part].items():
                    share[name] = share.get(name, 0) - weight
            leaves[unit.name] = share
        return leaves

    def cost_nano(self, units: Mapping[str, Quantity]) -> int | Unknowable:
        """The cost in nano-USD of checked units, or why it cannot be known.

        Raises Invalid where counts do not fit into what contains them.
        """
        if self.defect:
            return Unknowable(self.defect)
        if self.is_free:
            return 0
        counts, scale = _whole(units)
        if self.minimum is not None:
            counts = _at_least(counts, self.minimum, scale)
        leaves: dict[str, int] = {}
        for unit in self._priced:
            count = counts.get(unit.name)
            if count is None:
                if overlap := self._unsaid(unit, counts):
                    return overlap
                count = 0
            for part in unit.parts:
                count -= leaves[part]
            if count < 0:
                raise _too_small(unit, units)
            leaves[unit.name] = count
        return self._total(leaves, counts, scale)

    def linear(self, columns: Sequence[str]) -> Linear | None:
        """The cost as a sum over `columns`, which nest and are all that was used; None where it is not one."""
        key = tuple(columns)
        if key not in self._linear:
            self._linear[key] = self._as_linear(key)
        return self._linear[key]

    def _as_linear(self, columns: tuple[str, ...]) -> Linear | None:
        if self.is_free and not self.defect:
            return Linear((), ((0,) * len(columns),), 1, (True,) * len(columns), all_rated=True)
        if self.defect or self.minimum is not None or PER_REQUEST in self._brackets[0]:
            return None
        leaves = self._leaves()
        brackets = []
        for rates in self._brackets:
            total = dict.fromkeys(columns, 0)
            for name, share in leaves.items():
                for column, weight in share.items():
                    if column in total:
                        total[column] += weight * rates[name]
            brackets.append(tuple(total[column] for column in columns))
        rated = tuple(column in self._rated for column in columns)
        return Linear(tuple(self._thresholds), tuple(brackets), self._denominator, rated, all(rated))

    def unrated(self, units: Mapping[str, Quantity]) -> tuple[str, ...]:
        """The units above zero that neither they nor anything containing them has a rate for."""
        if self.is_free:
            return ()
        return tuple(name for name, value in units.items() if value and name not in self._rated)

    def _total(self, leaves: Mapping[str, int], counts: Mapping[str, int], scale: int) -> int:
        bracket = 0
        if self._thresholds:
            tokens_in = counts.get("input_tokens", 0)
            bracket = bisect_left(self._thresholds, tokens_in if scale == 1 else -(-tokens_in // scale))
        rates = self._brackets[bracket]
        total = sum(count * rates[name] for name, count in leaves.items() if count)
        total += rates.get(PER_REQUEST, 0) * scale
        return round_half_even(total, self._denominator * scale)

    def _unsaid(self, unit: _PricedUnit, counts: Mapping[str, int]) -> Unknowable | None:
        """Judge a priced unit that was not sent: None where it must be zero.

        Raises Invalid where something it contains was sent.
        """
        for name in unit.contained:
            if counts.get(name):
                raise Invalid(f"units.{name}", f"is counted within {unit.name}, which is missing; send both")
        for left, right in unit.overlaps:
            if counts.get(left) and counts.get(right):
                return Unknowable(
                    f"{left} and {right} can count the same tokens, which have a price of their own; "
                    f"send {unit.name} too (0 if there are none)"
                )
        return None


def _nano_each(rate: list[Any], per: int, tokens_in: int) -> Fraction:
    """The exact nano-USD for one of a unit, when this many input tokens were used."""
    mantissa: int = rate[0]
    power: int = rate[1]
    for threshold, tier_mantissa, tier_power in rate[2:]:
        if tokens_in > threshold:
            mantissa, power = tier_mantissa, tier_power
    return Fraction(mantissa) * Fraction(10) ** power * NANO_PER_USD / per


def _in_order(rates: Rates, units: UnitRegistry) -> tuple[_PricedUnit, ...]:
    """The priced units, parts before what contains them."""
    names = sorted((name for name in rates if name != PER_REQUEST), key=lambda n: (-units.depth(n), n))
    return tuple(
        _PricedUnit(
            name,
            tuple(part for part in names if part in units.descendants.get(name, ())),
            units.descendants.get(name, ()),
            units.overlaps.get(name, ()),
        )
        for name in names
    )


def _defect(rates: Rates, units: UnitRegistry) -> str:
    """What makes a set of rates unusable, or "": parts priced without their whole, or an overlap without a price."""
    for name in sorted(rates):
        for ancestor in units.ancestors.get(name, ()):
            if ancestor not in rates:
                return f"the list has a rate for {name} but none for {ancestor}, which contains it"
    for left, right in combinations(sorted(rates), 2):
        if units.overlapping(left, right) and units.join(left, right) not in rates:
            return f"the list has rates for {left} and {right} but none for what is both"
    return ""


def _whole(units: Mapping[str, Quantity]) -> tuple[Mapping[str, int], int]:
    """The quantities as integers of 1/scale, and the scale."""
    scale = 1
    for value in units.values():
        if type(value) is not int:
            scale = lcm(scale, Decimal(value).as_integer_ratio()[1])
    if scale == 1:
        return {name: int(value) for name, value in units.items()}, 1
    counts: dict[str, int] = {}
    for name, value in units.items():
        numerator, denominator = value.as_integer_ratio()
        counts[name] = numerator * (scale // denominator)
    return counts, scale


def _at_least(counts: Mapping[str, int], minimum: Minimum, scale: int) -> Mapping[str, int]:
    sent = [counts[name] for name in minimum.units if name in counts]
    if not sent:
        return counts
    quantity = next((count for count in sent if count), 0)
    billed = max(quantity, minimum.quantity * scale) if quantity else 0
    return {**counts, **dict.fromkeys(minimum.units, billed)}


def _too_small(unit: _PricedUnit, units: Mapping[str, Quantity]) -> Invalid:
    whole = units.get(unit.name, 0)
    parts = [part for part in unit.parts if units.get(part)]
    for part in parts:
        if units[part] > whole:
            return Invalid(f"units.{part}", f"is {units[part]}, above {unit.name}, which contains it and is {whole}")
    return Invalid(f"units.{unit.name}", f"is {whole}, less than its parts together: {', '.join(parts)}")
