"""Prices in words and tables, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context

from costd.cli.moments import iso
from costd.cli.price_entries import from_text
from costd.domain.price_form import PER_MTOK, text_for
from costd.v1 import prices_pb2

#: As many digits as people read of a number that has no end.
_SHORT = Context(prec=6)


def rate_words(usd: str, tiers: Iterable[prices_pb2.PriceTier]) -> str:
    """`$1.25, above 200,000 input tokens $2.5`."""
    return ", ".join([f"${usd}", *(f"above {tier.above_input_tokens:,} input tokens ${tier.usd}" for tier in tiers)])


def per_words(per: int) -> str:
    """For how many a price is."""
    return "each" if per == 1 else f"per {per:,}"


def unit_words(rates: Sequence[prices_pb2.UnitPrice], multiplier: str | None) -> str:
    """What a price that was set says: `input_tokens $2.5/M, images $0.04`."""
    said = [_unit(rate) for rate in rates]
    if multiplier is not None:
        rest = "the rest " if said else ""
        said.append(f"{rest}free" if multiplier == "0" else f"{rest}×{multiplier}")
    return ", ".join(said)


def _unit(rate: prices_pb2.UnitPrice) -> str:
    if not rate.unit.endswith("_tokens"):
        return f"{rate.unit} {rate_words(rate.usd, rate.tiers)}"
    tiers = "".join(f", above {tier.above_input_tokens:,} ${text_for(tier.usd, PER_MTOK)}" for tier in rate.tiers)
    return f"{rate.unit} ${text_for(rate.usd, PER_MTOK)}/M{tiers}"


def when_words(when: Mapping[str, str]) -> str:
    """`processing=batch`."""
    return ", ".join(f"{name}={word}" for name, word in sorted(when.items()))


def whom_words(price: prices_pb2.Price) -> str:
    """Whom a price is for."""
    return f"organization {price.org}" if price.org else "everybody"


def what_words(price: prices_pb2.Price) -> str:
    """What a price is of: `gpt-4o of openai, when processing=batch`."""
    model = price.model if not price.model.endswith("*") else f"{price.model} (all models that begin so)"
    provider = f" of {price.provider}" if price.provider else ""
    return f"{model}{provider}{f', when {when_words(price.when)}' if price.when else ''}"


def span_words(price: prices_pb2.Price) -> str:
    """From when until when a price holds."""
    until = f" until {iso(price.until_ms)}" if price.HasField("until_ms") else ""
    start = from_text(price.from_ms)
    return f"{start}{until}" if start == "always" else f"from {start}{until}"


def changed_rows(before: prices_pb2.MatchedPrice | None, after: prices_pb2.MatchedPrice) -> list[list[str]]:
    """(unit, before, after, for how many) of every unit whose rate is another than it was."""
    was = {rate.unit: rate for rate in before.rates} if before is not None else {}
    free_before = before is not None and before.is_free
    rows = []
    for unit in dict.fromkeys([*(rate.unit for rate in after.rates), *was]):
        old, new = was.get(unit), next((rate for rate in after.rates if rate.unit == unit), None)
        texts = [
            rate_words(rate.usd, rate.tiers) if rate is not None else ("free" if is_free else "-")
            for rate, is_free in ((old, free_before), (new, after.is_free))
        ]
        if texts[0] != texts[1]:
            per = (new or old or prices_pb2.MatchedRate(per=1)).per
            rows.append([unit, *texts, per_words(per)])
    return rows


def each_words(rate: prices_pb2.MatchedRate) -> str:
    """What one of a unit costs."""
    if not rate.is_rounded:
        return f"${rate.usd_each}"
    return f"≈ ${_SHORT.create_decimal(rate.usd_each):f}"


def per_mtok_text(rate: prices_pb2.MatchedRate) -> str | None:
    """USD for a million of a unit of tokens; None for other units."""
    return text_for(rate.usd_each, PER_MTOK) if rate.unit.endswith("_tokens") else None
