"""The compiled price list in memory: its providers and models, decoded only as they are asked for.

The format is that of costd.store.price_compiler. The text itself is kept; a provider's match rules are decoded when it
is first searched, a model's prices when it is first found.
"""

from __future__ import annotations

import json
from array import array
from typing import Any, NamedTuple

from costd.domain.matching import (
    PROVIDER_ALIASES,
    NameIndex,
    Rule,
    dashed_date,
    is_match,
    looks_like_bedrock,
    makers,
    other_forms,
    paths,
)
from costd.domain.rates import ModelPrices
from costd.domain.table_check import check_model, check_rule
from costd.domain.units import UnitRegistry

FORMAT = 1

#: More models than one host uses in an hour; beyond it they are decoded anew, which takes microseconds.
MAX_DECODED = 256

#: The router that the list knows by its prefixes: "litellm" with "openai/gpt-4o" means openai's gpt-4o.
_ROUTER = "litellm"
_BEDROCK = "aws"


class Found(NamedTuple):
    """A model of the list, and the provider it was found for (which may sell another's model at its price)."""

    provider_id: str
    model: ModelPrices
    variants_apply: bool


class TableHeader(NamedTuple):
    """What a table says about itself; `complete` is False where bytes are missing or its format is another."""

    version: str
    complete: bool


class Provider:
    """One provider of the list and its models."""

    __slots__ = ("_body", "_index", "_length", "_prices", "_start", "fallback", "id", "model_match", "name", "rule")

    def __init__(self, raw: dict[str, Any], body: bytes, offset: int) -> None:
        """Take the provider's part of the header; its section starts at `offset` + start."""
        self.id: str = raw["id"]
        self.name: str = raw["name"]
        self.rule: Rule | None = raw["provider_match"]
        self.model_match: Rule | None = raw["model_match"]
        self.fallback: list[str] = raw["fallback"]
        self._body = body
        self._start: int = offset + raw["start"]
        self._length: int = raw["length"]
        self._index: NameIndex | None = None
        #: Where each model's prices start and end in the body.
        self._prices = array("I")

    def find(self, name: str) -> int | None:
        """The position of the first own model that a lower-case name matches."""
        if self._index is None:
            self._index = self._read_index()
        return self._index.find(name)

    def model_count(self) -> int:
        """How many models the provider has of its own."""
        if self._index is None:
            self._index = self._read_index()
        return len(self._prices) // 2

    def prices(self, position: int) -> dict[str, Any]:
        """The prices of the model at a position that `find` gave, as the table holds them."""
        start, end = self._prices[2 * position], self._prices[2 * position + 1]
        prices: dict[str, Any] = json.loads(self._body[start:end])
        return prices

    def check(self) -> None:
        """Read everything there is about it; see PriceTable.check."""
        rules, _ = self._read_section()
        for rule in [*rules, self.rule, self.model_match]:
            if rule is not None:
                check_rule(rule)
        for position in range(self.model_count()):
            check_model(self.prices(position))

    def _read_index(self) -> NameIndex:
        # Two threads may come to be here at once: each puts a whole array in place, and both are the same.
        rules, self._prices = self._read_section()
        return NameIndex(rules)

    def _read_section(self) -> tuple[list[Rule], array[int]]:
        """The match rules of its models, and where each one's prices start and end."""
        rules: list[Rule] = []
        prices = array("I")
        start, end = self._start, self._start + self._length
        while start < end:
            tab = self._body.index(b"\t", start)
            newline = self._body.index(b"\n", tab)
            rules.append(json.loads(self._body[start:tab]))
            prices.extend((tab + 1, newline))
            start = newline + 1
        return rules, prices


