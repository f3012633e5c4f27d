"""Summaries: sums of everything that rollups hold, over whole hours, by any dimensions, and by hour or day."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from costd.domain.days import HOUR_MS
from costd.domain.money import NANO_PER_USD
from costd.store.attribution import column_of
from costd.store.sums import SeriesFilter, Wanted
from costd.store.whole_hours import NO_HOUR, Rolled, by_hour, whole_hours

#: Hours in a bucket of each name; "" is one bucket for everything.
BUCKET_HOURS = {"": 0, "hour": 1, "day": 24}


@dataclass(slots=True)
class Totals:
    """Sums over records; the cost in nano-USD, of those that have one."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0
    unpriced: int = 0
    unrated: int = 0

    def add(self, other: Totals) -> None:
        """Add `other` to this."""
        for name in _TOTALS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_TOTALS = tuple(field.name for field in fields(Totals))


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """The sums of one combination of dimensions, in one bucket (its start in UTC milliseconds, 0 without buckets)."""

    dimensions: dict[str, str]
    bucket_ms: int
    totals: Totals


@dataclass(frozen=True, slots=True)
class Period:
    """Whole hours since 1970, the last one exclusive; None is open."""

    from_hour: int | None = None
    to_hour: int | None = None

    @classmethod
    def around(cls, since_ms: int | None, until_ms: int | None) -> Period:
        """The whole hours that contain [since, until)."""
        return cls(
            None if since_ms is None else since_ms // HOUR_MS, None if until_ms is None else -(-until_ms // HOUR_MS)
        )


def summarize(
    connection: sqlite3.Connection, wanted: Wanted, by: Sequence[str], period: Period, bucket: str = ""
) -> list[SummaryRow]:
    """Sums grouped by `by`, by bucket and then by cost, highest first. Names must be of DIMENSIONS."""
    only = SeriesFilter(connection, wanted)
    pieces, values = [], []
    for rolled in _rolled(connection, period, bucket):
        pieces.append(_piece(rolled, bucket, only.on_rollups()))
        values += [*rolled.values, *only.values]
    if not pieces:
        return []
    columns = [*(column_of(name) for name in by), "t.bucket"]
    sql = (
        f"SELECT {', '.join(columns)}, {_ALL} FROM ({' UNION ALL '.join(pieces)}) t "
        "JOIN series s ON s.id = t.series_id WHERE s.org_id = ? "
        f"GROUP BY {', '.join(str(number + 1) for number in range(len(columns)))}"
    )
    rows = [_row(by, row, BUCKET_HOURS[bucket]) for row in connection.execute(sql, [*values, wanted.org_id])]
    rows.sort(key=lambda row: (row.bucket_ms, -row.totals.cost_nano, -row.totals.requests, *row.dimensions.values()))
    return rows


def _rolled(connection: sqlite3.Connection, period: Period, bucket: str) -> list[Rolled]:
    """The rows to add up: the fewest of which a bucket can be made."""
    from_hour = 0 if period.from_hour is None else period.from_hour
    to_hour = NO_HOUR if period.to_hour is None else period.to_hour
    if bucket == "hour":
        return [by_hour(from_hour, to_hour)]
    return whole_hours(connection, from_hour, to_hour, may_be_months=not bucket)


def _piece(rolled: Rolled, bucket: str, condition: str) -> str:
    """The sums of each series and bucket; where a bucket is a row of its own, there is nothing to add up."""
    rows = f"FROM {rolled.source} AND {condition}"
    if rolled.time == bucket:
        return f"SELECT series_id, {bucket} AS bucket, {', '.join(_COLUMNS)} {rows}"
    number = f"{rolled.time} / {BUCKET_HOURS[bucket]}" if bucket else "0"
    return f"SELECT series_id, {number} AS bucket, {_SUMS} {rows} GROUP BY bucket, series_id"


def total_of(rows: Sequence[SummaryRow]) -> Totals:
    """The sum of all rows."""
    total = Totals()
    for row in rows:
        total.add(row.totals)
    return total


def _row(by: Sequence[str], row: Sequence[Any], bucket_hours: int) -> SummaryRow:
    width = len(by)
    bucket, requests, errors, input_, output, read, write, reasoning, usd, nano, unpriced, unrated = row[width:]
    totals = Totals(
        requests, errors, input_, output, read, write, reasoning, usd * NANO_PER_USD + nano, unpriced, unrated
    )
    return SummaryRow(dict(zip(by, row, strict=False)), bucket * bucket_hours * HOUR_MS, totals)


# Money is summed in two halves, as rollups keep it: no sum of allowed records can overflow 64 bits then.
_COLUMNS = (
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_usd",
    "cost_nano",
    "unpriced",
    "unrated",
)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _COLUMNS)
_ALL = ", ".join(f"sum(t.{name})" for name in _COLUMNS)
