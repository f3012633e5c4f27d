"""`/api/prices`: prices are set, replaced, removed, listed, and asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from functools import partial
from typing import Any

from msgspec import Raw

from costd.domain.days import day_start_ms
from costd.domain.errors import Invalid
from costd.domain.layered_prices import RateOrigin
from costd.domain.price_form import (
    PER_MTOK,
    ShownRate,
    decimal_text,
    each_text,
    read_multiplier,
    read_rates,
    shown_multiplier,
    split_rates,
    text_for,
)
from costd.domain.price_rule import MIN_MS, PriceRule
from costd.domain.pricebook import MatchedPrice
from costd.domain.units import UnitRegistry
from costd.domain.usage import check_string
from costd.services.price_checks import NewRule
from costd.services.price_rules import RuleSet
from costd.services.prices import Prices
from costd.store.price_rules import StoredRule
from costd.store.price_sources import FILE, LIST
from costd.wire.web.answers import rfc3339
from costd.wire.web.moments import parse_day, parse_timestamp
from costd.wire.web.price_structs import (
    Base,
    Matched,
    MatchedRate,
    MatchQuery,
    Price,
    PriceBody,
    PriceList,
    PriceQuery,
    PriceSet,
    Variant,
)
from costd.wire.web.route import Call

_ALWAYS = "always"
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)

#: The services' names of fields → this surface's.
FIELD_NAMES = {"context": "when", "prices[0].context": "when"}


async def list_prices(call: Call) -> object:
    """The prices that were set, newest first."""
    asked: PriceQuery = call.query
    check_string(asked.model or "", "model")
    found: list[StoredRule] = await call.read(
        partial(call.services.price_rules.rules, call.caller, model=asked.model or "", removed=asked.removed)
    )
    return call.envelope(PriceList(prices=[_price(held) for held in found]))


async def one_price(call: Call) -> object:
    """One price, of the past too."""
    check_string(call.path["id"], "id")
    held: StoredRule = await call.read(call.services.price_rules.rule, call.caller, call.path["id"])
    return call.envelope(_price(held))


async def set_price(call: Call) -> object:
    """Set a price; in force when it is answered."""
    new = _new_rule(call.body)
    try:
        done: list[RuleSet] = await call.read(call.services.price_rules.set_rules, call.caller, [new])
    except Invalid as refusal:
        raise _named_as_here(refusal, call.body) from None
    outcome = done[0]
    prices = call.services.prices
    before, after = (
        None if found is None else _matched(found, outcome.at_ms, prices) for found in (outcome.before, outcome.after)
    )
    return call.envelope(PriceSet(_price(outcome.stored), outcome.is_new, outcome.from_chosen, before, after))


async def replace_price(call: Call) -> object:
    """Set a price in the place of another, which stays in the history."""
    check_string(call.path["id"], "id")
    new = _new_rule(call.body)
    try:
        held: StoredRule = await call.read(call.services.price_rules.replace_rule, call.caller, call.path["id"], new)
    except Invalid as refusal:
        raise _named_as_here(refusal, call.body) from None
    return call.envelope(_price(held))


async def remove_price(call: Call) -> object:
    """Remove a price, which stays in the history."""
    check_string(call.path["id"], "id")
    held: StoredRule = await call.read(call.services.price_rules.remove_rule, call.caller, call.path["id"])
    return call.envelope(_price(held))


async def match_price(call: Call) -> object:
    """What a model costs at a moment, and why."""
    asked: MatchQuery = call.query
    prices = call.services.prices
    for name in ("model", "provider", "org"):
        check_string(getattr(asked, name) or "", name)
    at_ms = _moment(asked.at, "at") if asked.at else prices.now_ms()
    found: MatchedPrice = await call.read(
        prices.match, call.caller, asked.provider or "", asked.model, at_ms, _when_of(asked.when or ""), asked.org or ""
    )
    assert at_ms is not None
    return call.envelope(_matched(found, at_ms, prices))


def _new_rule(sent: PriceBody) -> NewRule:
    """The price in a body; raises Invalid naming the field."""
    rule = PriceRule(
        id="",
        org_id=None,
        provider=sent.provider or "",
        model=sent.model,
        context=tuple(sorted((sent.when or {}).items())),
        rates=read_rates(sent.usd_per_mtok or {}, sent.usd_each or {}),
        multiplier=read_multiplier(sent.multiplier, free=sent.free),
        from_ms=MIN_MS,
        until_ms=_moment(sent.until, "until"),
        note=sent.note or "",
    )
    check_string(sent.org or "", "org")
    return NewRule(rule, sent.org or "", _moment(sent.from_, "from", may_be_always=True))


def _named_as_here(refusal: Invalid, sent: PriceBody) -> Invalid:
    """A refusal, its field named as in the body."""
    field = refusal.field.removeprefix("prices[0]").removeprefix(".")
    head, dot, rest = field.partition(".")
    if head == "rates":
        table = "usd_each" if rest in (sent.usd_each or {}) else "usd_per_mtok"
        return refusal.renamed(f"{table}{dot}{rest}")
    return refusal.renamed(field)


def _moment(value: object, field: str, *, may_be_always: bool = False) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        if may_be_always and text.lower() == _ALWAYS:
            return MIN_MS
        if _DAY.match(text):
            return day_start_ms(parse_day(text, field), UTC)
    return parse_timestamp(value, field)


def _when_of(text: str) -> tuple[tuple[str, str], ...]:
    words: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        name, equals, word = (part.strip() for part in pair.partition("="))
        if not (equals and name and word):
            raise Invalid("when", "must be names and values: processing=batch,service_tier=priority")
        check_string(name, "when")
        check_string(word, f"when.{name}")
        words[name] = word
    return tuple(sorted(words.items()))


def _price(held: StoredRule) -> Price:
    rule = held.rule
    per_mtok, each = split_rates(rule.rates)
    multiplier = shown_multiplier(rule.multiplier)
    return Price(
        id=rule.id,
        model=rule.model,
        provider=rule.provider or None,
        org=held.org,
        when=dict(rule.context),
        usd_per_mtok={unit: _rate(rate) for unit, rate in per_mtok.items()},
        usd_each={unit: _rate(rate) for unit, rate in each.items()},
        multiplier=None if multiplier is None else Raw(multiplier.encode()),
        from_=_ALWAYS if rule.from_ms == MIN_MS else rfc3339(rule.from_ms),
        until=_rfc3339_or_none(rule.until_ms),
        note=rule.note,
        created=rfc3339(held.created_ms),
        created_by=held.created_by or None,
        created_by_name=held.created_by_name or None,
        removed=_rfc3339_or_none(held.removed_ms),
        removed_by=held.removed_by or None,
        removed_by_name=held.removed_by_name or None,
    )


def _rate(rate: ShownRate) -> Raw:
    if not rate.tiers:
        return Raw(rate.usd.encode())
    above = ",".join(f'"{tokens}":{usd}' for tokens, usd in rate.tiers)
    return Raw(f'{{"base":{rate.usd},"above":{{{above}}}}}'.encode())


def _matched(found: MatchedPrice, at_ms: int, prices: Prices) -> Matched:
    state, units = prices.state, prices.book.units
    table = {LIST: state.list, FILE: state.file}.get(found.base)
    base = None if table is None else Base(table.kind, table.version, table.name or None)
    origins = {unit: found.origins.get(unit, RateOrigin()) for unit in found.card.rates}
    return Matched(
        provider=found.provider or None,
        model=found.model,
        at=rfc3339(at_ms),
        when=dict(found.context),
        rates=_rates(found.card.rates, units, origins, base, state.list.version),
        free=found.card.is_free,
        defect=found.card.defect or None,
        since=_rfc3339_or_none(found.since_ms),
        until=_rfc3339_or_none(found.until_ms),
        varies_by_time_of_day=found.is_timed,
        base=base,
        prices=[rule.id for rule in found.rules],
        variants=[
            Variant(dict(variant.context), variant.card.is_free, _rates(variant.card.rates, units, {}, None, ""))
            for variant in found.variants
        ],
    )


def _rates(
    rates: Mapping[str, list[Any]],
    units: UnitRegistry,
    origins: Mapping[str, RateOrigin],
    base: Base | None,
    list_version: str,
) -> list[MatchedRate]:
    """Each unit's rate; without `origins` it is not said where they come from."""
    shown = []
    for unit, rate in rates.items():
        each, is_rounded = each_text(rate, units.per(unit))
        origin = origins.get(unit)
        source, source_id = (base.kind, base.version) if origin is not None and base is not None else (None, None)
        if origin is not None and origin.rule_id:
            source, source_id = "price", origin.rule_id
        elif origin is not None and origin.is_listed:
            source, source_id = LIST, list_version
        shown.append(
            MatchedRate(
                unit=unit,
                usd=Raw(decimal_text(rate[0], rate[1]).encode()),
                per=units.per(unit),
                usd_each=Raw(each.encode()),
                usd_each_is_rounded=is_rounded,
                usd_per_mtok=Raw(text_for(each, PER_MTOK).encode()) if unit.endswith("_tokens") else None,
                above={str(tier[0]): Raw(decimal_text(tier[1], tier[2]).encode()) for tier in rate[2:]},
                source=source,
                source_id=source_id,
                scaled_by=list(origin.scaled_by) if origin is not None else [],
            )
        )
    return shown


def _rfc3339_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
