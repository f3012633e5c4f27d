"""LiteLLM's off-peak windows (`off_peak_pricing`) as spans of the UTC week."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby

_MINUTE_MS = 60_000
_DAY = 24 * 60
_WEEK = 7 * _DAY
_HOURS = re.compile(r"\s*([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)\s*")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: Minutes ahead of UTC of calendars that weekdays are read on; only such as never change their clocks.
_CALENDARS = {"": 0, "utc": 0, "asia/shanghai": 480, "asia/singapore": 480, "asia/tokyo": 540}

#: (from, until) in milliseconds of the UTC week, Monday first; the last may wrap.
Span = tuple[int, int]


def read_windows(block: Mapping[str, object]) -> list[Span]:
    """When the block's prices hold: `hours_utc` on every day, and `windows` on their weekdays.

    Raises ValueError where something in it is not understood.
    """
    minutes = bytearray(_WEEK)
    zone = block.get("weekday_timezone") or ""
    if not isinstance(zone, str) or zone.strip().lower() not in _CALENDARS:
        raise ValueError(f"weekday_timezone {zone!r:.64} is not known")
    ahead = _CALENDARS[zone.strip().lower()]
    every_day = block.get("hours_utc")
    rules = block.get("windows") or []
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ValueError("windows must be a list of objects")
    for hours, weekdays in [(every_day, None), *((rule.get("hours_utc"), rule.get("weekdays")) for rule in rules)]:
        days = _weekdays(weekdays)
        for minute in _open_minutes(hours):
            if _weekday(minute, ahead) in days:
                minutes[minute] = 1
    return _spans(minutes)


def _open_minutes(hours: object) -> Iterator[int]:
    """Every minute of the week that lies within the hours, whatever the day."""
    for text in [hours] if isinstance(hours, str) else hours if isinstance(hours, list) else []:
        match = _HOURS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"hours_utc {text!r:.64} is not HH:MM-HH:MM")
        start, end = (int(hour) * 60 + int(minute) for hour, minute in (match.group(1, 2), match.group(3, 4)))
        length = (end - start) % _DAY or _DAY
        for day in range(7):
            for minute in range(start, start + length):
                yield day * _DAY + minute % _DAY


def _weekday(minute: int, ahead: int) -> int:
    return (minute + ahead) % _WEEK // _DAY


def _weekdays(value: object) -> frozenset[int]:
    if value is None:
        return frozenset(range(7))
    if not isinstance(value, list):
        raise ValueError("weekdays must be a list")  # noqa: TRY004 - whatever is wrong with a file is a ValueError
    days = set()
    for each in value:
        name = each.strip().lower()[:3] if isinstance(each, str) else ""
        if name in _DAYS:
            days.add(_DAYS.index(name))
        elif isinstance(each, int) and not isinstance(each, bool) and 1 <= each <= 7:
            days.add(each - 1)
        else:
            raise ValueError(f"{each!r:.64} is no weekday")
    return frozenset(days)


def _spans(minutes: bytearray) -> list[Span]:
    runs: list[tuple[int, int]] = []
    at = 0
    for is_open, run in groupby(minutes):
        length = sum(1 for _ in run)
        if is_open:
            runs.append((at, at + length))
        at += length
    if len(runs) > 1 and runs[0][0] == 0 and runs[-1][1] == _WEEK:
        runs = [*runs[1:-1], (runs[-1][0], runs[0][1])]
    return [(start * _MINUTE_MS, end * _MINUTE_MS) for start, end in runs]
