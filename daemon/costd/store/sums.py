"""Sums of spend over any span of time: from hourly rollups, and from events for the parts of hours at its edges.

Rollups are added up by series before anything is joined to them: that is a tenth of the rows. An hour that a span
cuts in two is taken from its events; where those are no longer all kept, the hour counts whole on the side of its
middle, and the result says that it is not exact.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from costd.domain.days import DAY_MS, HOUR_MS, Span
from costd.domain.money import NANO_PER_USD
from costd.domain.series import TAG_SEPARATOR
from costd.domain.spend import Spend
from costd.store.attribution import column_of
from costd.store.event_blocks import Blocks
from costd.store.whole_hours import NO_HOUR, Rolled, by_day, by_hour, unfolded, whole_hours


@dataclass(frozen=True, slots=True)
class SpendRow:
    """The spend of one combination of dimensions, in the order they were asked for."""

    names: tuple[str, ...]
    spend: Spend


@dataclass(frozen=True, slots=True)
class SpendTable:
    """Rows in no particular order. `exact` is False where an hour was cut whose events are no longer kept."""

    rows: list[SpendRow]
    exact: bool

    def total(self) -> Spend:
        """All rows together."""
        total = Spend()
        for row in self.rows:
            total = total.plus(row.spend)
        return total


class Wanted(NamedTuple):
    """Which series to add up: those of an organization whose dimensions have one of these values each.

    And, of a record's several tags, all of these.
    """

    org_id: int
    filters: Mapping[str, Sequence[str]]
    tags: Sequence[str] = ()

    def where(self) -> tuple[str, list[object]]:
        """A condition on `series s`."""
        conditions, values = ["s.org_id = ?"], [self.org_id, *(v for wanted in self.filters.values() for v in wanted)]
        for name, wanted in self.filters.items():
            conditions.append(f"{column_of(name)} IN ({', '.join('?' * len(wanted))})")
        for tag in self.tags:
            conditions.append(f"instr('{TAG_SEPARATOR}' || s.tags || '{TAG_SEPARATOR}', ?) > 0")
            values.append(f"{TAG_SEPARATOR}{tag}{TAG_SEPARATOR}")
        return " AND ".join(conditions), [*values]

    def is_everything(self, connection: sqlite3.Connection) -> bool:
        """Whether every series there is is wanted: one organization, and no filters."""
        return not self.filters and not self.tags and connection.execute("SELECT count(*) FROM org").fetchone()[0] == 1


class SeriesFilter:
    """The conditions that keep a statement to the series wanted; none where there are no others."""

    def __init__(self, connection: sqlite3.Connection, wanted: Wanted) -> None:
        self.values: list[object] = []
        self._where = ""
        if not wanted.is_everything(connection):
            self._where, self.values = wanted.where()

    def on_rollups(self) -> str:
        """The condition on rollups, which are many, and look into a set."""
        return f"series_id IN (SELECT s.id FROM series s WHERE {self._where})" if self._where else "1"

    def on_events(self) -> str:
        """The condition on events, which are few, and look up their series."""
        return f"EXISTS (SELECT 1 FROM series s WHERE s.id = series_id AND {self._where})" if self._where else "1"

    def on(self, part: _Part) -> str:
        """The condition on a part."""
        return self.on_rollups() if part.is_rollup else self.on_events()


class _Edge(NamedTuple):
    """A part of one hour: [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    @property
    def hour(self) -> int:
        return self.start_ms // HOUR_MS


class _Part(NamedTuple):
    """Rows to add up, as the end of a SELECT, and how their columns are summed."""

    sums: str
    source: str
    values: tuple[object, ...]
    is_rollup: bool = False


def sum_by(connection: sqlite3.Connection, wanted: Wanted, by: Sequence[str], span: Span) -> SpendTable:
    """The spend of `span`, grouped by dimensions; without any there is one row, unless nothing was found."""
    parts, exact = _parts(connection, span)
    if not by:
        spend = _total(connection, SeriesFilter(connection, wanted), parts)
        return SpendTable([SpendRow((), spend)] if spend != Spend() else [], exact)
    only = SeriesFilter(connection, wanted)
    pieces, values = [], []
    for part in parts:
        pieces.append(f"SELECT series_id, {part.sums} FROM {part.source} AND {only.on(part)} GROUP BY series_id")
        values += [*part.values, *only.values]
    names = ", ".join(column_of(name) for name in by)
    sql = (
        f"SELECT {names}, {_ALL} FROM ({' UNION ALL '.join(pieces)}) t JOIN series s ON s.id = t.series_id "
        f"WHERE s.org_id = ? GROUP BY {', '.join(str(place + 1) for place in range(len(by)))}"
    )
    width = len(by)
    rows = connection.execute(sql, [*values, wanted.org_id]) if pieces else []
    return SpendTable([SpendRow(row[:width], _spend(row[width:])) for row in rows], exact)


def sum_buckets(connection: sqlite3.Connection, wanted: Wanted, bounds_ms: Sequence[int]) -> tuple[list[Spend], bool]:
    """The spend between each two neighbours of `bounds_ms`, which ascend; and whether that is exact.

    Whole UTC days are read by day. Of a bound that is none of theirs, what lies between it and the nearest of theirs
    is read too: it belongs to the bucket on its other side.
    """
    only = SeriesFilter(connection, wanted)
    blocks = Blocks(connection)
    kept_from = _complete_from(connection)
    exact = True
    midnights: list[int] = []
    beyond: list[Spend] = []
    for bound in bounds_ms:
        at_ms = bound
        if bound % HOUR_MS and bound // HOUR_MS < kept_from:
            exact = exact and not _anything(connection, bound // HOUR_MS)
            at_ms = (bound + HOUR_MS // 2 - 1) // HOUR_MS * HOUR_MS
        midnight = (at_ms + DAY_MS // 2) // DAY_MS
        midnights.append(midnight)
        beyond.append(_between(connection, only, blocks, midnight * DAY_MS, at_ms))
    found = _each_day(connection, only, midnights[0], midnights[-1])
    sums = []
    for place, (from_day, to_day) in enumerate(pairwise(midnights)):
        spend = beyond[place + 1].minus(beyond[place])
        for day in range(from_day, to_day):
            spend = spend.plus(found[day]) if day in found else spend
        sums.append(spend)
    return sums, exact


def _between(connection: sqlite3.Connection, only: SeriesFilter, blocks: Blocks, midnight_ms: int, at_ms: int) -> Spend:
    """The spend from a midnight to a moment up to twelve hours after it, or less than nothing if it is before."""
    if at_ms == midnight_ms:
        return Spend()
    start_ms, end_ms = min(midnight_ms, at_ms), max(midnight_ms, at_ms)
    parts = [part for edge in _edges(start_ms, end_ms) for part in _event_parts(blocks, edge)]
    from_hour, to_hour = -(-start_ms // HOUR_MS), end_ms // HOUR_MS
    if from_hour < to_hour:
        parts.append(_rolled(by_hour(from_hour, to_hour)))
    spend = _total(connection, only, parts)
    return spend if midnight_ms < at_ms else Spend().minus(spend)


def _each_day(connection: sqlite3.Connection, only: SeriesFilter, from_day: int, to_day: int) -> dict[int, Spend]:
    """The spend of each of these UTC days that has any."""
    found: dict[int, Spend] = {}
    for rolled in (by_day(from_day, to_day), unfolded(connection, from_day * 24, to_day * 24)):
        time, part = rolled.time, _rolled(rolled)
        for at, *row in connection.execute(
            f"SELECT {time}, {part.sums} FROM {part.source} AND {only.on(part)} GROUP BY {time}",
            [*part.values, *only.values],
        ):
            day = at if time == "day" else at // 24
            found[day] = found.get(day, Spend()).plus(_spend(row))
    return found


def _parts(connection: sqlite3.Connection, span: Span) -> tuple[list[_Part], bool]:
    """What makes up a span: its whole hours, and the parts of hours at its edges."""
    start_ms, end_ms = span
    from_hour = 0 if start_ms is None else -(-start_ms // HOUR_MS)
    to_hour = NO_HOUR if end_ms is None else end_ms // HOUR_MS
    parts: list[_Part] = []
    kept_from = _complete_from(connection)
    exact = True
    edges = _edges(0 if start_ms is None else start_ms, NO_HOUR * HOUR_MS if end_ms is None else end_ms)
    for edge in edges:
        if edge.hour >= kept_from:
            parts += _event_parts(Blocks(connection), edge)
            continue
        exact = exact and not _anything(connection, edge.hour)
        if edge.start_ms <= edge.hour * HOUR_MS + HOUR_MS // 2 < edge.end_ms:
            parts.append(_rolled(by_hour(edge.hour, edge.hour + 1)))
    return parts + [_rolled(piece) for piece in whole_hours(connection, from_hour, to_hour)], exact


def _edges(start_ms: int, end_ms: int) -> list[_Edge]:
    """The parts of [start, end) that are not whole hours: none, one or two, each within one hour."""
    if start_ms >= end_ms:
        return []
    first_whole, last_whole = -(-start_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    if first_whole > last_whole:
        return [_Edge(start_ms, end_ms)]
    pieces = (_Edge(start_ms, first_whole), _Edge(last_whole, end_ms))
    return [piece for piece in pieces if piece.start_ms < piece.end_ms]


def _rolled(rolled: Rolled) -> _Part:
    return _Part(_ROLLED, rolled.source, rolled.values, is_rollup=True)


def _event_parts(blocks: Blocks, edge: _Edge) -> Iterator[_Part]:
    moment = "at_ms >= ? AND at_ms < ?"
    for first_seq, last_seq in blocks.ranges(edge.start_ms, edge.end_ms):
        yield _Part(_COUNTED, f"event WHERE seq >= ? AND seq <= ? AND {moment}", (first_seq, last_seq, *edge))
    if blocks.has_adjustments:
        yield _Part(_ADJUSTED, f"adjustment WHERE {moment}", tuple(edge))


def _total(connection: sqlite3.Connection, only: SeriesFilter, parts: Sequence[_Part]) -> Spend:
    total = Spend()
    for part in parts:
        row = connection.execute(
            f"SELECT {part.sums} FROM {part.source} AND {only.on(part)}", [*part.values, *only.values]
        ).fetchone()
        total = total.plus(_spend(row))
    return total


def _complete_from(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT complete_from_hour FROM ledger_state").fetchone()[0])


def _anything(connection: sqlite3.Connection, hour: int) -> bool:
    return connection.execute("SELECT 1 FROM rollup WHERE hour = ? LIMIT 1", (hour,)).fetchone() is not None


def _spend(row: Sequence[int | None]) -> Spend:
    """The columns of _COLUMNS; NULL where there was no row to sum."""
    requests, input_, output, cached, usd, nano, unpriced = (number or 0 for number in row)
    return Spend(requests, input_, output, cached, usd * NANO_PER_USD + nano, unpriced)


# Money is summed in two halves, as rollups keep it: no sum of allowed records can overflow 64 bits then.
_COLUMNS = ("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cost_usd", "cost_nano", "unpriced")
_ROLLED = ", ".join(f"sum({name}) AS {name}" for name in _COLUMNS)
_ALL = ", ".join(f"sum(t.{name})" for name in _COLUMNS)
_MONEY = f"sum(cost_nano / {NANO_PER_USD}) AS cost_usd, sum(cost_nano % {NANO_PER_USD}) AS cost_nano"
_COUNTED = (
    "count(*) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, "
    f"sum(cache_read_tokens) AS cache_read_tokens, {_MONEY}, sum(cost_nano IS NULL) AS unpriced"
)
_ADJUSTED = (
    "sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, "
    f"sum(cache_read_tokens) AS cache_read_tokens, {_MONEY}, sum(unpriced) AS unpriced"
)
