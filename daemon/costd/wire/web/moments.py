"""Moments: timestamps, days and months as callers write them."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime
from decimal import Decimal

from costd.domain.errors import Invalid

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
#: The year 9999: beyond it datetime has no name for the moment.
_MAX_UNIX_S = 253_402_300_799


def parse_timestamp(value: object, field: str) -> int | None:
    """UTC milliseconds of an RFC 3339 string or of Unix seconds; None for None.

    A time without an offset is UTC, as `datetime.utcnow().isoformat()` writes it.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _from_text(value.strip(), field)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Invalid(field, "must be an RFC 3339 time or Unix seconds")
    if not 0 <= value <= _MAX_UNIX_S:
        raise Invalid(field, "must be Unix seconds between 1970 and 9999 (not milliseconds)")
    return int(value * 1000)


def _from_text(text: str, field: str) -> int:
    if not _RFC3339.match(text):
        raise Invalid(field, 'must be an RFC 3339 time ("2026-01-15T10:30:00Z") or Unix seconds')
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Invalid(field, f'"{text}" is not a time') from None


def parse_day(text: str, field: str) -> date:
    """The day of "2026-01-31"."""
    try:
        if _DAY.match(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Invalid(field, 'must be a day like "2026-01-31"')


def month_of(now_ms: int) -> tuple[int, int]:
    """(year, month) of a moment, in UTC."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC)
    return today.year, today.month


def month_days(year: int, month: int) -> tuple[date, date]:
    """The first and the last day of a month."""
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])


def previous_month(year: int, month: int) -> tuple[int, int]:
    """(year, month) of the month before."""
    return (year - 1, 12) if month == 1 else (year, month - 1)
