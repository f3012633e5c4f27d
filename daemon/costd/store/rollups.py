"""Reads of the rollups: sums by any dimensions and any whole hours."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from costd.domain.money import NANO_PER_USD
from costd.store.attribution import column_of

HOUR_MS = 3_600_000
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
    connection: sqlite3.Connection,
    org_id: int,
    by: Sequence[str],
    period: Period,
    filters: Mapping[str, str],
    bucket: str = "",
) -> list[SummaryRow]:
    """Sums grouped by `by`, by bucket and then by cost, highest first. Names must be of DIMENSIONS."""
    hours = BUCKET_HOURS[bucket]
    bucket_sql = f"r.hour / {hours} * {hours}" if hours else "0"
    columns = [*(column_of(name) for name in by), bucket_sql]
    where = ["s.org_id = ?"]
    values: list[object] = [org_id]
    if period.from_hour is not None:
        where.append("r.hour >= ?")
        values.append(period.from_hour)
    if period.to_hour is not None:
        where.append("r.hour < ?")
        values.append(period.to_hour)
    for name, value in filters.items():
        where.append(f"{column_of(name)} = ?")
        values.append(value)
    sql = (
        f"SELECT {', '.join(columns)}, {_SUMS} FROM rollup r JOIN series s ON s.id = r.series_id "
        f"WHERE {' AND '.join(where)} GROUP BY {', '.join(str(number + 1) for number in range(len(columns)))}"
    )
    rows = [_row(by, row) for row in connection.execute(sql, values)]
    rows.sort(key=lambda row: (row.bucket_ms, -row.totals.cost_nano, -row.totals.requests, *row.dimensions.values()))
    return rows


def total_of(rows: Sequence[SummaryRow]) -> Totals:
    """The sum of all rows."""
    total = Totals()
    for row in rows:
        total.add(row.totals)
    return total


def _row(by: Sequence[str], row: Sequence[object]) -> SummaryRow:
    width = len(by)
    numbers = [int(str(value or 0)) for value in row[width:]]
    hour, requests, errors, input_, output, read, write, reasoning, usd, nano, unpriced, unrated = numbers
    totals = Totals(
        requests, errors, input_, output, read, write, reasoning, usd * NANO_PER_USD + nano, unpriced, unrated
    )
    return SummaryRow({name: str(row[n]) for n, name in enumerate(by)}, hour * HOUR_MS, totals)


_SUMS = (
    "sum(r.requests), sum(r.errors), sum(r.input_tokens), sum(r.output_tokens), sum(r.cache_read_tokens), "
    "sum(r.cache_write_tokens), sum(r.reasoning_tokens), sum(r.cost_usd), sum(r.cost_nano), sum(r.unpriced), "
    "sum(r.unrated)"
)
