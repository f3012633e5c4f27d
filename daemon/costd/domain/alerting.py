"""Alerts: which thresholds of its budget a window has reached, and how that is said to people."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from costd.domain.budget import Budget
from costd.domain.money import NANO_PER_USD, round_half_even
from costd.domain.window import FOREVER_MS, TOTAL, Window

SETTLED = "settled"
FORECAST = "forecast"

WEBHOOK = "webhook"
SLACK = "slack"
EMAIL = "email"

#: Before so much of a window has passed nobody is told of a forecast: the first calls of a month say nothing of the
#: month, and the month before was told of when it was there.
_LEAST_SHARE = 24
_NANO_PER_CENT = NANO_PER_USD // 100


class Reached(NamedTuple):
    """A threshold as a decimal ("0.8"), and whether what was spent has reached it or the forecast has."""

    threshold: str
    kind: str


class Alert(NamedTuple):
    """What a budget has to say of a window: once for each threshold and kind. Amounts in nano-USD, times in UTC ms.

    `each` is the dimension that `value` is of, "" where the budget has one window for all.
    """

    id: str
    organization: str
    budget_id: str
    budget: str
    each: str
    value: str
    window: Window
    threshold: str
    kind: str
    at_ms: int
    settled_nano: int
    limit_nano: int
    forecast_nano: int | None
    is_test: bool = False


def threshold_text(threshold: Decimal) -> str:
    """A threshold in its one form, so that 1, 1.0 and 1.00 are the same."""
    return f"{threshold.normalize():f}"


def reached(budget: Budget, settled_nano: int, forecast_nano: int | None) -> list[Reached]:
    """The thresholds that were reached, ascending; by the forecast those that were not by what was spent."""
    found = []
    for threshold in budget.thresholds:
        needed_nano = budget.threshold_nano(threshold)
        if settled_nano >= needed_nano:
            found.append(Reached(threshold_text(threshold), SETTLED))
        elif forecast_nano is not None and forecast_nano >= needed_nano:
            found.append(Reached(threshold_text(threshold), FORECAST))
    return found


def may_forecast(period: str, window: Window, now_ms: int) -> bool:
    """Whether a forecast is worth telling yet; False once the window is over."""
    if period == TOTAL or not window.holds(now_ms):
        return False
    return (now_ms - window.start_ms) * _LEAST_SHARE >= window.end_ms - window.start_ms


def headline(alert: Alert) -> str:
    """The alert in one line."""
    if alert.is_test:
        return "This is a test of costd's alerts"
    percent = threshold_text(Decimal(alert.threshold) * 100)
    name = f'Budget "{_line(alert.budget)}"{_whose(alert)}'
    if alert.kind == FORECAST:
        return f"{name}: {percent} % of {dollars(alert.limit_nano)} will be spent before it resets"
    return f"{name}: {percent} % of {dollars(alert.limit_nano)} is spent"


def details(alert: Alert) -> list[tuple[str, str]]:
    """What else is to be said, as (name, text)."""
    if alert.is_test:
        return [("sent", moment(alert.at_ms))]
    forecast = () if alert.forecast_nano is None else (("forecast", dollars(alert.forecast_nano)),)
    end_ms = alert.window.end_ms
    return [
        ("spent", dollars(alert.settled_nano)),
        ("amount", dollars(alert.limit_nano)),
        *forecast,
        ("resets", "never" if end_ms >= FOREVER_MS else moment(end_ms)),
        ("organization", _line(alert.organization)),
        ("found", moment(alert.at_ms)),
    ]


def dollars(nano: int) -> str:
    """An amount for people: "$1,234.50", to the cent."""
    cents = round_half_even(nano, _NANO_PER_CENT)
    sign = "-" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def moment(at_ms: int) -> str:
    """A time for people, to the minute, in UTC."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _whose(alert: Alert) -> str:
    if not alert.each:
        return ""
    return f" ({alert.each} {_line(alert.value)})" if alert.value else f" (no {alert.each})"


def _line(text: str) -> str:
    """A caller's text as part of a line: nothing in it begins another."""
    return "".join(char if char.isprintable() else " " for char in text)
