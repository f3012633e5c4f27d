"""Price rules: what an operator says a model costs, for whom, from when, and which of several rules is the stronger.

A rule names rates for some units and, if wanted, a multiplier for all it names no rate for. What it leaves open stays
what it would be without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from costd.domain.errors import Invalid
from costd.domain.rates import Context, Rates
from costd.domain.units import ALIASES, MAX_DECIMAL_PLACES, MAX_UNITS
from costd.domain.usage import check_string

#: A multiplier in exact form: mantissa and power of ten.
Multiplier = tuple[int, int]

FREE: Multiplier = (0, 0)

#: More USD for one of anything is a slip of the keyboard.
MAX_RATE_USD = 1_000_000
#: A contract may cost more than the list, but not by this much.
MAX_MULTIPLIER = 1_000

MAX_CONTEXT = 16
MAX_TIERS = 16
#: Year 2000 and 2200: outside of them a date is a mistake.
MIN_MS = 946_684_800_000
MAX_MS = 7_258_118_400_000

_UNIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
#: Of USD for one of a unit: as many as tokens have that are priced by the million with 30.
_MAX_PLACES = MAX_DECIMAL_PLACES + 6
#: No number of USD needs more digits.
_MAX_DIGITS = 64
_WILDCARD = "*"


class PriceRule(NamedTuple):
    """One rule. `provider` "" is any; `model` is lower case, "*" at its end stands for any rest.

    `rates` are exact USD for one of a unit, as {unit: [mantissa, power of ten, [threshold, mantissa, power], …]}; a
    tier's rate is that of every unit of a call with more input tokens than its threshold. The rule applies where the
    record's price context holds all of `context`, from `from_ms` up to but without `until_ms`.
    """

    id: str
    org_id: int | None
    provider: str
    model: str
    context: Context
    rates: Rates
    multiplier: Multiplier | None
    from_ms: int
    until_ms: int | None = None
    note: str = ""

    def is_active(self, at_ms: int) -> bool:
        """Whether the rule is in force at a time."""
        return self.from_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    def fits(self, context: Mapping[str, str]) -> bool:
        """Whether a record's price context holds everything this rule wants."""
        return all(context.get(key) == word for key, word in self.context)

    @property
    def scope(self) -> tuple[object, ...]:
        """Whom and what it is for, in any context."""
        return self.org_id, self.provider, self.model

    def replaces(self, held: PriceRule) -> bool:
        """Whether nothing is left of another rule once this newer one is in the books."""
        covered = held.rates.keys() <= self.rates.keys() and (held.multiplier is None or self.multiplier is not None)
        return covered and self._replace(id="", rates={}, multiplier=None, note="") == held._replace(
            id="", rates={}, multiplier=None, note=""
        )

    def says_the_same(self, other: PriceRule) -> bool:
        """Whether both say the same of the same, from whenever on."""
        mine, theirs = (rule._replace(id="", from_ms=0) for rule in (self, other))
        return mine == theirs

    def contends(self, other: PriceRule) -> bool:
        """Whether of this rule and another of its scope the later one decides about something."""
        both = {*self.context, *other.context}
        never_together = len({key for key, _ in both}) < len(both)
        if never_together or len(self.context) != len(other.context):
            return False
        both_scale = self.multiplier is not None and other.multiplier is not None
        return both_scale or not self.rates.keys().isdisjoint(other.rates)

    def closeness(self, name: str, listed: str) -> int:
        """How closely the rule's model is the one meant: 0 not at all, more is closer.

        `name` is the model as sent, `listed` what a price list calls it ("" if it does not know it); both lower case.
        """
        if self.model.endswith(_WILDCARD):
            prefix = self.model[:-1]
            return 1 + len(prefix) if name.startswith(prefix) or (listed and listed.startswith(prefix)) else 0
        if self.model == name:
            return _EXACT + 1
        return _EXACT if listed and self.model == listed else 0

    def strength(self, name: str, listed: str) -> tuple[int, bool, int, int, str]:
        """Sorts the rules of one level that apply: the closer name, a provider, more context, the later, the newer."""
        return self.closeness(name, listed), bool(self.provider), len(self.context), self.from_ms, self.id


#: Above the length of any name.
_EXACT = 1_000


