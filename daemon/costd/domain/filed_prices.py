"""One model of an imported price file, with the list behind it: what the file has no rate for, the list says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costd.domain.rates import Context, ModelPrices, RateCard
from costd.domain.units import UnitRegistry


class FiledPrices:
    """Answers like ModelPrices: the file's rates, and of the list's those for units that the file does not name.

    Where the two do not fit together (what both can count would have no rate), only those units of the list are taken
    that stand alone, such as searches.
    """

    __slots__ = ("_behind", "_cards", "_front", "_source_id", "_units", "_varies", "id")

    def __init__(
        self, front: ModelPrices, behind: ModelPrices, units: UnitRegistry, *, behind_varies: bool = True
    ) -> None:
        """`behind_varies` is False where the variants of the list's model mean nothing here."""
        self.id = front.id
        self._front = front
        self._behind = behind
        self._varies = behind_varies
        self._units = units
        self._cards: dict[tuple[RateCard, RateCard], RateCard] = {}

    def meaningful(self, context: Context) -> Context:
        """The part of a context that selects some variant."""
        return tuple(sorted({*self._front.meaningful(context), *self._below(context)}))

    def card(self, at_ms: int, context: Context) -> RateCard:
        """The rate card at a time in UTC milliseconds, for a context out of `meaningful`."""
        front, behind = self._both(at_ms, context)
        card = self._cards.get((front, behind))
        if card is None:
            card = self._cards[front, behind] = self._merged(front, behind)
        return card

    def steady_card(self, first_ms: int, last_ms: int, context: Context) -> RateCard | None:
        """The rate card of a whole period, None where it changes within it."""
        front = self._front.steady_card(first_ms, last_ms, self._front.meaningful(context))
        behind = self._behind.steady_card(first_ms, last_ms, self._below(context))
        return self.card(first_ms, context) if front is not None and behind is not None else None

    def listed_units(self, at_ms: int, context: Context) -> frozenset[str]:
        """The units whose rate is the list's."""
        return frozenset(self.card(at_ms, context).rates) - frozenset(self._both(at_ms, context)[0].rates)

    def cuts(self, context: Context) -> list[int]:
        """The moments at which a price begins or ends."""
        return sorted({*self._front.cuts(context), *self._behind.cuts(context)})

    @property
    def is_timed(self) -> bool:
        """Whether prices change within a day or a week."""
        return self._front.is_timed or self._behind.is_timed

    def contexts(self) -> list[Context]:
        """The contexts that something is said about."""
        return sorted({*self._front.contexts(), *(self._behind.contexts() if self._varies else ())})

    def unmapped_tier(self, context: Mapping[str, str], *, variants_apply: bool = True) -> str:
        """The first tier word of the context that neither a variant of the file's nor plain sense knows, or ""."""
        return self._front.unmapped_tier(context, variants_apply=variants_apply)

    def _both(self, at_ms: int, context: Context) -> tuple[RateCard, RateCard]:
        front = self._front.card(at_ms, self._front.meaningful(context))
        return front, self._behind.card(at_ms, self._below(context))

    def _below(self, context: Context) -> Context:
        return self._behind.meaningful(context) if self._varies else ()

    def _merged(self, front: RateCard, behind: RateCard) -> RateCard:
        missing = {unit: rate for unit, rate in behind.rates.items() if unit not in front.rates}
        for added in (missing, self._alone(missing)):
            minimum = front.minimum or behind.minimum
            card = RateCard({**added, **front.rates}, self._units, minimum, front.source_id)
            if added and not card.defect:
                return card
        return front

    def _alone(self, rates: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        return {unit: rate for unit, rate in rates.items() if self._units.stands_alone(unit)}
