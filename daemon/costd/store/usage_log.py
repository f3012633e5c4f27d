"""Reads of single records by what they are and when they were made, newest first; those taken back are left out."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from costd.domain.days import Span
from costd.store.event_blocks import Blocks
from costd.store.events import EventPage, events_numbered
from costd.store.sums import Wanted

_FAR_MS = 1 << 60


def find_events(
    connection: sqlite3.Connection, wanted: Wanted, span: Span, before_seq: int | None, limit: int
) -> EventPage:
    """The newest `limit` records of the series wanted, made in `span`, below the number `before_seq`."""
    series = None if wanted.is_everything(connection) else _series_ids(connection, wanted)
    seqs = _find(connection, series, span, before_seq, limit + 1)
    page = seqs[:limit]
    found = events_numbered(connection, wanted.org_id, page) if page else []
    return EventPage(found, str(page[-1]) if len(seqs) > limit else "")


def _series_ids(connection: sqlite3.Connection, wanted: Wanted) -> frozenset[int]:
    where, values = wanted.where()
    return frozenset(row[0] for row in connection.execute(f"SELECT s.id FROM series s WHERE {where}", values))


def _find(
    connection: sqlite3.Connection, series: frozenset[int] | None, span: Span, before_seq: int | None, count: int
) -> list[int]:
    """Up to `count` numbers, highest first; `series` is None where every one is wanted."""
    start_ms = -_FAR_MS if span.start_ms is None else span.start_ms
    end_ms = _FAR_MS if span.end_ms is None else span.end_ms
    conditions: list[str] = []
    values: list[object] = []
    if span != Span():
        conditions.append("at_ms >= ? AND at_ms < ?")
        values += [start_ms, end_ms]
    if series is not None:
        # Bound as one value: a filter may name more series than a statement takes values.
        conditions.append("series_id IN (SELECT value FROM json_each(?))")
        values.append(f"[{','.join(map(str, sorted(series)))}]")
    blocks = Blocks(connection)
    if blocks.has_adjustments:
        conditions.append("NOT EXISTS (SELECT 1 FROM adjustment a WHERE a.event_seq = event.seq AND a.requests < 0)")
    where = "".join(f" AND {condition}" for condition in conditions)
    found: list[int] = []
    for first, last in reversed(blocks.ranges(start_ms, end_ms, series)):
        top = last if before_seq is None else min(last, before_seq - 1)
        if top < first:
            continue
        found += _newest(connection, where, [first, top, *values, count - len(found)])
        if len(found) >= count:
            break
    return found


def _newest(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> list[int]:
    rows = connection.execute(
        f"SELECT seq FROM event WHERE seq >= ? AND seq <= ?{where} ORDER BY seq DESC LIMIT ?", values
    )
    return [seq for (seq,) in rows]