class PriceTable:
    """The whole list."""

    def __init__(self, body: bytes, units: UnitRegistry | None = None, source_id: int = 0) -> None:
        """Take the table's bytes; they must be complete (see `read_header`).

        `units` stand in for the table's own, so that what two tables say can be put together; `source_id` is what its
        rate cards carry.
        """
        end = body.index(b"\n")
        header = json.loads(body[:end])
        self.version: str = header["version"]
        self.units = UnitRegistry(header["units"]) if units is None else units
        #: How many of a unit its rates are for, in the table's own words.
        self._per: dict[str, int] = {name: unit[0] for name, unit in header["units"].items()}
        self._source_id = source_id
        self.providers = [Provider(raw, body, end + 1) for raw in header["providers"]]
        self._by_id = {provider.id: provider for provider in self.providers}
        self._models: dict[tuple[str, int], ModelPrices] = {}

    def model(self, provider: Provider, position: int) -> ModelPrices:
        """The prices of one model of a provider; decoded once while it is in use."""
        model = self._models.get((provider.id, position))
        if model is None:
            if len(self._models) >= MAX_DECODED:
                self._models.clear()
            model = self._models[provider.id, position] = ModelPrices(
                provider.prices(position), self.units, self._source_id
            )
        return model

    def check(self) -> None:
        """Read everything once; ValueError, KeyError, TypeError, IndexError or AttributeError where it is no good."""
        for provider in self.providers:
            provider.check()

    def counts_like(self, units: UnitRegistry) -> bool:
        """Whether the rates of the table are for as many of each unit as these units say."""
        return all(per == units.per(name) for name, per in self._per.items())

    def provider(self, name: str) -> Provider | None:
        """The provider that people mean by a name, in any case: by id, by the list's rules, by our aliases."""
        return self._listed_provider(name) or self._by_id.get(PROVIDER_ALIASES.get(name.strip().lower(), ""))

    def find(self, provider_name: str, model_name: str) -> Found | None:
        """The model of the list that is meant; `provider_name` is "" where nobody named one.

        The list's own rules decide where they find anything. Else the forms of `matching.other_forms` are tried in
        turn, each at the provider the caller named; else at the one that a prefix of the model's name names; else at
        Bedrock where the name is spelt its way, at the one whose rules claim the name, and at the maker.
        """
        name = model_name.lower()
        found = self._listed(provider_name, name)
        if found is not None or not name:
            return found
        named = self._named_provider(provider_name, name)
        if named is None and provider_name:
            return None
        if named is not None and (found := self._at(named, name)):
            return found
        for form in (name, *other_forms(name)):
            owners = [named] if named is not None else self._likely_owners(form)
            for owner in owners:
                if found := self._at(owner, form):
                    return found
        return None

    def find_exactly(self, provider_id: str, name: str) -> Found | None:
        """The model of that very name, in any case.

        "" stands for any provider, if only one has the name, or has it as the model's id.
        """
        if provider_id:
            owner = self._by_id.get(provider_id)
            owners = [owner] if owner is not None else []
        else:
            owners = self.providers
        found = [(owner, at) for owner in owners if (at := owner.find(name.lower())) is not None]
        if len(found) > 1:
            found = [(owner, at) for owner, at in found if owner.prices(at)["id"].lower() == name.lower()]
        if len(found) != 1:
            return None
        owner, position = found[0]
        return Found(owner.id, self.model(owner, position), variants_apply=True)

    def _listed(self, provider_name: str, name: str) -> Found | None:
        """What genai_prices finds: DataSnapshot.find_provider_model."""
        if provider_name.lower() == _ROUTER and "/" in name:
            prefix, rest = name.split("/", 1)
            if prefix and self._listed_provider(prefix):
                provider_name, name = prefix, rest
        if provider_name and provider_name.lower() != _ROUTER:
            provider = self._listed_provider(provider_name)
        else:
            provider = self._claiming(name)
        return None if provider is None else self._at(provider, name)

    def _listed_provider(self, name: str) -> Provider | None:
        wanted = name.lower().strip()
        if provider := self._by_id.get(wanted):
            return provider
        return next((p for p in self.providers if p.rule and is_match(p.rule, wanted)), None)

    def _claiming(self, name: str) -> Provider | None:
        """The first provider whose rules claim a model's name."""
        return (
            next((p for p in self.providers if p.model_match and is_match(p.model_match, name)), None) if name else None
        )

    def _at(self, provider: Provider, name: str) -> Found | None:
        """The model at one provider: as written, then with a compact date written out."""
        found = self._own_or_fallback(provider, name)
        if found is None and (dashed := dashed_date(name)) != name:
            return self._own_or_fallback(provider, dashed)
        return found

    def _own_or_fallback(self, provider: Provider, name: str) -> Found | None:
        position = provider.find(name)
        if position is not None:
            return Found(provider.id, self.model(provider, position), variants_apply=True)
        for other_id in provider.fallback:
            other = self._by_id.get(other_id)
            if other is not None and (position := other.find(name)) is not None:
                # The other's price stands in for one that this provider may vary in its own way.
                return Found(provider.id, self.model(other, position), variants_apply=False)
        return None

    def _named_provider(self, provider_name: str, name: str) -> Provider | None:
        """Who sells it, in the caller's words, or in those before a slash of the model's name."""
        if provider_name and provider_name.lower() != _ROUTER and (provider := self.provider(provider_name)):
            return provider
        for path in paths(name):
            prefix = name[: -len(path) - 1].rsplit("/", 1)[-1]
            if prefix and (provider := self.provider(prefix)):
                return provider
        return None

    def _likely_owners(self, form: str) -> list[Provider]:
        owners = [self._by_id.get(_BEDROCK)] if looks_like_bedrock(form) else []
        owners.append(self._claiming(form))
        owners.extend(self._by_id.get(maker) for maker in makers(form))
        return [owner for owner in owners if owner is not None]


def read_header(body: bytes) -> TableHeader:
    """The version of a table and whether all of it is there; ("", False) for anything that is no table."""
    line, newline, _ = body.partition(b"\n")
    try:
        header = json.loads(line)
        expected = len(line) + 1 + sum(provider["length"] for provider in header["providers"])
        return TableHeader(
            str(header["version"]), bool(newline) and header["format"] == FORMAT and len(body) == expected
        )
    except (ValueError, KeyError, TypeError):
        return TableHeader("", complete=False)
