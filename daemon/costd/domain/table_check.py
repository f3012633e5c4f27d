"""Whether what a price table holds about a model can be priced by: its form, part by part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from costd.domain.matching import Rule, is_match

_UNIT = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
#: Beyond every price there is, and cheap to reckon with.
_MAX_MANTISSA = 10**60
_MAX_POWER, _MIN_POWER = 20, -80
_MAX_THRESHOLD = 10**12
#: How many numbers follow a constraint's kind.
_CONSTRAINTS = {"date": 1, "time": 2, "week": 2}


def check_model(raw: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError, TypeError, IndexError or AttributeError unless a model's prices make sense.

    The format is that of costd.store.price_compiler.
    """
    _hold(isinstance(raw["id"], str) and bool(raw["prices"]))
    for constraint, rates in raw["prices"]:
        _check_constraint(constraint)
        _check_rates(rates)
    for when, constraint, rates in raw.get("variants", []):
        _hold(all(isinstance(key, str) and isinstance(word, str) for key, word in when.items()))
        _check_constraint(constraint)
        _check_rates(rates)
    if raw.get("minimum"):
        units, quantity = raw["minimum"]
        _hold(all(_UNIT.match(unit) for unit in units))
        _check_whole(quantity, 0, _MAX_THRESHOLD)


def check_rule(rule: Rule) -> None:
    """Raise the same unless a rule for names is one."""
    if rule[0] in {"|", "&"}:
        _hold(len(rule) > 1)
        for each in rule[1:]:
            check_rule(each)
        return
    _hold(rule[0] in {"=", "^", "$", "*", "~"} and len(rule) == 2 and isinstance(rule[1], str))
    try:
        is_match(rule, "x")
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None


def _check_constraint(constraint: Any) -> None:
    if constraint is None:
        return
    kind, *numbers = constraint
    _hold(_CONSTRAINTS.get(kind) == len(numbers))
    for number in numbers:
        _check_whole(number, 0, 10**9)


def _check_rates(rates: Mapping[str, Any]) -> None:
    for unit, (mantissa, power, *tiers) in rates.items():
        _hold(_UNIT.match(unit) is not None)
        _check_rate(mantissa, power)
        for threshold, tier_mantissa, tier_power in tiers:
            _check_whole(threshold, 0, _MAX_THRESHOLD)
            _check_rate(tier_mantissa, tier_power)


def _check_rate(mantissa: Any, power: Any) -> None:
    _check_whole(mantissa, 0, _MAX_MANTISSA)
    _check_whole(power, _MIN_POWER, _MAX_POWER)


def _check_whole(number: Any, least: int, most: int) -> None:
    _hold(type(number) is int and least <= number <= most)


def _hold(condition: bool) -> None:
    if not condition:
        raise ValueError("a price table that says what makes no sense")
