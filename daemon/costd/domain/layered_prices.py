"""One model with price rules over it: the rates that hold at a time, from the list or file below and the rules above.

Unit by unit, the strongest rule that names a rate decides: an organization's own before one for everybody, and on
each of these two levels the one that is closest (see PriceRule.strength). A multiplier scales what lies
below its level.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from costd.domain.price_rule import FREE, PriceRule, per_unit, scaled
from costd.domain.rates import TIER_KEYS, Context, ModelPrices, RateCard
from costd.domain.units import UnitRegistry

#: Why a model that only rules know cannot be priced at a time.
NOT_IN_FORCE = "no price of it is in force at that time"

#: What is left of "free" where something has a rate after all.
_FREE_TOKENS: dict[str, list[Any]] = {"input_tokens": [0, 0], "output_tokens": [0, 0]}


class LayeredPrices:
    """Answers like ModelPrices, for a model that rules speak of; `base` is None where no list or file knows it."""

    __slots__ = ("_base", "_cards", "_cuts", "_levels", "_source_id", "_units", "_varies", "id")

    def __init__(
        self,
        model_id: str,
        base: ModelPrices | None,
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

    def unmapped_tier(self, context: Mapping[str, str], *, variants_apply: bool) -> str:
        """The first tier word of the context that neither the base, nor a rule, nor plain sense knows, or ""."""
        named = {pair for level in self._levels for rule in level for pair in rule.context}
        left = {key: word for key, word in context.items() if key not in TIER_KEYS or (key, word) not in named}
        return self._base.unmapped_tier(left, variants_apply=variants_apply) if self._base else ""

    def _make(self, at_ms: int, context: Mapping[str, str], base: RateCard | None) -> RateCard:
        rates: dict[str, list[Any]] = dict(base.rates) if base else {}
        is_free = False
        touched = False
        for level in self._levels:
            active = [rule for rule in level if rule.is_active(at_ms) and rule.fits(context)]
            touched = touched or bool(active)
            factor = next((rule.multiplier for rule in active if rule.multiplier is not None), None)
            if factor is not None:
                is_free = is_free or factor == FREE
                rates = {unit: scaled(rate, factor) for unit, rate in rates.items()}
            if named := self._named(active):
                rates = (_FREE_TOKENS if is_free else {}) | rates | named
                is_free = False
        if not touched and base is not None:
            return base
        minimum = base.minimum if base else None
        defect = "" if rates or is_free else NOT_IN_FORCE
        if base is not None and base.defect and not rates:
            defect = base.defect
        return RateCard(rates, self._units, minimum, self._source_id, is_free=is_free, defect=defect)

    def _below(self, context: Context) -> Context:
        return self._base.meaningful(context) if self._base and self._varies else ()

    def _named(self, active: Sequence[PriceRule]) -> dict[str, list[Any]]:
        """What the rules of one level say, unit by unit the strongest."""
        named: dict[str, list[Any]] = {}
        for rule in reversed(active):
            named.update({unit: per_unit(rate, self._units.per(unit)) for unit, rate in rule.rates.items()})
        return named
