"""A price rule as people write it: USD for a million tokens or for one of anything, decimal numbers, a few words.

Files, `costd prices list --json` and HTTP share this form; each reads its own moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context as Arithmetic
from decimal import Decimal
from math import gcd
from typing import Any, NamedTuple

from costd.domain.errors import Invalid
from costd.domain.price_rule import FREE, Multiplier, parse_multiplier, parse_rate, parse_threshold
from costd.domain.rates import Context, Rates
from costd.domain.units import ALIASES

#: People say what tokens cost by the million.
PER_MTOK = 1_000_000
_TOKENS = "_tokens"

#: Digits of a quotient that has no end.
_DIGITS = Arithmetic(prec=20)


class ShownRate(NamedTuple):
    """A rate as exact decimal text of USD, and its tiers: (more input tokens than this, the rate from there on)."""

    usd: str
    tiers: tuple[tuple[int, str], ...] = ()


def per_of(unit: str) -> int:
    """How many of a unit people name a price for."""
    return PER_MTOK if unit.endswith(_TOKENS) else 1


def decimal_text(mantissa: int, power: int) -> str:
    """Mantissa × 10^power, exactly, with no more digits than needed: (25, -1) → "2.5"."""
    if power >= 0:
        return str(mantissa * 10**power)
    digits = str(mantissa).rjust(1 - power, "0")
    whole, fraction = digits[:power], digits[power:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def text_for(usd: str, per: int) -> str:
    """What `per` (a power of ten) of a unit cost, from the exact text of what one costs."""
    _, digits, exponent = Decimal(usd).as_tuple()
    assert isinstance(exponent, int)
    return decimal_text(int("".join(map(str, digits))), exponent + len(str(per)) - 1)


def shown_rate(rate: list[Any], per: int) -> ShownRate:
    """A rate for one of a unit as what `per` (a power of ten) of it cost."""
    shift = len(str(per)) - 1
    tiers = tuple((tier[0], decimal_text(tier[1], tier[2] + shift)) for tier in rate[2:])
    return ShownRate(decimal_text(rate[0], rate[1] + shift), tiers)


def each_text(rate: list[Any], per: int) -> tuple[str, bool]:
    """The base rate of one unit, from that of `per`, and whether it had to be rounded, as a third of a dollar has."""
    divisor = gcd(rate[0], per)
    numerator, denominator = rate[0] // divisor, per // divisor
    twos = fives = 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    if denominator == 1:  # it ends
        places = max(twos, fives)
        return decimal_text(numerator * 2 ** (places - twos) * 5 ** (places - fives), rate[1] - places), False
    quotient = _DIGITS.divide(Decimal(rate[0]), Decimal(per))
    _, digits, exponent = quotient.as_tuple()
    assert isinstance(exponent, int)
    return decimal_text(int("".join(map(str, digits))), exponent + rate[1]), True


def shown_multiplier(multiplier: Multiplier | None) -> str | None:
    """A multiplier as decimal text; "0" is free of charge."""
    return None if multiplier is None else decimal_text(*multiplier)


def split_rates(rates: Rates) -> tuple[dict[str, ShownRate], dict[str, ShownRate]]:
    """(what is shown for a million, what is shown for one), by unit."""
    shown = {unit: shown_rate(rate, per_of(unit)) for unit, rate in rates.items()}
    tokens = {unit: rate for unit, rate in shown.items() if unit.endswith(_TOKENS)}
    return tokens, {unit: rate for unit, rate in shown.items() if unit not in tokens}


def read_rates(per_mtok: Mapping[str, object], each: Mapping[str, object]) -> Rates:
    """The rates that two tables of them come to; a unit may be in either. Raises Invalid naming table and unit.

    An entry is a number of USD (or its text), or {"base": number, "above": {input tokens: number, …}}.
    """
    rates: dict[str, list[Any]] = {}
    for field, per, said in (("usd_per_mtok", PER_MTOK, per_mtok), ("usd_each", 1, each)):
        for name, value in said.items():
            unit = ALIASES.get(name, name)
            path = f"{field}.{name[:64]}"
            if unit in rates:
                raise Invalid(path, "has its price already; give one of them")
            rates[unit] = _read_rate(value, path, per)
    return rates


def _read_rate(value: object, field: str, per: int) -> list[Any]:
    if not isinstance(value, Mapping):
        return list(parse_rate(_number(value, field), field, per=per))
    unknown = sorted(map(str, set(value) - {"base", "above"}))
    if unknown:
        raise Invalid(f"{field}.{unknown[0][:64]}", "is not known; a price with tiers has base and above")
    if "base" not in value:
        raise Invalid(f"{field}.base", "is required: the price below the first threshold")
    above = value.get("above", {})
    if not isinstance(above, Mapping):
        raise Invalid(f"{field}.above", 'must map numbers of input tokens to prices: {"200000": 5}')
    base = parse_rate(_number(value["base"], f"{field}.base"), f"{field}.base", per=per)
    return [*base, *(_read_tier(at, usd, f"{field}.above", per) for at, usd in above.items())]


def _read_tier(at: object, usd: object, field: str, per: int) -> list[int]:
    path = f"{field}.{str(at)[:64]}"
    return [parse_threshold(at, path), *parse_rate(_number(usd, path), path, per=per)]


def read_multiplier(multiplier: object, *, free: object) -> Multiplier | None:
    """The multiplier that is meant; `free` is another word for 0."""
    if free is not None and not isinstance(free, bool):
        raise Invalid("free", "must be true or false")
    if multiplier is None:
        return FREE if free else None
    if free is not None:
        raise Invalid("free", "says what multiplier says; give one of them")
    return parse_multiplier(_number(multiplier, "multiplier"))


def read_context(when: object) -> Context:
    """What a record's price context must hold."""
    if not isinstance(when, Mapping):
        raise Invalid("when", 'must map names to words: {"processing": "batch"}')
    for name, word in when.items():
        if not isinstance(name, str) or not isinstance(word, str):
            raise Invalid(f"when.{str(name)[:64]}", "must be text")
    return tuple(sorted(when.items()))


def _number(value: object, field: str) -> Decimal | int | str:
    """What may be a number: JSON's and TOML's own, or its text."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise Invalid(field, "must be a number of USD" if field != "multiplier" else "must be a number")
    return value
