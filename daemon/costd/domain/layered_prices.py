"""One model with price rules over it: the rates that hold at a time, from the list or file below and the rules above.

Unit by unit, the strongest rule that names a rate decides: an organization's own before one for everybody, and on
each of these two levels the one that is closest (see PriceRule.strength). A multiplier scales what lies
below its level.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from costd.domain.filed_prices import FiledPrices
from costd.domain.price_rule import FREE, PriceRule, per_unit, scaled
from costd.domain.rates import TIER_KEYS, Context, ModelPrices, RateCard, unknown_tier
from costd.domain.units import UnitRegistry

#: Why a model that only rules know cannot be priced at a time.
NOT_IN_FORCE = "no price of it is in force at that time"

#: Rate cards kept for one model; rating history again may pass more dates than are in use at once.
MAX_CARDS = 256

#: What stays free of charge where something has a rate after all.
_FREE_TOKENS: dict[str, list[Any]] = {"input_tokens": [0, 0], "output_tokens": [0, 0]}


class RateOrigin(NamedTuple):
    """Where a unit's rate comes from: the rule that names it, "" for the list or file below all rules.

    `is_listed` where the rate is the list's though a file stands below the rules. `scaled_by` are the rules whose
    multipliers it went through, the lowest level first.
    """

    rule_id: str = ""
    scaled_by: tuple[str, ...] = ()
    is_listed: bool = False


#: What rules stand over.
Base = ModelPrices | FiledPrices


def listed_units(base: Base | None, at_ms: int, context: Context) -> frozenset[str]:
    """The units whose rate is the list's though a file stands before it."""
    return base.listed_units(at_ms, context) if isinstance(base, FiledPrices) else frozenset()


@dataclass(slots=True)
class _Stack:
    """The rates while level upon level is laid on them, and where each comes from."""

    rates: dict[str, list[Any]]
    origins: dict[str, RateOrigin] = field(default_factory=dict)
    #: Nothing costs anything so far, not even what nobody has named a rate for: the rule that says so.
    free_by: str = ""
    is_touched: bool = False

    def lay(self, active: Sequence[PriceRule], units: UnitRegistry) -> None:
        """Put one level's rules that apply, the strongest first, on what is there."""
        self.is_touched = self.is_touched or bool(active)
        scaling = next((rule for rule in active if rule.multiplier is not None), None)
        if scaling is not None and scaling.multiplier is not None:
            self._scale(scaling.multiplier, scaling.id)
        named: dict[str, list[Any]] = {}
        for rule in reversed(active):
            for unit, rate in rule.rates.items():
                named[unit] = per_unit(rate, units.per(unit))
                self.origins[unit] = RateOrigin(rule.id)
        if named and self.free_by:
            for unit, rate in _FREE_TOKENS.items():
                if unit not in self.rates and unit not in named:
                    self.rates[unit], self.origins[unit] = rate, RateOrigin(self.free_by)
            self.free_by = ""
        self.rates.update(named)

    def _scale(self, factor: tuple[int, int], rule_id: str) -> None:
        self.rates = {unit: scaled(rate, factor) for unit, rate in self.rates.items()}
        for unit in self.rates:
            origin = self.origins.get(unit, RateOrigin())
            self.origins[unit] = origin._replace(scaled_by=(*origin.scaled_by, rule_id))
        if factor == FREE:
            self.free_by = rule_id


