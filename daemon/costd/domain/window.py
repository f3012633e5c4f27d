"""Windows of time: the periods of a budget, one after the other, in a time zone and from an anchor day on.

Days, and what is made of days, begin as `days` says: at the first moment that carries their date. An hour is an hour
of the zone's clock and never longer than one: where the clock is put back, the hour that comes twice is two windows;
where it changes within an hour (by 30 minutes, as on Lord Howe Island), the window ends there and another begins.
"""

from __future__ import annotations

import re
from datetime import date, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from costd.domain.days import HOUR_MS, day_of, day_start_ms, last_day, month_number
from costd.domain.errors import Invalid

HOUR = "hour"
DAY = "day"
WEEK = "week"
MONTH = "month"
QUARTER = "quarter"
YEAR = "year"
TOTAL = "total"
PERIODS = (HOUR, DAY, WEEK, MONTH, QUARTER, YEAR, TOTAL)

#: Where the one window of TOTAL ends: past every time, and still an integer to all that read JSON.
FOREVER_MS = 2**53 - 1

#: What names of zones look like; anything else is kept away from the file system.
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z", re.ASCII)
#: Folders of the same zones on another clock, which counts leap seconds.
_OTHER_CLOCKS = ("right/", "posix/")

_MONTHS = {MONTH: 1, QUARTER: 3, YEAR: 12}
_LAST_ANCHOR = {WEEK: 7, MONTH: 31, QUARTER: 31, YEAR: 31}


class Window(NamedTuple):
    """[start_ms, end_ms) in UTC milliseconds."""

    start_ms: int
    end_ms: int

    def holds(self, at_ms: int) -> bool:
        """Whether a moment is within."""
        return self.start_ms <= at_ms < self.end_ms


class Windows(NamedTuple):
    """The windows of a period. They tile time: each moment from 1970 on is in exactly one of them, and none is empty.

    `anchor_day` is the day of the month on which months, quarters (of January, April, …) and years begin, or the last
    day of a month that has no such day; for weeks, the ISO weekday; else 1.
    """

    period: str
    zone: tzinfo
    anchor_day: int = 1

    def at(self, at_ms: int) -> Window:
        """The window that contains a moment in UTC milliseconds."""
        if self.period == TOTAL:
            return Window(0, FOREVER_MS)
        if self.period == HOUR:
            return _hour_at(at_ms, self.zone)
        number = self._number(day_of(at_ms, self.zone))
        # The date alone does not say: where the clock goes back across midnight, a date comes again after the next
        # one has begun; and a day that a zone never had is empty.
        while self._start_ms(number) > at_ms:
            number -= 1
        while self._start_ms(number + 1) <= at_ms:
            number += 1
        return Window(self._start_ms(number), self._start_ms(number + 1))

    def after(self, window: Window) -> Window:
        """The next window; that of TOTAL is followed by itself."""
        return window if self.period == TOTAL else self.at(window.end_ms)

    def _number(self, day: date) -> int:
        """The number of the window that contains a date; windows that follow each other have numbers that do."""
        if self.period == DAY:
            return day.toordinal()
        if self.period == WEEK:
            return (day.toordinal() - self.anchor_day) // 7
        number = month_number(day) // _MONTHS[self.period]
        return number if day >= self._first_day(number) else number - 1

    def _first_day(self, number: int) -> date:
        if self.period == DAY:
            return date.fromordinal(number)
        if self.period == WEEK:
            return date.fromordinal(number * 7 + self.anchor_day)  # ordinal 1 was a Monday
        year, month = divmod(number * _MONTHS[self.period], 12)
        return date(year, month + 1, min(self.anchor_day, last_day(year, month + 1).day))

    def _start_ms(self, number: int) -> int:
        return day_start_ms(self._first_day(number), self.zone)


def check_period(period: str, anchor_day: int) -> None:
    """Raise Invalid unless there is such a period, and it may begin on that day."""
    if period not in PERIODS:
        raise Invalid("period", f"must be one of {', '.join(PERIODS)}")
    last = _LAST_ANCHOR.get(period, 1)
    if not 1 <= anchor_day <= last:
        allowed = f"must be between 1 and {last}" if last > 1 else "must be left out"
        raise Invalid("anchor_day", f"{allowed} where the period is {period}")


def zone_of(timezone: str) -> ZoneInfo:
    """The time zone of an IANA name; raises Invalid where there is none."""
    if _ZONE_NAME.match(timezone) and not timezone.startswith(_OTHER_CLOCKS):
        try:
            return ZoneInfo(timezone)
        except (LookupError, ValueError, OSError):
            pass
    raise Invalid("timezone", 'must be the IANA name of a time zone, like "Asia/Kolkata"')


def _hour_at(at_ms: int, zone: tzinfo) -> Window:
    offset_ms = _offset_ms(at_ms, zone)
    start_ms = at_ms - (at_ms + offset_ms) % HOUR_MS
    last_ms = start_ms + HOUR_MS - 1
    if _offset_ms(start_ms, zone) != offset_ms:
        start_ms = _change_ms(start_ms, at_ms, zone)
    if _offset_ms(last_ms, zone) != offset_ms:
        last_ms = _change_ms(at_ms, last_ms, zone) - 1
    return Window(start_ms, last_ms + 1)


def _change_ms(before_ms: int, after_ms: int, zone: tzinfo) -> int:
    """The first moment of the offset of `after_ms`, which is another one than that of `before_ms`."""
    offset_ms = _offset_ms(after_ms, zone)
    low, high = before_ms // 1000, after_ms // 1000  # clocks change on whole seconds
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(middle * 1000, zone) == offset_ms:
            high = middle
        else:
            low = middle
    return high * 1000


def _offset_ms(at_ms: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(at_ms // 1000, zone).utcoffset()
    assert offset is not None
    return (offset.days * 86_400 + offset.seconds) * 1000
