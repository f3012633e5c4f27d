"""Unpriced usage: which models have records without a cost, or units that add nothing to it."""

from __future__ import annotations

from dataclasses import dataclass

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.days import HOUR_MS
from costd.domain.errors import Invalid
from costd.domain.pricebook import MatchedPrice
from costd.services.prices import Prices
from costd.store import unpriced
from costd.store.reader import Readers
from costd.store.rollups import Period


@dataclass(frozen=True, slots=True)
class UnpricedModel:
    """One model's usage in the time asked about; hours are UTC milliseconds.

    `unpriced` and `unrated` are how many of its `requests` have no cost, or units without a rate. `units` are those
    that have no rate by the prices in force now: all that were used, where there is no price.
    """

    provider: str
    model: str
    source_apps: list[str]
    requests: int
    unpriced: int
    unrated: int
    input_tokens: int
    output_tokens: int
    first_ms: int
    last_ms: int
    units: list[str]
    is_priced_now: bool


class Unpriced:
    """Answers what has no price."""

    def __init__(self, prices: Prices, readers: Readers, clock: Clock) -> None:
        self._prices = prices
        self._readers = readers
        self._clock = clock

    def models(self, caller: Caller, since_ms: int | None, until_ms: int | None) -> list[UnpricedModel]:
        """Models with records that lack a price, the most records first; corrections have reduced them already."""
        caller.require("read")
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise Invalid("until", "must be later than since")
        with self._readers.snapshot() as connection:
            found = unpriced.find_unpriced(connection, caller.org_id, Period.around(since_ms, until_ms))
        return [self._described(caller, each) for each in found]

    def _described(self, caller: Caller, found: unpriced.UnpricedUsage) -> UnpricedModel:
        now_ms = self._clock.now_ms()
        match = self._prices.book.match(caller.org_id, found.provider, found.model, now_ms)
        units = found.units
        is_priced = isinstance(match, MatchedPrice) and not match.card.defect
        if isinstance(match, MatchedPrice) and is_priced:
            lacking = match.card.unrated(dict.fromkeys(units, 1))
            units = [unit for unit in units if unit in lacking]
        return UnpricedModel(
            found.provider,
            found.model,
            found.source_apps,
            found.requests,
            found.unpriced,
            found.unrated,
            found.input_tokens,
            found.output_tokens,
            found.first_hour * HOUR_MS,
            found.last_hour * HOUR_MS,
            units,
            is_priced and not units,
        )
