"""Forecasts: to the window's end and no further, by what was spent in one window's length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from costd.domain.days import DAY_MS, HOUR_MS
from costd.domain.forecast import Pace, exhausted_in_s, forecast_nano, pace_of
from costd.domain.window import DAY, FOREVER_MS, MONTH, TOTAL, Window

USD = 10**9
MONTH_LONG = Window(0, 30 * DAY_MS)


def forecast_at(day: float, settled: int, before: int | None, window: Window = MONTH_LONG) -> int | None:
    now_ms = window.start_ms + round(day * DAY_MS)
    return forecast_nano(settled, pace_of(MONTH, window, settled, before, now_ms), window, now_ms)


def test_without_a_window_before_the_present_one_goes_on_as_it_began() -> None:
    assert forecast_at(15, 50 * USD, None) == 100 * USD
    assert forecast_at(30, 50 * USD, None) == 50 * USD


def test_a_first_call_says_nothing_of_the_month() -> None:
    """Its pace is measured over a day and a quarter at least."""
    assert forecast_at(0, USD, None) == 25 * USD
    assert (forecast_at(1.25, USD, None) or 0) == 24 * USD


def test_a_month_that_begins_is_expected_to_be_like_the_last() -> None:
    assert forecast_at(0, 0, 80 * USD) == 80 * USD
    assert forecast_at(15, 40 * USD, 80 * USD) == 80 * USD
    assert forecast_at(30, 10 * USD, 80 * USD) == 10 * USD


def test_what_has_no_end_has_no_forecast() -> None:
    window = Window(0, FOREVER_MS)
    assert pace_of(TOTAL, window, USD, None, DAY_MS) is None
    assert forecast_nano(USD, None, window, DAY_MS) is None


def test_when_it_is_exhausted() -> None:
    """At the pace, if that is before the window's end; at once where nothing is left."""
    window, pace = Window(0, DAY_MS), Pace(10 * USD, HOUR_MS)
    assert exhausted_in_s(5 * USD, pace, window, 0) == 1_800
    assert exhausted_in_s(5 * USD, pace, window, DAY_MS - HOUR_MS // 2) is None
    assert exhausted_in_s(0, None, window, 0) == 0
    assert exhausted_in_s(USD, None, window, 0) is None
    assert exhausted_in_s(USD, Pace(0, 1), window, 0) is None
    assert exhausted_in_s(USD, Pace(10 * USD, HOUR_MS), Window(0, FOREVER_MS), 0) == 360


@given(
    settled=st.integers(-(10**18), 9 * 10**18),
    before=st.none() | st.integers(-(10**18), 9 * 10**18),
    length_ms=st.integers(1, 366 * DAY_MS),
    at_ms=st.integers(-DAY_MS, 400 * DAY_MS),
)
def test_it_is_never_less_than_what_was_spent(settled: int, before: int | None, length_ms: int, at_ms: int) -> None:
    """And at the window's end it is just that, whatever the clock says."""
    window = Window(DAY_MS, DAY_MS + length_ms)
    pace = pace_of(DAY, window, settled, before, at_ms)
    assert pace is not None
    found = forecast_nano(settled, pace, window, at_ms)
    assert found is not None
    assert found >= settled
    if at_ms >= window.end_ms:
        assert found == settled
