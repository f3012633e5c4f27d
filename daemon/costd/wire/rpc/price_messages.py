"""Between the messages of costd/v1/prices.proto and the domain's prices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from costd.domain.errors import Invalid
from costd.domain.layered_prices import RateOrigin
from costd.domain.price_form import decimal_text, each_text, shown_multiplier, shown_rate
from costd.domain.price_rule import PriceRule, parse_multiplier, parse_rate, parse_threshold
from costd.domain.pricebook import MatchedPrice
from costd.domain.rates import Rates
from costd.domain.units import ALIASES, UnitRegistry
from costd.domain.usage import check_string
from costd.services.price_checks import NewRule
from costd.store.price_rules import StoredRule
from costd.store.price_sources import FILE, LIST
from costd.store.price_state import PriceState
from costd.v1 import prices_pb2
from costd.wire.rpc import convert

#: What the domain calls a field of a price, and its name in a message.
_FIELDS = {"from": "from_ms", "until": "until_ms", "context": "when"}
_FIELD = re.compile(r"(prices\[\d+\]\.)?(\w+)(.*)", re.DOTALL)


def named_as_here(refusal: Invalid) -> Invalid:
    """A refusal, its field named as in the message it came in."""
    parts = _FIELD.fullmatch(refusal.field)
    if parts is None or parts[2] not in _FIELDS:
        return refusal
    return refusal.renamed(f"{parts[1] or ''}{_FIELDS[parts[2]]}{parts[3]}")


def new_rule(said: prices_pb2.NewPrice, path: str) -> NewRule:
    """A price to be set; raises Invalid naming a field below `path`."""
    try:
        rule = PriceRule(
            id="",
            org_id=None,
            provider=said.provider,
            model=said.model,
            context=convert.context(said.when, "when"),
            rates=_rates(said.rates),
            multiplier=parse_multiplier(said.multiplier) if said.HasField("multiplier") else None,
            from_ms=0,
            until_ms=said.until_ms if said.HasField("until_ms") else None,
            note=said.note,
        )
        check_string(said.org, "org")
    except Invalid as refusal:
        raise refusal.renamed(f"{path}.{refusal.field}") from None
    return NewRule(rule, said.org, said.from_ms if said.HasField("from_ms") else None)


def _rates(said: Iterable[prices_pb2.UnitPrice]) -> Rates:
    rates: dict[str, list[Any]] = {}
    for at, each in enumerate(said):
        path = f"rates[{at}]"
        unit = ALIASES.get(each.unit, each.unit)
        if unit in rates:
            raise Invalid(f"{path}.unit", "names a unit that was named before")
        tiers = (
            [
                parse_threshold(tier.above_input_tokens, f"{path}.tiers[{n}].above_input_tokens"),
                *parse_rate(tier.usd, f"{path}.tiers[{n}].usd"),
            ]
            for n, tier in enumerate(each.tiers)
        )
        rates[unit] = [*parse_rate(each.usd, f"{path}.usd"), *tiers]
    return rates


def price(held: StoredRule) -> prices_pb2.Price:
    """A price with its history."""
    rule = held.rule
    return prices_pb2.Price(
        id=rule.id,
        model=rule.model,
        provider=rule.provider,
        org=held.org or "",
        rates=[_unit_price(unit, rate) for unit, rate in rule.rates.items()],
        multiplier=shown_multiplier(rule.multiplier),
        when=dict(rule.context),
        from_ms=rule.from_ms,
        until_ms=rule.until_ms,
        note=rule.note,
        created_ms=held.created_ms,
        created_by=held.created_by,
        created_by_name=held.created_by_name,
        removed_ms=held.removed_ms or 0,
        removed_by=held.removed_by,
        removed_by_name=held.removed_by_name,
    )


def _unit_price(unit: str, rate: list[Any]) -> prices_pb2.UnitPrice:
    shown = shown_rate(rate, 1)
    return prices_pb2.UnitPrice(unit=unit, usd=shown.usd, tiers=_tiers(shown.tiers))


def _tiers(tiers: Iterable[tuple[int, str]]) -> list[prices_pb2.PriceTier]:
    return [prices_pb2.PriceTier(above_input_tokens=above, usd=usd) for above, usd in tiers]


def matched(
    found: MatchedPrice, at_ms: int, state: PriceState, units: UnitRegistry, stored: Mapping[str, StoredRule]
) -> prices_pb2.MatchedPrice:
    """What a model costs and why; `stored` are the rules in the books, by id."""
    base = {LIST: state.list, FILE: state.file}.get(found.base)
    return prices_pb2.MatchedPrice(
        provider=found.provider,
        model=found.model,
        at_ms=at_ms,
        rates=[
            _rate(unit, rate, units, _origin(found.origins.get(unit, RateOrigin()), found.base, state))
            for unit, rate in found.card.rates.items()
        ],
        is_free=found.card.is_free,
        defect=found.card.defect,
        base=found.base,
        base_version=base.version if base is not None else "",
        base_name=base.name if base is not None else "",
        prices=[price(stored[rule.id]) for rule in found.rules if rule.id in stored],
        when=dict(found.context),
        variants=[
            prices_pb2.PriceVariant(
                when=dict(variant.context),
                rates=[_rate(unit, rate, units, None) for unit, rate in variant.card.rates.items()],
                is_free=variant.card.is_free,
            )
            for variant in found.variants
        ],
        since_ms=found.since_ms,
        until_ms=found.until_ms,
        is_timed=found.is_timed,
    )


def _rate(
    unit: str, rate: list[Any], units: UnitRegistry, origin: prices_pb2.PriceOrigin | None
) -> prices_pb2.MatchedRate:
    per = units.per(unit)
    each, is_rounded = each_text(rate, per)
    return prices_pb2.MatchedRate(
        unit=unit,
        per=per,
        usd=decimal_text(rate[0], rate[1]),
        tiers=_tiers((tier[0], decimal_text(tier[1], tier[2])) for tier in rate[2:]),
        usd_each=each,
        is_rounded=is_rounded,
        origin=origin,
    )


def _origin(origin: RateOrigin, base: str, state: PriceState) -> prices_pb2.PriceOrigin:
    if origin.rule_id:
        return prices_pb2.PriceOrigin(kind="price", id=origin.rule_id, scaled_by=origin.scaled_by)
    held = state.file if base == FILE and state.file is not None and not origin.is_listed else state.list
    return prices_pb2.PriceOrigin(kind=held.kind if base else "", id=held.version, scaled_by=origin.scaled_by)
