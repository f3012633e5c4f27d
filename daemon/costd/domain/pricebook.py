"""Prices usage: finds the model, picks its rate card, and says in a Quote what came of it.

A book stands over a price list, with an imported price file and the operator's own rules in front of it. A model is the
file's if the file knows it, else the list's; what is said of it there holds unit by unit where no rule says otherwise,
rules for everybody behind an organization's own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from costd.domain.filed_prices import FiledPrices
from costd.domain.layered_prices import Base, LayeredPrices, RateOrigin, listed_units
from costd.domain.matching import paths
from costd.domain.price_rule import FREE, PriceRule
from costd.domain.price_table import Found, PriceTable
from costd.domain.rates import Context, Linear, RateCard, Unknowable
from costd.domain.units import Quantity, UnitRegistry

#: Enough for every model, spelling and tier a busy host uses at once; callers' inventions cannot grow memory past it.
MAX_REMEMBERED = 1024
MAX_REMEMBERED_MISSES = 512


class Quote(NamedTuple):
    """What usage costs.

    `cost_nano` is in nano-USD, None where it is unpriced. `provider` is the caller's, under its one lower-case id, else
    that of the match, else ""; `model` is the name it is priced by, "" without a match. `warnings` are sentences for
    people. `unrated` are units above zero that add nothing, as nothing in the entry has a rate for them.
    `unmapped_tier` is a provider's word for a tier that the entry does not know: priced at standard. `source_id` is the
    number of the price source, 0 where there is no cost.
    """

    cost_nano: int | None
    provider: str
    model: str
    warnings: tuple[str, ...] = ()
    unrated: tuple[str, ...] = ()
    unmapped_tier: str = ""
    source_id: int = 0


class ColumnPrice(NamedTuple):
    """The price of a model for records by columns; `linear` is None where each record needs a quote of its own."""

    provider: str
    linear: Linear | None
    unmapped_tier: str
    source_id: int = 0


class Variant(NamedTuple):
    """What a model costs in another context than the one asked about."""

    context: Context
    card: RateCard


class MatchedPrice(NamedTuple):
    """What a model costs at a moment, and why.

    `rules` are those in force, the strongest first; `base` is what they stand over: "list", "file", or "" where neither
    knows the model. `origins` says of each unit of the card where its rate is from. `context` is the part of the
    context asked about that means something, `variants` are the others that something is said about. The price is the
    same since `since_ms` (None: always) and until `until_ms` (None: until further notice), which is exclusive; with
    `is_timed` it may change within these, by the time of day.
    """

    provider: str
    model: str
    card: RateCard
    rules: Sequence[PriceRule]
    base: str
    origins: Mapping[str, RateOrigin] = {}
    context: Context = ()
    variants: Sequence[Variant] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    is_timed: bool = False


class PriceBook:
    """Quotes. Results are remembered within bounds; a book never changes."""

    def __init__(
        self,
        table: PriceTable,
        rules: Sequence[PriceRule] = (),
        file: PriceTable | None = None,
        rules_id: int = 0,
    ) -> None:
        """Stand over `table`, with `file` and `rules` in front; `rules_id` is the source of what rules have a part in.

        The tables carry the numbers of their own sources.
        """
        self._table = table
        self._file = file
        self._rules_id = rules_id
        # A provider that the list did not know when its rule was made may be known to it by now, by another name.
        ids = {rule.provider: self.canonical_provider(rule.provider) for rule in rules}
        self._rules = _RuleIndex([rule._replace(provider=ids[rule.provider]) for rule in rules])
        self._entries: dict[tuple[int, str, str, Context], _Entry] = {}
        self._misses: dict[tuple[int, str, str], Quote] = {}

    @property
    def version(self) -> str:
        """The version of the list."""
        return self._table.version

    @property
    def units(self) -> UnitRegistry:
        """The units of the list."""
        return self._table.units

    @property
    def table(self) -> PriceTable:
        """The list itself."""
        return self._table

    @property
    def file(self) -> PriceTable | None:
        """The imported price file."""
        return self._file

    def price(
        self, org_id: int, provider: str, model: str, units: Mapping[str, Quantity], at_ms: int, context: Context = ()
    ) -> Quote:
        """What `units`, which have passed `UnitRegistry.check`, cost at `at_ms` (UTC milliseconds).

        `provider` may be ""; both names come as people send them. `context` selects variants, such as
        (("processing", "batch"),). Raises Invalid where counts do not fit into what contains them.
        """
        entry = self._entry(org_id, provider, model, context)
        return entry if isinstance(entry, Quote) else entry.quote(units, at_ms)

    def price_columns(
        self,
        org_id: int,
        provider: str,
        model: str,
        columns: Sequence[str],
        first_ms: int,
        last_ms: int,
        context: Context = (),
    ) -> ColumnPrice | Quote:
        """How to price many records of one model at once, made between two moments, that used `columns` alone.

        A Quote where the model has no price: it is every record's.
        """
        entry = self._entry(org_id, provider, model, context)
        return entry if isinstance(entry, Quote) else entry.columns(columns, first_ms, last_ms)

    def match(self, org_id: int, provider: str, model: str, at_ms: int, context: Context = ()) -> MatchedPrice | Quote:
        """What a model costs at a moment and why; a Quote where nothing knows it."""
        entry = self._entry(org_id, provider, model, context)
        return entry if isinstance(entry, Quote) else entry.matched(at_ms)

    def canonical_provider(self, provider: str) -> str:
        """The one lower-case id of a provider named by a caller; its own words, trimmed, where the list has none."""
        listed = self._table.provider(provider) if provider.strip() else None
        return listed.id if listed is not None else provider.strip().lower()

    def _entry(self, org_id: int, provider: str, model: str, context: Context) -> _Entry | Quote:
        org = org_id if org_id in self._rules.orgs else 0
        entry = self._entries.get((org, provider, model, context))
        if entry is not None:
            return entry
        miss = self._misses.get((org, provider, model))
        if miss is not None:
            return miss
        entry = self._find(org, provider, model, context)
        if entry is None:
            return self._miss(org, provider, model)
        if len(self._entries) >= MAX_REMEMBERED:
            self._entries.clear()
        self._entries[org, provider, model, context] = entry
        return entry

    def _find(self, org_id: int, provider: str, model: str, context: Context) -> _Entry | None:
        listed = self._table.find(provider.strip(), model.strip())
        named = "" if provider.strip().lower() == "litellm" else self.canonical_provider(provider)
        found, base = listed, "list" if listed else ""
        prices: Base | None = listed.model if listed else None
        if self._file is not None and (in_file := self._in_file(named, model, listed)) is not None:
            found, base, prices = in_file, "file", self._filed(in_file, listed)
        owner = named or (found.provider_id if found else "")
        name = model.strip().lower()
        levels = self._rules.levels(org_id, owner, name, listed.model.id.lower() if listed else "")
        if not owner:
            owner = next((rule.provider for level in reversed(levels) for rule in level if rule.provider), "")
            levels = [[rule for rule in level if rule.provider in {"", owner}] for level in levels]
        if found is None and not any(rule.rates or rule.multiplier == FREE for level in levels for rule in level):
            return None  # a share of nothing
        if found is not None and prices is not None and not any(levels):
            return _Entry(prices, owner, context, base, found.variants_apply)
        layered = LayeredPrices(
            found.model.id if found else model.strip(),
            prices,
            levels,
            self.units,
            self._rules_id,
            variants_apply=found is None or found.variants_apply,
        )
        return _Entry(layered, owner, context, base, variants_apply=True)

    def _filed(self, in_file: Found, listed: Found | None) -> Base:
        """A model of the file, over the list's of the same provider."""
        if listed is None or listed.provider_id != in_file.provider_id:
            return in_file.model
        return FiledPrices(in_file.model, listed.model, self.units, behind_varies=listed.variants_apply)

    def _in_file(self, named: str, model: str, listed: Found | None) -> Found | None:
        """The model in the file: by its name as sent, or by what follows a slash in it."""
        assert self._file is not None
        owner = named or (listed.provider_id if listed else "")
        name = model.strip().lower()
        for form in (name, *paths(name)):
            if found := self._file.find_exactly(owner, form):
                return found
        return None

    def _miss(self, org_id: int, provider: str, model: str) -> Quote:
        named = self.canonical_provider(provider)
        at = f' of provider "{named}"' if named else ""
        miss = Quote(None, named, "", (f'not priced: the price list has no model "{model}"{at}',))
        if len(self._misses) >= MAX_REMEMBERED_MISSES:
            self._misses.clear()
        self._misses[org_id, provider, model] = miss
        return miss


