"""Time zones and the spans of time that queries name: days in a zone, or moments."""

from __future__ import annotations

import re
from datetime import UTC, date, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from costd.domain import days
from costd.domain.days import FIRST_YEAR, LAST_YEAR, Span
from costd.domain.errors import Invalid
from costd.domain.window import zone_of
from costd.wire.web.answers import rfc3339
from costd.wire.web.moments import parse_day, parse_timestamp

_FIRST_MS = days.day_start_ms(date(FIRST_YEAR, 1, 1), UTC)
_END_MS = days.day_start_ms(date(LAST_YEAR + 1, 1, 1), UTC)


class Asked(NamedTuple):
    """A period as a query asked for it: its days, the moments it spans, and how its ends read in the answer."""

    first: date
    last: date
    span: Span
    start: str
    end: str


def parse_zone(name: str | None, field: str = "timezone") -> tzinfo:
    """The zone of an IANA name; UTC where there is none."""
    if not name or name == "UTC":
        return UTC
    try:
        return zone_of(name)
    except Invalid as refusal:
        raise refusal.renamed(field) from None


def zone_name(zone: tzinfo) -> str:
    """The name of a zone that parse_zone made."""
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"


def parse_query_day(text: str, field: str) -> date:
    """A day of the years that queries may name."""
    day = parse_day(text, field)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise Invalid(field, f"must be between the years {FIRST_YEAR} and {LAST_YEAR}")
    return day


def period_of(
    start: str | None, end: str | None, zone: tzinfo, fields: tuple[str, str], default: tuple[date, date]
) -> Asked:
    """The period between two ends, each a day (both inclusive) or an RFC 3339 moment (the end is exclusive).

    Where one end is missing, it is that of the `default` or, if that is on the wrong side, the other end's day.
    """
    first, start_ms, start_text = _end_of(start, zone, fields[0])
    last, end_ms, end_text = _end_of(end, zone, fields[1])
    first = first or (default[0] if last is None else min(default[0], last))
    last = last or max(default[1], first)
    whole = days.days_span(first, last, zone)
    span = Span(whole.start_ms if start_ms is None else start_ms, whole.end_ms if end_ms is None else end_ms)
    assert span.start_ms is not None
    assert span.end_ms is not None
    if last < first or span.end_ms < span.start_ms:
        raise Invalid(fields[1], f"must not be before {fields[0]}")
    return Asked(first, last, span, start_text or first.isoformat(), end_text or last.isoformat())


def open_period_of(start: str | None, end: str | None, zone: tzinfo, fields: tuple[str, str]) -> Span:
    """The same, but an end that is missing is open."""
    first, start_ms, _ = _end_of(start, zone, fields[0])
    last, end_ms, _ = _end_of(end, zone, fields[1])
    if first is not None and last is not None:
        return period_of(start, end, zone, fields, (first, last)).span
    if first is not None and start_ms is None:
        start_ms = days.day_start_ms(first, zone)
    if last is not None and end_ms is None:
        end_ms = days.days_span(last, last, zone).end_ms
    return Span(start_ms, end_ms)


def _end_of(text: str | None, zone: tzinfo, field: str) -> tuple[date | None, int | None, str]:
    """One end: its day; its moment and the moment's text where it is not a whole day."""
    if not text:
        return None, None, ""
    if len(text) <= len("2026-01-31"):
        return parse_query_day(text, field), None, ""
    # A plus sign in a query string reads as a space; only the offset of a time can stand behind one.
    at_ms = parse_timestamp(re.sub(r" (\d\d:?\d\d)\Z", r"+\1", text), field)
    assert at_ms is not None
    if not _FIRST_MS <= at_ms < _END_MS:
        raise Invalid(field, f"must be between the years {FIRST_YEAR} and {LAST_YEAR}")
    return days.day_of(at_ms, zone), at_ms, rfc3339(at_ms)
