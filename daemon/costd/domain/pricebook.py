"""Prices usage: finds the model, picks its rate card, and says in a Quote what came of it.

A book stands over one list of prices. Another source (an override, an imported file) goes in front by answering first
and leaving what it does not know to the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from costd.domain.price_table import Found, PriceTable
from costd.domain.rates import Context, Linear, RateCard, Unknowable
from costd.domain.units import Quantity, UnitRegistry

#: Enough for every model, spelling and tier a busy host uses at once; callers' inventions cannot grow memory past it.
MAX_REMEMBERED = 1024
MAX_REMEMBERED_MISSES = 512


class Quote(NamedTuple):
    """What usage costs.

    `cost_nano` is in nano-USD, None where it is unpriced. `provider` is the caller's, under its one lower-case id, else
    that of the match, else ""; `model` is the id in the list, "" without a match. `warnings` are sentences for people.
    `unrated` are units above zero that add nothing, as nothing in the entry has a rate for them. `unmapped_tier` is a
    provider's word for a tier that the entry does not know: priced at standard.
    """

    cost_nano: int | None
    provider: str
    model: str
    warnings: tuple[str, ...] = ()
    unrated: tuple[str, ...] = ()
    unmapped_tier: str = ""


class ColumnPrice(NamedTuple):
    """The price of a model for records by columns; `linear` is None where each record needs a quote of its own."""

    provider: str
    linear: Linear | None
    unmapped_tier: str


class PriceBook:
    """Quotes from a price list. Results are remembered within bounds."""

    def __init__(self, table: PriceTable) -> None:
        """Stand over `table`."""
        self._table = table
        self._entries: dict[tuple[str, str, Context], _Entry] = {}
        self._misses: dict[tuple[str, str], Quote] = {}

    @property
    def version(self) -> str:
        """The version of the list."""
        return self._table.version

    @property
    def units(self) -> UnitRegistry:
        """The units of the list."""
        return self._table.units

    def price(
        self, provider: str, model: str, units: Mapping[str, Quantity], at_ms: int, context: Context = ()
    ) -> Quote:
        """What `units`, which have passed `UnitRegistry.check`, cost at `at_ms` (UTC milliseconds).

        `provider` may be ""; both names come as people send them. `context` selects variants, such as
        (("processing", "batch"),). Raises Invalid where counts do not fit into what contains them.
        """
        entry = self._entry(provider, model, context)
        return entry if isinstance(entry, Quote) else entry.quote(units, at_ms)

    def price_columns(
        self, provider: str, model: str, columns: Sequence[str], first_ms: int, last_ms: int, context: Context = ()
    ) -> ColumnPrice | Quote:
        """How to price many records of one model at once, made between two moments, that used `columns` alone.

        A Quote where the model has no price: it is every record's.
        """
        entry = self._entry(provider, model, context)
        return entry if isinstance(entry, Quote) else entry.columns(columns, first_ms, last_ms)

    def _entry(self, provider: str, model: str, context: Context) -> _Entry | Quote:
        entry = self._entries.get((provider, model, context))
        if entry is not None:
            return entry
        miss = self._misses.get((provider, model))
        if miss is not None:
            return miss
        found = self._table.find(provider.strip(), model.strip())
        if found is None:
            return self._remember_miss(provider, model)
        return self._remember(provider, model, context, found)

    def canonical_provider(self, provider: str) -> str:
        """The one lower-case id of a provider named by a caller; its own words, trimmed, where the list has none."""
        listed = self._table.provider(provider) if provider.strip() else None
        return listed.id if listed is not None else provider.strip().lower()

    def _remember(self, provider: str, model: str, context: Context, found: Found) -> _Entry:
        if len(self._entries) >= MAX_REMEMBERED:
            self._entries.clear()
        named = "" if provider.strip().lower() == "litellm" else self.canonical_provider(provider)
        entry = _Entry(found, named or found.provider_id, context)
        self._entries[provider, model, context] = entry
        return entry

    def _remember_miss(self, provider: str, model: str) -> Quote:
        if len(self._misses) >= MAX_REMEMBERED_MISSES:
            self._misses.clear()
        named = self.canonical_provider(provider)
        at = f' of provider "{named}"' if named else ""
        miss = Quote(None, named, "", (f'not priced: the price list has no model "{model}"{at}',))
        self._misses[provider, model] = miss
        return miss


class _Entry:
    """One model as it was asked for: provider, spelling and context."""

    __slots__ = ("_context", "_model", "_provider", "_unmapped", "_warnings")

    def __init__(self, found: Found, provider: str, context: Context) -> None:
        self._model = found.model
        self._provider = provider
        self._context = found.model.meaningful(context) if found.variants_apply else ()
        self._unmapped = found.model.unmapped_tier(dict(context), variants_apply=found.variants_apply)
        self._warnings: tuple[str, ...] = ()
        if self._unmapped:
            self._warnings = (
                f'the price list has no "{self._unmapped}" price for {found.model.id}: priced as standard',
            )

    def quote(self, units: Mapping[str, Quantity], at_ms: int) -> Quote:
        card = self._model.card(at_ms, self._context)
        cost = card.plain_cost_nano(units)
        if cost is not None:
            return Quote(cost, self._provider, self._model.id, self._warnings, (), self._unmapped)
        return self._quote_fully(card, units)

    def columns(self, columns: Sequence[str], first_ms: int, last_ms: int) -> ColumnPrice:
        card = self._model.steady_card(first_ms, last_ms, self._context)
        return ColumnPrice(self._provider, card.linear(columns) if card else None, self._unmapped)

    def _quote_fully(self, card: RateCard, units: Mapping[str, Quantity]) -> Quote:
        cost = card.cost_nano(units)
        if isinstance(cost, Unknowable):
            warnings = (*self._warnings, f"not priced: {cost.reason}")
            return Quote(None, self._provider, self._model.id, warnings, (), self._unmapped)
        unrated = card.unrated(units)
        warnings = self._warnings
        if unrated:
            warnings = (*warnings, f"{self._model.id} has no rate for {', '.join(unrated)}: not in the cost")
        return Quote(cost, self._provider, self._model.id, warnings, unrated, self._unmapped)
