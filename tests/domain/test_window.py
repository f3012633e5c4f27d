"""Windows tile time: no gap, no overlap, whatever the clocks of a zone do."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from costd.domain.errors import Invalid
from costd.domain.window import FOREVER_MS, PERIODS, TOTAL, Window, Windows, check_period, zone_of

ZONES = (
    "UTC",
    "Europe/London",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",  # put its clock back at 00:01, so that a date came again after the next had begun
    "America/Nuuk",
    "Pacific/Apia",  # never had 30 December 2011
)
HOUR_MS = 3_600_000
MOMENTS = st.integers(946_684_800_000, 4_102_444_800_000)
#: Around what clocks do: London 2026, New York 2026, St. John's 2010, São Paulo 2018/2019, Lord Howe 2026, Samoa 2011.
_CHANGES_S = (
    1_774_746_000, 1_792_890_000, 1_772_953_200, 1_793_512_800, 1_289_097_060,
    1_541_300_400, 1_550_368_800, 1_775_314_800, 1_791_041_400, 1_325_239_200,
)  # fmt: skip
NEAR_CHANGES = st.sampled_from(_CHANGES_S).flatmap(
    lambda at_s: st.integers((at_s - 90_000) * 1000, (at_s + 90_000) * 1000)
)


def windows(period: str, zone: str = "UTC", anchor_day: int = 1) -> Windows:
    return Windows(period, ZoneInfo(zone), anchor_day)


def ms(text: str) -> int:
    """A moment as ISO text; with an offset it is that moment whatever the zone."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@st.composite
def any_windows(draw: st.DrawFn) -> Windows:
    period = draw(st.sampled_from(PERIODS))
    last = {"week": 7, "month": 31, "quarter": 31, "year": 31}.get(period, 1)
    return windows(period, draw(st.sampled_from(ZONES)), draw(st.integers(1, last)))


@given(those=any_windows(), at_ms=st.one_of(MOMENTS, NEAR_CHANGES))
@example(those=windows("day", "America/St_Johns"), at_ms=1_289_097_060_000)
def test_every_moment_is_in_its_own_window_and_in_no_other(those: Windows, at_ms: int) -> None:
    window = those.at(at_ms)
    assert window.start_ms < window.end_ms
    assert window.holds(at_ms)
    assert those.at(window.start_ms) == window
    assert those.at(window.end_ms - 1) == window
    assert not window.holds(window.end_ms)


@given(those=any_windows(), at_ms=st.one_of(MOMENTS, NEAR_CHANGES))
def test_windows_follow_each_other_without_gap_or_overlap(those: Windows, at_ms: int) -> None:
    window = those.at(at_ms)
    if those.period == TOTAL:
        assert those.after(window) == window == Window(0, FOREVER_MS)
        return
    following = those.after(window)
    assert following.start_ms == window.end_ms
    assert those.at(window.start_ms - 1).end_ms == window.start_ms


