"""Where a month is heading, and what has no price is never $0."""

from __future__ import annotations

import pytest

from costd.domain.days import DAY_MS
from costd.domain.money import cents_text
from costd.domain.projection import WEEK_MS, per_hour_nano, projected_nano, trend
from costd.domain.spend import Spend, cost_with_entries


def spend(cost_nano: int, requests: int = 1, unpriced: int = 0, tokens: int = 0) -> Spend:
    return Spend(requests, tokens, 0, 0, cost_nano, unpriced)


@pytest.mark.parametrize(
    ("spent", "week", "observed_ms", "remaining_ms", "expected"),
    [
        (100, spend(70), 30 * DAY_MS, 10 * DAY_MS, 200),
        (100, spend(70), 3 * DAY_MS, 6 * DAY_MS, 240),  # three days old: a day costs 70 / 3
        (100, spend(70), 60_000, DAY_MS, 170),  # a minute old: taken for a day
        (100, spend(0, requests=0), WEEK_MS, 5 * DAY_MS, 100),
        (100, spend(70), WEEK_MS, 0, 100),
        (None, spend(70), WEEK_MS, DAY_MS, None),
        (100, spend(0, requests=2, unpriced=2), WEEK_MS, DAY_MS, None),
    ],
)
def test_projection(spent: int | None, week: Spend, observed_ms: int, remaining_ms: int, expected: int | None) -> None:
    assert projected_nano(spent, week, observed_ms, remaining_ms) == expected


@pytest.mark.parametrize(
    ("week", "before", "word"),
    [
        (spend(0, 0), spend(0, 0), "stable"),
        (spend(110), spend(100), "stable"),
        (spend(111), spend(100), "increasing"),
        (spend(90), spend(100), "stable"),
        (spend(89), spend(100), "decreasing"),
        (spend(1), spend(0), "increasing"),
        (spend(0, unpriced=1, tokens=200), spend(0, unpriced=1, tokens=100), "increasing"),
    ],
)
def test_trend(week: Spend, before: Spend, word: str) -> None:
    assert trend(week, before) == word


def test_rates_are_rounded_half_even() -> None:
    assert [per_hour_nano(nano, 2) for nano in (1, 2, 3)] == [0, 1, 2]
    assert per_hour_nano(100, 24, 24) == 100
    assert per_hour_nano(None, 24) is None


def test_a_cost_is_shown_only_where_something_has_a_price() -> None:
    assert spend(0, requests=0).shown_cost_nano == 0
    assert spend(0, requests=2, unpriced=2).shown_cost_nano is None
    assert spend(5, requests=2, unpriced=1).shown_cost_nano == 5
    assert cost_with_entries(spend(0, requests=2, unpriced=2), 1, 7) == 7
    assert cost_with_entries(spend(0, requests=2, unpriced=2), 0, 0) is None


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (2_140_000, "0.214"),
        (1, "0.0000001"),
        (10_000_000, "1"),
        (123_000_000_000, "12300"),
        (-5_000_000, "-0.5"),
    ],
)
def test_cents(nano: int, text: str) -> None:
    assert cents_text(nano) == text