class _RuleIndex:
    """The rules, found by the models they may speak of."""

    def __init__(self, rules: Sequence[PriceRule]) -> None:
        self._exact: dict[str, list[PriceRule]] = {}
        self._prefixes: list[PriceRule] = []
        self.orgs = frozenset(rule.org_id for rule in rules if rule.org_id is not None)
        for rule in rules:
            if rule.model.endswith("*"):
                self._prefixes.append(rule)
            else:
                self._exact.setdefault(rule.model, []).append(rule)

    def levels(self, org_id: int, provider: str, name: str, listed: str) -> list[list[PriceRule]]:
        """Rules for everybody, then the organization's own, that speak of a model; each level the strongest first.

        Without a provider every rule's will do.
        """
        held = [*self._exact.get(name, ()), *(self._exact.get(listed, ()) if listed not in {"", name} else ())]
        held += [rule for rule in self._prefixes if rule.closeness(name, listed)]
        held = [rule for rule in held if not provider or rule.provider in {"", provider}]
        held.sort(key=lambda rule: rule.strength(name, listed), reverse=True)
        return [[r for r in held if r.org_id is None], [r for r in held if org_id and r.org_id == org_id]]


class _Entry:
    """One model as it was asked for: provider, spelling and context."""

    __slots__ = ("_base", "_context", "_model", "_provider", "_unmapped", "_varies", "_warnings")

    def __init__(
        self, model: Base | LayeredPrices, provider: str, context: Context, base: str, variants_apply: bool
    ) -> None:
        self._model = model
        self._provider = provider
        self._base = base
        self._varies = variants_apply
        self._context = model.meaningful(context) if variants_apply else ()
        self._unmapped = model.unmapped_tier(dict(context), variants_apply=variants_apply)
        self._warnings: tuple[str, ...] = ()
        if self._unmapped:
            self._warnings = (f'the price list has no "{self._unmapped}" price for {model.id}: priced as standard',)

    def quote(self, units: Mapping[str, Quantity], at_ms: int) -> Quote:
        card = self._model.card(at_ms, self._context)
        cost = card.plain_cost_nano(units)
        if cost is not None:
            return Quote(cost, self._provider, self._model.id, self._warnings, (), self._unmapped, card.source_id)
        return self._quote_fully(card, units)

    def columns(self, columns: Sequence[str], first_ms: int, last_ms: int) -> ColumnPrice:
        card = self._model.steady_card(first_ms, last_ms, self._context)
        linear = card.linear(columns) if card else None
        return ColumnPrice(self._provider, linear, self._unmapped, card.source_id if card else 0)

    def matched(self, at_ms: int) -> MatchedPrice:
        model, context = self._model, self._context
        card = model.card(at_ms, context)
        rules: Sequence[PriceRule] = ()
        listed = listed_units(model, at_ms, context) if not isinstance(model, LayeredPrices) else frozenset()
        origins: Mapping[str, RateOrigin] = {unit: RateOrigin(is_listed=unit in listed) for unit in card.rates}
        if isinstance(model, LayeredPrices):
            rules, origins = model.rules_at(at_ms, context), model.origins_at(at_ms, context)
        others = [each for each in model.contexts() if each != context] if self._varies else []
        variants = [Variant(each, model.card(at_ms, model.meaningful(each))) for each in others]
        since_ms, until_ms = self._span(at_ms)
        return MatchedPrice(
            self._provider,
            model.id,
            card,
            rules,
            self._base,
            origins,
            context,
            variants,
            since_ms,
            until_ms,
            model.is_timed,
        )

    def _span(self, at_ms: int) -> tuple[int | None, int | None]:
        """Since when and until when a card is the one that holds now; what changes nothing is passed over."""
        model, context = self._model, self._context
        cuts = model.cuts(context)
        next_cut = bisect_right(cuts, at_ms)

        def changes(cut_ms: int) -> bool:
            before, after = (model.card(moment, context) for moment in (cut_ms - 1, cut_ms))
            return (before.rates, before.is_free, before.defect) != (after.rates, after.is_free, after.defect)

        since_ms = next((cut for cut in reversed(cuts[:next_cut]) if model.is_timed or changes(cut)), None)
        return since_ms, next((cut for cut in cuts[next_cut:] if model.is_timed or changes(cut)), None)

    def _quote_fully(self, card: RateCard, units: Mapping[str, Quantity]) -> Quote:
        cost = card.cost_nano(units)
        if isinstance(cost, Unknowable):
            warnings = (*self._warnings, f"not priced: {cost.reason}")
            return Quote(None, self._provider, self._model.id, warnings, (), self._unmapped)
        unrated = card.unrated(units)
        warnings = self._warnings
        if unrated:
            warnings = (*warnings, f"{self._model.id} has no rate for {', '.join(unrated)}: not in the cost")
        return Quote(cost, self._provider, self._model.id, warnings, unrated, self._unmapped, card.source_id)