@pytest.mark.parametrize(
    ("zone", "at", "start", "hours"),
    [
        ("Europe/London", "2026-03-29T12:00:00+01:00", "2026-03-29T00:00:00+00:00", 23),
        ("Europe/London", "2026-10-25T12:00:00+00:00", "2026-10-25T00:00:00+01:00", 25),
        ("America/New_York", "2026-03-08T12:00:00-04:00", "2026-03-08T00:00:00-05:00", 23),
        ("America/New_York", "2026-11-01T12:00:00-05:00", "2026-11-01T00:00:00-04:00", 25),
        ("Asia/Kolkata", "2026-03-29T12:00:00+05:30", "2026-03-29T00:00:00+05:30", 24),
        ("Australia/Lord_Howe", "2026-04-05T12:00:00+10:30", "2026-04-05T00:00:00+11:00", 24.5),
        ("Australia/Lord_Howe", "2026-10-04T12:00:00+11:00", "2026-10-04T00:00:00+10:30", 23.5),
        # São Paulo changed its clock at midnight: a day that began at one, and one whose last hour came twice.
        ("America/Sao_Paulo", "2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", 23),
        ("America/Sao_Paulo", "2019-02-16T23:30:00-03:00", "2019-02-16T00:00:00-02:00", 25),
        ("America/Sao_Paulo", "2019-11-03T12:00:00-03:00", "2019-11-03T00:00:00-03:00", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(zone: str, at: str, start: str, hours: float) -> None:
    window = windows("day", zone).at(ms(at))
    assert window == Window(ms(start), ms(start) + int(hours * HOUR_MS))


@pytest.mark.parametrize(
    ("zone", "at", "start", "minutes"),
    [
        ("Europe/London", "2026-10-25T01:30:00+01:00", "2026-10-25T01:00:00+01:00", 60),
        ("Europe/London", "2026-10-25T01:30:00+00:00", "2026-10-25T01:00:00+00:00", 60),
        ("America/New_York", "2026-11-01T01:59:59-04:00", "2026-11-01T01:00:00-04:00", 60),
        ("America/New_York", "2026-11-01T01:00:00-05:00", "2026-11-01T01:00:00-05:00", 60),
        ("America/New_York", "2026-03-08T03:10:00-04:00", "2026-03-08T03:00:00-04:00", 60),
        ("Asia/Kolkata", "2026-01-01T09:10:00+05:30", "2026-01-01T09:00:00+05:30", 60),
        # Lord Howe Island moves its clock by half an hour, at two.
        ("Australia/Lord_Howe", "2026-04-05T01:45:00+11:00", "2026-04-05T01:00:00+11:00", 60),
        ("Australia/Lord_Howe", "2026-04-05T01:45:00+10:30", "2026-04-05T01:30:00+10:30", 30),
        ("Australia/Lord_Howe", "2026-10-04T02:45:00+11:00", "2026-10-04T02:30:00+11:00", 30),
        ("America/Sao_Paulo", "2019-02-16T23:10:00-02:00", "2019-02-16T23:00:00-02:00", 60),
        ("America/Sao_Paulo", "2019-02-16T23:10:00-03:00", "2019-02-16T23:00:00-03:00", 60),
    ],
)
def test_an_hour_is_one_of_the_zone_s_clock_and_comes_twice_as_two(
    zone: str, at: str, start: str, minutes: int
) -> None:
    assert windows("hour", zone).at(ms(at)) == Window(ms(start), ms(start) + minutes * 60_000)


@pytest.mark.parametrize(
    ("period", "anchor", "at", "start", "end"),
    [
        ("week", 1, "2026-11-28", "2026-11-23", "2026-11-30"),
        ("week", 7, "2026-11-28", "2026-11-22", "2026-11-29"),
        ("week", 6, "2026-11-28", "2026-11-28", "2026-12-05"),
        ("month", 1, "2026-02-28", "2026-02-01", "2026-03-01"),
        ("month", 15, "2026-03-14", "2026-02-15", "2026-03-15"),
        ("month", 31, "2026-02-28", "2026-02-28", "2026-03-31"),
        ("month", 31, "2028-02-28", "2028-01-31", "2028-02-29"),
        ("month", 30, "2028-02-29", "2028-02-29", "2028-03-30"),
        ("month", 31, "2026-01-30", "2025-12-31", "2026-01-31"),
        ("quarter", 1, "2026-03-31", "2026-01-01", "2026-04-01"),
        ("quarter", 31, "2026-04-29", "2026-01-31", "2026-04-30"),
        ("quarter", 10, "2026-01-09", "2025-10-10", "2026-01-10"),
        ("year", 1, "2028-12-31", "2028-01-01", "2029-01-01"),
        ("year", 31, "2026-01-30", "2025-01-31", "2026-01-31"),
    ],
)
def test_windows_begin_on_their_anchor_or_on_the_last_day_that_there_is(
    period: str, anchor: int, at: str, start: str, end: str
) -> None:
    zone = "America/New_York"
    expected = [
        int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000 for day in (start, end)
    ]
    noon = int(datetime.fromisoformat(at).replace(hour=12, tzinfo=ZoneInfo(zone)).timestamp()) * 1000
    assert windows(period, zone, anchor).at(noon) == Window(*expected)


def test_a_day_that_a_zone_never_had_is_no_window() -> None:
    days = windows("day", "Pacific/Apia")
    before = days.at(ms("2011-12-29T12:00:00-10:00"))
    assert days.after(before) == days.at(ms("2011-12-31T12:00:00+14:00"))


@pytest.mark.parametrize(
    ("period", "anchor", "field"),
    [("fortnight", 1, "period"), ("day", 2, "anchor_day"), ("week", 8, "anchor_day"), ("month", 0, "anchor_day"),
     ("year", 32, "anchor_day"), ("total", 3, "anchor_day")],
)  # fmt: skip
def test_a_period_that_does_not_exist_is_refused_by_its_field(period: str, anchor: int, field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_period(period, anchor)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe", "right/UTC", "Europe/Lon\0don", "é"]
)
def test_a_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        zone_of(name)
    assert refusal.value.field == "timezone"


@pytest.mark.parametrize("period", PERIODS)
def test_every_period_can_be_had_by_its_defaults(period: str) -> None:
    check_period(period, 1)
