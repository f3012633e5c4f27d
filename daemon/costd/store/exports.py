"""Reads of all single records in the order they were recorded, a block at a time, as they are after corrections."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from costd.domain.days import Span
from costd.domain.ids import uuid_text
from costd.domain.series import Series
from costd.store.event_blocks import Blocks
from costd.store.requests import shown_request_id
from costd.store.sums import Wanted

#: Records read in one statement: some milliseconds.
BLOCK_ROWS = 2_000
#: Numbers that one statement looks at where few of them are wanted: a tenth of a second at most.
MAX_SCANNED = 100_000
#: Values looked up in one statement.
_LOOKUP = 500


class Row(NamedTuple):
    """One event as it is stored; `extra` is JSON. Its cost and price are the present ones."""

    seq: int
    at_ms: int
    series_id: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano: int | None
    price_source_id: int | None
    latency_ms: int | None
    extra: str | None


#: The fields of a Row; making one of each would cost as much as reading it.
PlainRow = tuple[Any, ...]


class Block(NamedTuple):
    """Some records; `position` is the number up to which there are no others.

    `rows` are plain tuples of Row's fields, `ids` what each is known by outside: its request id or, without one, its
    event id.
    """

    ids: Sequence[str]
    rows: Sequence[PlainRow]
    position: int


class Extent(NamedTuple):
    """What an export goes over: stretches of numbers, ascending, that hold everything wanted, and of which series.

    `series` is None where every one is wanted, else a JSON array of their numbers.
    """

    ranges: Sequence[tuple[int, int]]
    series: str | None
    span: Span
    start: int
    end: int


def extent_of(connection: sqlite3.Connection, wanted: Wanted, span: Span, end: int | None) -> Extent:
    """Everything there is now, up to `end` where that is given."""
    first, last = connection.execute("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM event").fetchone()
    last = last if end is None else min(last, end)
    series = _series_ids(connection, wanted)
    ranges = [
        (max(low, first), min(high, last))
        for low, high in Blocks(connection).ranges(span.start_ms, span.end_ms, series)
        if low <= last and high >= first
    ]
    named = None if series is None else f"[{','.join(map(str, sorted(series)))}]"
    return Extent(ranges, named, span, min(first - 1, last), last)


def _series_ids(connection: sqlite3.Connection, wanted: Wanted) -> frozenset[int] | None:
    if not wanted.filters and connection.execute("SELECT count(*) FROM org").fetchone()[0] == 1:
        return None
    where, values = wanted.where()
    return frozenset(row[0] for row in connection.execute(f"SELECT s.id FROM series s WHERE {where}", values))


def read_block(connection: sqlite3.Connection, extent: Extent, after: int) -> Block:
    """The next records after the number `after`; at the end the position is `extent.end`."""
    stretch = next(((low, high) for low, high in extent.ranges if high > after), None)
    if stretch is None:
        return Block((), (), extent.end)
    first = max(stretch[0], after + 1)
    last = min(stretch[1], first + MAX_SCANNED - 1)
    rows = connection.execute(*_statement(extent, first, last)).fetchall()
    if len(rows) == BLOCK_ROWS:
        last = rows[-1][0]
    ids = _ids(connection, rows)
    plain = [row[:-1] for row in rows]
    return Block(*_corrected(connection, ids, plain, first, last), last)


def _statement(extent: Extent, first: int, last: int) -> tuple[str, list[object]]:
    where = ""
    values: list[object] = [first, last]
    if extent.span.start_ms is not None:
        where += " AND e.at_ms >= ?"
        values.append(extent.span.start_ms)
    if extent.span.end_ms is not None:
        where += " AND e.at_ms < ?"
        values.append(extent.span.end_ms)
    if extent.series is not None:
        where += " AND e.series_id IN (SELECT value FROM json_each(?))"
        values.append(extent.series)
    return f"{_SELECT}{where} ORDER BY e.seq LIMIT {BLOCK_ROWS}", values


def _ids(connection: sqlite3.Connection, rows: Sequence[PlainRow]) -> list[str]:
    """What each row is known by; event ids are worked out only where there is a row that needs one."""
    ids = [shown_request_id(row[-1]) for row in rows]
    if all(ids):
        return ids
    first, last = rows[0][0], rows[-1][0]
    commits = connection.execute(_COMMITS, (first, last)).fetchall()
    starts = [start for start, _ in commits]
    texts = [uuid_text(int.from_bytes(commit_id, "big"))[:-6] for _, commit_id in commits]  # all but the ordinal
    for at, row in enumerate(rows):
        if not ids[at]:
            place = bisect_right(starts, row[0]) - 1
            ids[at] = f"{texts[place]}{row[0] - starts[place]:06x}"
    return ids


def _corrected(
    connection: sqlite3.Connection, ids: list[str], rows: list[PlainRow], first: int, last: int
) -> tuple[list[str], list[PlainRow]]:
    """The rows without what was taken back, and with the present costs of what was re-rated."""
    changes = {seq: rest for seq, _, *rest in connection.execute(_ADJUSTED, (first, last))}
    if not changes:
        return ids, rows
    kept_ids: list[str] = []
    kept: list[PlainRow] = []
    for each, row in zip(ids, rows, strict=True):
        change = changes.get(row[0])
        if change is not None:
            requests, cost_nano, unpriced, source_id = change
            if requests < 0:
                continue
            was = Row._make(row)
            is_unpriced = (was.cost_nano is None) + unpriced > 0
            cost = None if is_unpriced else (was.cost_nano or 0) + cost_nano
            row = tuple(was._replace(cost_nano=cost, price_source_id=source_id))  # noqa: PLW2901
        kept_ids.append(each)
        kept.append(row)
    return kept_ids, kept


def read_series(connection: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, Series]:
    """These series, by their numbers."""
    found: dict[int, Series] = {}
    for start in range(0, len(numbers), _LOOKUP):
        chunk = numbers[start : start + _LOOKUP]
        sql = f"SELECT id, {', '.join(Series._fields)} FROM series WHERE id IN ({','.join('?' * len(chunk))})"
        found.update((number, Series._make(rest)) for number, *rest in connection.execute(sql, chunk))
    return found


def read_price_sources(connection: sqlite3.Connection) -> Mapping[int, tuple[str, str]]:
    """(kind, version) of every source of prices, by its number."""
    rows = connection.execute("SELECT id, kind, version FROM price_source")
    return {number: (kind, version) for number, kind, version in rows}


_SELECT = (
    f"SELECT {', '.join(f'e.{name}' for name in Row._fields)}, q.request_id "
    "FROM event e LEFT JOIN request q ON q.seq = e.seq WHERE e.seq >= ? AND e.seq <= ?"
)
_COMMITS = (
    "SELECT first_seq, id FROM ledger_commit WHERE first_seq >= "
    "(SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= ?) AND first_seq <= ? ORDER BY first_seq"
)
# SQLite takes the bare column from the row of the maximum: the newest adjustment says what the price is now.
_ADJUSTED = (
    "SELECT event_seq, max(seq), sum(requests), sum(cost_nano), sum(unpriced), price_source_id FROM adjustment "
    "WHERE event_seq BETWEEN ? AND ? GROUP BY event_seq"
)
