"""Days and months in a time zone: where they begin, in UTC milliseconds.

A day begins at the first moment that carries its date: where the clock skips midnight, when it skips; where it shows
midnight twice, at the first. A day that a zone never had (Samoa's 30 December 2011) is empty.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

#: The years that queries may name: none had usage before, none has it after.
FIRST_YEAR = 2000
LAST_YEAR = 2100

_EPOCH = date(1970, 1, 1)


class Span(NamedTuple):
    """[start_ms, end_ms) in UTC milliseconds; None is open."""

    start_ms: int | None = None
    end_ms: int | None = None


def day_start_ms(day: date, zone: tzinfo) -> int:
    """When `day` begins in `zone`."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000


def days_span(first: date, last: date, zone: tzinfo) -> Span:
    """The days `first` to `last`, both inclusive."""
    return Span(day_start_ms(first, zone), day_start_ms(last + timedelta(days=1), zone))


def day_bounds_ms(first: date, last: date, zone: tzinfo) -> list[int]:
    """When each of the days `first` to `last` begins, and when the last one ends."""
    count = (last - first).days + 1
    return [day_start_ms(first + timedelta(days=number), zone) for number in range(count + 1)]


def day_of(at_ms: int, zone: tzinfo) -> date:
    """The date of a moment."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date()


def month_span(year: int, month: int, zone: tzinfo) -> Span:
    """A whole month."""
    return days_span(date(year, month, 1), last_day(year, month), zone)


def last_day(year: int, month: int) -> date:
    """The last day of a month."""
    return date(year, month, calendar.monthrange(year, month)[1])


def month_number(day: date) -> int:
    """A month as one number: months that follow each other have numbers that do."""
    return day.year * 12 + day.month - 1


def month_of_hour(hour: int) -> int:
    """The number of the UTC month that holds an hour (whole hours since 1970)."""
    return month_number(_EPOCH + timedelta(hours=hour))


def first_hour_of_month(number: int) -> int:
    """The first hour of a UTC month by its number."""
    return (date(number // 12, number % 12 + 1, 1) - _EPOCH).days * 24