class LayeredPrices:
    """Answers like ModelPrices, for a model that rules speak of; `base` is None where no list or file knows it."""

    __slots__ = ("_base", "_cards", "_cuts", "_levels", "_source_id", "_units", "_varies", "id")

    def __init__(
        self,
        model_id: str,
        base: Base | None,
        levels: Sequence[Sequence[PriceRule]],
        units: UnitRegistry,
        source_id: int,
        *,
        variants_apply: bool = True,
    ) -> None:
        """`levels` are the rules for everybody, then the organization's own; each the strongest first.

        `source_id` is what cards carry that a rule has a part in; `variants_apply` speaks of the base.
        """
        self.id = model_id
        self._base = base
        self._varies = variants_apply
        self._levels = levels
        self._units = units
        self._source_id = source_id
        moments = {m for level in levels for rule in level for m in (rule.from_ms, rule.until_ms) if m is not None}
        self._cuts = sorted(moments)
        self._cards: dict[tuple[Context, int, RateCard | None], RateCard] = {}

    def meaningful(self, context: Context) -> Context:
        """The part of a context that selects some variant or some rule."""
        wanted = {pair for level in self._levels for rule in level for pair in rule.context}
        below = self._below(context)
        return tuple(sorted({*below, *(pair for pair in dict(context).items() if pair in wanted)}))

    def card(self, at_ms: int, context: Context) -> RateCard:
        """The rate card at a time in UTC milliseconds, for a context out of `meaningful`."""
        base = self._base.card(at_ms, self._below(context)) if self._base else None
        key = (context, bisect_right(self._cuts, at_ms), base)
        card = self._cards.get(key)
        if card is None:
            if len(self._cards) >= MAX_CARDS:
                self._cards.clear()
            card = self._cards[key] = self._make(at_ms, dict(context), base)
        return card

    def steady_card(self, first_ms: int, last_ms: int, context: Context) -> RateCard | None:
        """The rate card of a whole period, None where it changes within it."""
        if bisect_right(self._cuts, first_ms) != bisect_right(self._cuts, last_ms):
            return None
        if self._base and self._base.steady_card(first_ms, last_ms, self._below(context)) is None:
            return None
        return self.card(first_ms, context)

    def rules_at(self, at_ms: int, context: Context) -> list[PriceRule]:
        """The rules in force at a time for a context, the strongest first, the organization's own before the others."""
        words = dict(context)
        active = [[rule for rule in level if rule.is_active(at_ms) and rule.fits(words)] for level in self._levels]
        return [rule for level in reversed(active) for rule in level]

    def origins_at(self, at_ms: int, context: Context) -> Mapping[str, RateOrigin]:
        """Where each rate of the card at a time comes from."""
        base = self._base.card(at_ms, self._below(context)) if self._base else None
        origins = dict(self._stacked(at_ms, dict(context), base).origins)
        for unit in listed_units(self._base, at_ms, self._below(context)):
            if not origins[unit].rule_id:
                origins[unit] = origins[unit]._replace(is_listed=True)
        return origins

    def cuts(self, context: Context) -> list[int]:
        """The moments at which something that applies in a context begins or ends; times of day are not among them."""
        words = dict(context)
        fitting = [rule for level in self._levels for rule in level if rule.fits(words)]
        own = {at_ms for rule in fitting for at_ms in (rule.from_ms, rule.until_ms) if at_ms is not None}
        return sorted(own.union(self._base.cuts(context) if self._base else ()))

    @property
    def is_timed(self) -> bool:
        """Whether prices change within a day or a week."""
        return self._base is not None and self._base.is_timed

    def contexts(self) -> list[Context]:
        """The contexts that something is said about."""
        said = {rule.context for level in self._levels for rule in level if rule.context}
        return sorted(said.union(self._base.contexts() if self._base and self._varies else ()))

    def unmapped_tier(self, context: Mapping[str, str], *, variants_apply: bool = True) -> str:
        """The first tier word of the context that neither the base, nor a rule, nor plain sense knows, or ""."""
        fitting = [rule for level in self._levels for rule in level if rule.fits(context)]
        named = {pair for rule in fitting for pair in rule.context}
        left = {key: word for key, word in context.items() if key not in TIER_KEYS or (key, word) not in named}
        if self._base is None:
            return unknown_tier(left)
        return self._base.unmapped_tier(left, variants_apply=variants_apply and self._varies)

    def _make(self, at_ms: int, context: Mapping[str, str], base: RateCard | None) -> RateCard:
        stack = self._stacked(at_ms, context, base)
        if base is not None and not stack.is_touched:
            return base
        if stack.free_by:  # nothing is left that could be wrong with the rates
            return RateCard({}, self._units, None, self._source_id, is_free=True)
        if base is None:
            return RateCard(stack.rates, self._units, None, self._source_id, defect="" if stack.rates else NOT_IN_FORCE)
        return RateCard(stack.rates, self._units, base.minimum, self._source_id)

    def _stacked(self, at_ms: int, context: Mapping[str, str], base: RateCard | None) -> _Stack:
        stack = _Stack(dict(base.rates) if base else {})
        stack.origins = dict.fromkeys(stack.rates, RateOrigin())
        for level in self._levels:
            stack.lay([rule for rule in level if rule.is_active(at_ms) and rule.fits(context)], self._units)
        return stack

    def _below(self, context: Context) -> Context:
        return self._base.meaningful(context) if self._base and self._varies else ()