def check_rule(rule: PriceRule) -> PriceRule:
    """The rule in its one form; Invalid, naming the field, where it makes no sense."""
    model = rule.model.strip().lower()
    if not model:
        raise Invalid("model", 'is required: the model as it is sent, "*" at its end for any rest')
    if _WILDCARD in model[:-1]:
        raise Invalid("model", 'may have "*" at its end only')
    for field, text in (("model", model), ("provider", rule.provider), ("note", rule.note)):
        check_string(text, field)
    if not rule.rates and rule.multiplier is None:
        raise Invalid("rates", "are missing: give at least one rate, or a multiplier")
    if len(rule.rates) > MAX_UNITS:
        raise Invalid("rates", f"must be for at most {MAX_UNITS} units")
    _check_context(rule.context)
    check_moment(rule.from_ms, "from")
    if rule.until_ms is not None:
        check_moment(rule.until_ms, "until")
        if rule.until_ms <= rule.from_ms:
            raise Invalid("until", "must be after from")
    return rule._replace(model=model, rates=_canonical(rule.rates), context=tuple(sorted(rule.context)))


def _check_context(context: Context) -> None:
    if len(context) > MAX_CONTEXT:
        raise Invalid("context", f"must be at most {MAX_CONTEXT} entries")
    for key, word in context:
        check_string(key, "context")
        check_string(word, f"context.{key[:64]}")
        if not key or not word:
            raise Invalid("context", "must have names and values that are not empty")


def check_moment(at_ms: int, field: str) -> None:
    """Raise Invalid unless `at_ms` is a moment that prices can have."""
    if not MIN_MS <= at_ms <= MAX_MS:
        raise Invalid(field, "must be between the years 2000 and 2200")


def parse_rate(amount: Decimal | int | str, field: str, *, per: int = 1) -> list[int]:
    """[mantissa, power of ten] of exact USD for one unit, from USD for `per` of it; Invalid names `field`.

    `per` is a power of ten.
    """
    return _exact(amount, field, MAX_RATE_USD * per, len(str(per)) - 1)


def parse_threshold(at: object, field: str) -> int:
    """A whole number of input tokens that a tier begins above, also as text."""
    text = str(at)
    if isinstance(at, bool) or not (text.isascii() and text.isdigit() and len(text) <= 13 and 0 < int(text) <= 10**12):
        raise Invalid(field, "must begin above a whole number of input tokens")
    return int(text)


def parse_multiplier(amount: Decimal | int | str, field: str = "multiplier") -> Multiplier:
    """The exact form of a multiplier: 0.8 is a fifth less, 0 is free of charge."""
    mantissa, power = _exact(amount, field, MAX_MULTIPLIER, 0)
    return mantissa, power


def scaled(rate: list[Any], factor: Multiplier) -> list[Any]:
    """A rate, its tiers included, times a multiplier; exact."""
    mantissa, power = factor
    tiers = ([tier[0], tier[1] * mantissa, tier[2] + power] for tier in rate[2:])
    return [rate[0] * mantissa, rate[1] + power, *tiers]


def per_unit(rate: list[Any], per: int) -> list[Any]:
    """A rate for one as a rate for `per`, tiers included; exact."""
    return [rate[0] * per, rate[1], *([tier[0], tier[1] * per, tier[2]] for tier in rate[2:])]


def _exact(amount: Decimal | int | str, field: str, limit: int, shift: int) -> list[int]:
    if isinstance(amount, str) and not (len(amount) <= _MAX_DIGITS and _NUMBER.match(amount)):
        raise Invalid(field, 'must be a number such as "2.5"')
    exact = Decimal(amount)
    if not exact.is_finite():
        raise Invalid(field, "must be a finite number")
    if exact < 0:
        raise Invalid(field, "must not be negative")
    if exact > limit:
        raise Invalid(field, f"must be at most {limit}")
    _, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    if exponent - shift < -_MAX_PLACES:
        raise Invalid(field, f"must have at most {_MAX_PLACES - shift} decimal places")
    mantissa = int("".join(map(str, digits)) or "0")
    while mantissa and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    return [mantissa, exponent - shift] if mantissa else [0, 0]


def _canonical(rates: Rates) -> Rates:
    """The rates under the list's own names of units, tiers in order."""
    renamed: dict[str, list[Any]] = {}
    for name, rate in rates.items():
        own = ALIASES.get(name, name)
        if not _UNIT_NAME.match(own):
            raise Invalid(f"rates.{name[:64]}", "is not a unit: use lower-case letters, digits and underscores")
        if own in renamed:
            raise Invalid(f"rates.{name}", f"is the same unit as {own}; give one of them")
        if len(rate) - 2 > MAX_TIERS:
            raise Invalid(f"rates.{name}", f"must have at most {MAX_TIERS} tiers")
        tiers = sorted(rate[2:])
        if len({tier[0] for tier in tiers}) != len(tiers):
            raise Invalid(f"rates.{name}", "has two tiers with the same threshold")
        renamed[own] = [*rate[:2], *tiers]
    return dict(sorted(renamed.items()))
