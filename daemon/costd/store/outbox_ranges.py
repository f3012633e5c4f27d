"""Ranges of the ledger's sequence read for the hub: whole commits, with everything that they refer to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from costd.domain.forwarding import (
    Adjustment,
    CatalogSaid,
    CommitSpan,
    Entry,
    Events,
    PriceSource,
    Range,
    RecordBatch,
    Request,
)
from costd.domain.series import Series
from costd.store.adjustments import DUPLICATE
from costd.store.catalog_log import changes_between

#: A range ends with the commit in which it has this many items: large enough that a transaction and a message cost
#: little for each record, small enough that the hub's other sources never wait long behind one.
RANGE_ITEMS = 4_000
#: Commits looked at for one range; more than it has items it cannot need.
_MAX_COMMITS = RANGE_ITEMS
#: Series remembered with their numbers; one is about a kilobyte.
_MAX_SERIES = 20_000


class _Names:
    """The organizations that a range names, numbered as they come."""

    def __init__(self, by_id: dict[int, str]) -> None:
        self._by_id = by_id
        self._places: dict[int, int] = {}

    def place(self, org_id: int) -> int:
        """The position of an organization."""
        return self._places.setdefault(org_id, len(self._places))

    def all(self) -> list[str]:
        """The names, in order."""
        return [self._by_id[org_id] for org_id in self._places]


class _Places(NamedTuple):
    """How numbers of this ledger become positions in the range."""

    orgs: _Names
    series: dict[int, int]
    sources: dict[int, int]


class RangeReader:
    """Reads ranges; remembers series and price sources, which never change. Used by one thread."""

    def __init__(self) -> None:
        self._series: dict[int, Series] = {}
        self._sources: dict[int, PriceSource] = {}

    def read(self, connection: sqlite3.Connection, after: int) -> Range | None:
        """The next range behind a number; None while there is none."""
        commits = _commits(connection, after)
        if not commits:
            return None
        first, last = after + 1, commits[-1].last
        rows = connection.execute(_EVENTS, (first, last)).fetchall()
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * 13
        adjustments = connection.execute(_ADJUSTMENTS, (first, last)).fetchall()
        orgs = _Names(dict(connection.execute("SELECT id, name FROM org")))
        series_ids = sorted({*columns[3], *(row[3] for row in adjustments)})
        source_ids = sorted({*columns[10], *(row[7] or 0 for row in adjustments)} - {0})
        self._learn(connection, series_ids, source_ids)
        series = [self._series[number] for number in series_ids]
        places = _Places(
            orgs,
            {number: at for at, number in enumerate(series_ids)},
            {0: 0} | {number: at for at, number in enumerate(source_ids, 1)},
        )
        return Range(
            first,
            last,
            series=[each._replace(org_id=orgs.place(each.org_id)) for each in series],
            sources=[self._sources[number] for number in source_ids],
            commits=commits,
            events=_events(connection, columns, places, first, last),
            requests=_requests(connection, orgs, first, last),
            batches=_batches(connection, orgs, first, last),
            entries=_entries(connection, orgs, first, last),
            adjustments=[_adjustment(row, places) for row in adjustments],
            catalog=[
                CatalogSaid(said.seq, orgs.place(said.org_id), *said[2:])
                for said in changes_between(connection, first, last)
            ],
            organizations=orgs.all(),
        )

    def _learn(self, connection: sqlite3.Connection, series_ids: list[int], source_ids: list[int]) -> None:
        if len(self._series) + len(series_ids) > _MAX_SERIES:
            self._series.clear()
        new = [number for number in series_ids if number not in self._series]
        for number, *names in _by_id(connection, f"SELECT id, {', '.join(Series._fields)} FROM series", new):
            self._series[number] = Series(*names)
        new = [number for number in source_ids if number not in self._sources]
        for number, kind, version, digest in _by_id(
            connection, "SELECT id, kind, version, table_digest FROM price_source", new
        ):
            self._sources[number] = PriceSource(kind, version, digest or b"")


def _by_id(connection: sqlite3.Connection, select: str, ids: list[int]) -> Iterable[tuple[Any, ...]]:
    if not ids:
        return ()
    return connection.execute(f"{select} WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),))


def _commits(connection: sqlite3.Connection, after: int) -> list[CommitSpan]:
    """The next commits, as many as make a range."""
    found: list[CommitSpan] = []
    items = 0
    for first, commit_id, size, at_ms in connection.execute(_COMMITS, (after, _MAX_COMMITS)):
        found.append(CommitSpan(first, int.from_bytes(commit_id, "big"), size, at_ms))
        items += size
        if items >= RANGE_ITEMS:
            break
    return found


def _events(
    connection: sqlite3.Connection, columns: Sequence[Sequence[Any]], places: _Places, first: int, last: int
) -> Events:
    seqs, at_ms, charged, series, *counts, cost, source, latency, extra = columns
    taken = {
        seq
        for (seq,) in connection.execute(
            "SELECT event_seq FROM adjustment WHERE event_seq BETWEEN ? AND ? AND kind = ?", (first, last, DUPLICATE)
        )
    }
    return Events(
        seqs,
        at_ms,
        charged if any(charged) else (),
        [places.series[number] for number in series],
        tuple(counts),
        cost,
        [places.sources[number] for number in source],
        latency,
        {at: text for at, text in enumerate(extra) if text is not None},
        frozenset(at for at, seq in enumerate(seqs) if seq in taken) if taken else frozenset(),
    )


def _requests(connection: sqlite3.Connection, orgs: _Names, first: int, last: int) -> list[Request]:
    rows = connection.execute(_REQUESTS, (first, last)).fetchall()
    if not rows:
        return []
    seqs, org_ids, request_ids, marks = zip(*rows, strict=True)
    places = {org_id: orgs.place(org_id) for org_id in dict.fromkeys(org_ids)}
    return list(map(Request._make, zip(seqs, [places[org_id] for org_id in org_ids], request_ids, marks, strict=True)))


def _batches(connection: sqlite3.Connection, orgs: _Names, first: int, last: int) -> list[RecordBatch]:
    rows = connection.execute(
        "SELECT seq, org_id, batch_id, fingerprint, records, answer FROM record_batch WHERE seq BETWEEN ? AND ?",
        (first, last),
    )
    return [
        RecordBatch(
            seq,
            orgs.place(org),
            batch_id,
            mark,
            records,
            answer or "",
            records if answer is None else json.loads(answer)[0].count("a"),
        )
        for seq, org, batch_id, mark, records, answer in rows
    ]


def _entries(connection: sqlite3.Connection, orgs: _Names, first: int, last: int) -> list[Entry]:
    rows = connection.execute(
        f"SELECT seq, id, org_id, {ENTRY_COLUMNS} FROM month_entry WHERE seq BETWEEN ? AND ?", (first, last)
    )
    return [Entry(seq, entry_id, orgs.place(org), tuple(values)) for seq, entry_id, org, *values in rows]


def _adjustment(row: Sequence[Any], places: _Places) -> Adjustment:
    seq, event_id, at_ms, series, kind, units, reason, source, actor, *amounts = row
    other = [(name, Decimal(quantity)) for name, quantity in json.loads(units).items()] if units else []
    return Adjustment(
        seq,
        event_id,
        at_ms,
        places.series[series],
        kind,
        amounts,
        other,
        places.sources[source or 0],
        reason,
        actor,
    )


#: The columns of a month entry as entries carry them.
ENTRY_COLUMNS = (
    "key_id, kind, service, provider, project, product, year, month, cost_nano, tokens, input_tokens, "
    "output_tokens, cached_tokens, details"
)
_COMMITS = "SELECT first_seq, id, items, at_ms FROM ledger_commit WHERE first_seq > ? ORDER BY first_seq LIMIT ?"
_EVENTS = (
    "SELECT seq, at_ms, coalesce(charged_ms, 0), series_id, input_tokens, output_tokens, cache_read_tokens, "
    "cache_write_tokens, reasoning_tokens, coalesce(cost_nano, -1), coalesce(price_source_id, 0), "
    "coalesce(latency_ms, -1), extra FROM event WHERE seq BETWEEN ? AND ? ORDER BY seq"
)
_REQUESTS = "SELECT seq, org_id, request_id, fingerprint FROM request WHERE seq BETWEEN ? AND ? ORDER BY seq"
_ADJUSTMENTS = (
    "SELECT a.seq, a.event_id, a.at_ms, a.series_id, a.kind, a.units, c.reason, a.price_source_id, c.actor, "
    "a.requests, a.errors, a.input_tokens, a.output_tokens, a.cache_read_tokens, a.cache_write_tokens, "
    "a.reasoning_tokens, a.cost_nano, a.unpriced, a.unrated, a.latency_ms, a.timed "
    "FROM adjustment a JOIN correction c ON c.id = a.correction_id WHERE a.seq BETWEEN ? AND ? ORDER BY a.seq"
)
