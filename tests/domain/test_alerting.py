"""Which thresholds are reached, and the words of alerts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from costd.domain.alerting import (
    FORECAST,
    SETTLED,
    Alert,
    Reached,
    details,
    dollars,
    headline,
    may_forecast,
    reached,
    threshold_text,
)
from costd.domain.budget import Budget
from costd.domain.window import FOREVER_MS, MONTH, TOTAL, Window

USD = 10**9
DAY_MS = 86_400_000
WINDOW = Window(0, 30 * DAY_MS)


def budget(usd: int, *thresholds: str) -> Budget:
    return Budget("id", 1, "video", (("team", "video"),), usd * USD, thresholds=tuple(map(Decimal, thresholds)))


def alert(**fields: Any) -> Alert:
    made = Alert(
        "id", "default", "b", "video", "", "", WINDOW, "0.8", SETTLED, DAY_MS, 81_234_567_890, 100 * USD, None
    )  # fmt: skip
    return made._replace(**fields)


@pytest.mark.parametrize(
    ("settled", "forecast", "expected"),
    [
        (0, None, []),
        (50 * USD - 1, None, []),
        (50 * USD, None, [Reached("0.5", SETTLED)]),
        (50 * USD, 100 * USD, [Reached("0.5", SETTLED), Reached("0.8", FORECAST), Reached("1", FORECAST)]),
        (79 * USD, 79 * USD, [Reached("0.5", SETTLED)]),
        (500 * USD, None, [Reached("0.5", SETTLED), Reached("0.8", SETTLED), Reached("1", SETTLED)]),
        (-5 * USD, None, []),
    ],
)
def test_a_threshold_is_reached_by_what_is_spent_or_else_by_the_forecast(
    settled: int, forecast: int | None, expected: list[Reached]
) -> None:
    assert reached(budget(100, "0.5", "0.80", "1.0"), settled, forecast) == expected


def test_of_a_budget_of_nothing_every_threshold_is_reached_by_the_first_spend_and_not_before() -> None:
    assert reached(budget(0, "0.5", "1"), 0, 0) == []
    assert reached(budget(0, "0.5", "1"), 1, None) == [Reached("0.5", SETTLED), Reached("1", SETTLED)]


@pytest.mark.parametrize(
    ("given", "text"), [("1", "1"), ("1.00", "1"), ("0.50", "0.5"), ("10", "10"), ("0.0001", "0.0001")]
)
def test_a_threshold_has_one_form(given: str, text: str) -> None:
    assert threshold_text(Decimal(given)) == text


def test_a_forecast_is_told_from_a_24th_of_the_window_on_until_its_end() -> None:
    share_ms = 30 * DAY_MS // 24
    assert [may_forecast(MONTH, WINDOW, at) for at in (0, share_ms - 1, share_ms, 30 * DAY_MS - 1, 30 * DAY_MS)] == [
        False, False, True, True, False,
    ]  # fmt: skip
    assert not may_forecast(TOTAL, Window(0, FOREVER_MS), 15 * DAY_MS)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, 'Budget "video": 80 % of $100.00 is spent'),
        ({"threshold": "1"}, 'Budget "video": 100 % of $100.00 is spent'),
        ({"threshold": "10"}, 'Budget "video": 1000 % of $100.00 is spent'),
        ({"threshold": "0.125"}, 'Budget "video": 12.5 % of $100.00 is spent'),
        ({"kind": FORECAST}, 'Budget "video": 80 % of $100.00 will be spent before it resets'),
        ({"each": "user", "value": "ada"}, 'Budget "video" (user ada): 80 % of $100.00 is spent'),
        ({"each": "user"}, 'Budget "video" (no user): 80 % of $100.00 is spent'),
        ({"budget": "a\r\nBcc: b\x00"}, 'Budget "a  Bcc: b ": 80 % of $100.00 is spent'),
        ({"is_test": True}, "This is a test of costd's alerts"),
    ],
)
def test_an_alert_is_one_line(fields: dict[str, Any], line: str) -> None:
    assert headline(alert(**fields)) == line


def test_what_else_is_said() -> None:
    assert details(alert(forecast_nano=120 * USD)) == [
        ("spent", "$81.23"),
        ("amount", "$100.00"),
        ("forecast", "$120.00"),
        ("resets", "1970-01-31 00:00 UTC"),
        ("organization", "default"),
        ("found", "1970-01-02 00:00 UTC"),
    ]
    assert ("resets", "never") in details(alert(window=Window(0, FOREVER_MS)))


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "$0.00"), (5_000_000, "$0.00"), (15_000_000, "$0.02"), (1_234_567 * USD, "$1,234,567.00"), (-USD, "-$1.00")],
)
def test_dollars_are_to_the_cent(nano: int, text: str) -> None:
    assert dollars(nano) == text
