"""Where the sums of whole hours lie: by month and by day where they were folded, else by the hour."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from costd.domain.days import first_hour_of_month, month_of_hour

#: Beyond every hour that can be stored: 2^40 hours.
NO_HOUR = 1 << 40


class Rolled(NamedTuple):
    """Rows of rollups, one for each `time` ("month", "day" or "hour") and series: the end of a SELECT."""

    time: str
    source: str
    values: tuple[int, ...]


def first_and_last_hour(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """The first and the last hour that anything was recorded for; None where nothing was."""
    first, last = connection.execute("SELECT (SELECT min(hour) FROM rollup), (SELECT max(hour) FROM rollup)").fetchone()
    return None if first is None else (first, last)


def whole_hours(
    connection: sqlite3.Connection, from_hour: int, to_hour: int, *, may_be_months: bool = True
) -> list[Rolled]:
    """The hours [from, to), by month where they are whole UTC months, by day where whole days, the rest by the hour.

    Before the first hour that there ever was, and beyond the last, days and months may be called whole: nothing is in
    what they lack.
    """
    kept = first_and_last_hour(connection)
    if kept is None or from_hour > kept[1] or to_hour <= kept[0]:
        return []
    from_hour, from_day, from_month = _beginning(connection, from_hour, kept[0])
    to_day, to_month = to_hour // 24, month_of_hour(min(to_hour, kept[1] + 1))
    if to_hour > kept[1]:
        to_hour, to_day, to_month = kept[1] + 1, kept[1] // 24 + 1, month_of_hour(kept[1]) + 1
    if from_day >= to_day:
        return [by_hour(from_hour, to_hour)]
    parts = [unfolded(connection, from_day * 24, to_day * 24)]
    if from_hour < from_day * 24:
        parts.append(by_hour(from_hour, from_day * 24))
    if to_day * 24 < to_hour:
        parts.append(by_hour(to_day * 24, to_hour))
    if from_month >= to_month or not may_be_months:
        return [*parts, by_day(from_day, to_day)]
    from_months, to_months = first_hour_of_month(from_month) // 24, first_hour_of_month(to_month) // 24
    parts.append(_by_month(from_month, to_month))
    if from_day < from_months:
        parts.append(by_day(from_day, from_months))
    if to_months < to_day:
        parts.append(by_day(to_months, to_day))
    return parts


def by_hour(from_hour: int, to_hour: int) -> Rolled:
    """The hours [from, to)."""
    return Rolled("hour", "rollup WHERE hour >= ? AND hour < ?", (from_hour, to_hour))


def by_day(from_day: int, to_day: int) -> Rolled:
    """What was folded into the UTC days [from, to)."""
    return Rolled("day", "rollup_day WHERE day >= ? AND day < ?", (from_day, to_day))


def unfolded(connection: sqlite3.Connection, from_hour: int, to_hour: int) -> Rolled:
    """What of these hours is not in their days and months yet."""
    folded = connection.execute("SELECT totalled_hour, totalled_series_id FROM ledger_state").fetchone()
    source = "rollup WHERE (hour, series_id) > (?, ?) AND hour >= ? AND hour < ?"
    return Rolled("hour", source, (*folded, from_hour, to_hour))


def _by_month(from_month: int, to_month: int) -> Rolled:
    return Rolled("month", "rollup_month WHERE month >= ? AND month < ?", (from_month, to_month))


def _beginning(connection: sqlite3.Connection, from_hour: int, first_hour: int) -> tuple[int, int, int]:
    """The first hour, day and month to read: no days and months that retention may have taken hours of."""
    whole_from = connection.execute("SELECT rollups_from_hour FROM ledger_state").fetchone()[0]
    if from_hour <= first_hour:
        from_hour, from_day, from_month = first_hour, first_hour // 24, month_of_hour(first_hour)
    else:
        from_day, from_month = _first_day(from_hour), _first_month(from_hour)
    return from_hour, max(from_day, _first_day(whole_from)), max(from_month, _first_month(whole_from))


def _first_day(hour: int) -> int:
    """The first day that begins at this hour or later."""
    return -(-hour // 24)


def _first_month(hour: int) -> int:
    """The first month that begins at this hour or later."""
    return month_of_hour(hour - 1) + 1
