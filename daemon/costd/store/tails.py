"""Reads of records as they come: those after a number, a few at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.days import Span
from costd.store.events import EventView, events_numbered
from costd.store.sums import Wanted
from costd.store.usage_log import find_events

#: Records read at once: each is a dozen microseconds.
MAX_RECORDS = 500
#: Numbers looked at in one statement where few are wanted.
_MAX_SCANNED = 50_000


class Arrivals(NamedTuple):
    """Records in the order they were recorded; up to the number `position` there are no others, there may be `more`."""

    events: Sequence[EventView]
    position: int
    more: bool


def last_position(connection: sqlite3.Connection) -> int:
    """The highest number there is."""
    row = connection.execute(
        "SELECT first_seq + items - 1 FROM ledger_commit ORDER BY first_seq DESC LIMIT 1"
    ).fetchone()
    return int(row[0]) if row else 0


def read_newest(connection: sqlite3.Connection, wanted: Wanted, count: int) -> Arrivals:
    """The newest `count` records."""
    newest = find_events(connection, wanted, Span(), None, count).events
    return Arrivals(newest[::-1], last_position(connection), more=False)


def read_arrivals(connection: sqlite3.Connection, wanted: Wanted, after: int) -> Arrivals:
    """The next records after the number `after`."""
    newest = last_position(connection)
    top = min(newest, after + _MAX_SCANNED)
    where, values = wanted.where()
    # CROSS JOIN keeps the order of the events: they are few, and there may be a hundred thousand series.
    found = connection.execute(
        "SELECT e.seq FROM event e CROSS JOIN series s ON s.id = e.series_id "
        f"WHERE e.seq > ? AND e.seq <= ? AND {where} ORDER BY e.seq LIMIT {MAX_RECORDS}",
        (after, top, *values),
    )
    seqs = [seq for (seq,) in found]
    events = events_numbered(connection, wanted.org_id, seqs)[::-1] if seqs else []
    position = seqs[-1] if len(seqs) == MAX_RECORDS else max(top, after)
    return Arrivals(events, position, more=position < newest)
