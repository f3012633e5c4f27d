"""Days, months and zones: when they begin, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costd.domain import days
from costd.domain.days import DAY_MS, HOUR_MS


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-03-08", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kolkata", "2026-03-29", 24),
        # Midnight itself is skipped, comes twice, or its whole day never was.
        ("America/Havana", "2026-03-08", 23),
        ("America/Havana", "2026-11-01", 25),
        ("Pacific/Apia", "2011-12-30", 0),
        ("Pacific/Apia", "2011-12-31", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(zone: str, day: str, hours: float) -> None:
    first = date.fromisoformat(day)
    span = days.days_span(first, first, ZoneInfo(zone))
    assert span.start_ms is not None
    assert span.end_ms is not None
    assert (span.end_ms - span.start_ms) / HOUR_MS == hours


@given(
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu", "America/Havana", "Pacific/Apia"]),
    at_ms=st.integers(946_684_800_000, 4_102_444_800_000),
)
def test_every_moment_is_in_its_day_and_in_no_other(zone: str, at_ms: int) -> None:
    where = ZoneInfo(zone)
    day = days.day_of(at_ms, where)
    assert days.day_start_ms(day, where) <= at_ms < days.day_start_ms(day + timedelta(days=1), where)


def test_the_days_of_a_month_follow_each_other() -> None:
    where = ZoneInfo("Europe/Berlin")
    bounds = days.day_bounds_ms(date(2026, 10, 1), date(2026, 10, 31), where)
    assert (bounds[0], bounds[-1]) == days.days_span(date(2026, 10, 1), days.last_day(2026, 10), where)
    assert sorted({high - low for low, high in pairwise(bounds)}) == [DAY_MS, DAY_MS + HOUR_MS]


@given(hour=st.integers(0, 1_200_000))
def test_the_month_of_an_hour_begins_before_it_and_ends_after(hour: int) -> None:
    number = days.month_of_hour(hour)
    assert days.first_hour_of_month(number) <= hour < days.first_hour_of_month(number + 1)
    at = datetime.fromtimestamp(hour * 3600, UTC)
    assert number == at.year * 12 + at.month - 1
