"""Reads of single records, newest first."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from costd.domain.ids import parse_uuid, split_event_id, uuid_text
from costd.domain.series import DIMENSIONS
from costd.store.requests import shown_request_id, stored_request_id

_SELECT = f"""
SELECT e.seq, e.at_ms, e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.reasoning_tokens,
       e.cost_nano, e.latency_ms, e.extra, q.request_id, coalesce(p.kind, ''), coalesce(p.version, ''),
       c.first_seq, c.id, c.at_ms,
       (SELECT sum(a.cost_nano) FROM adjustment a WHERE a.event_seq = e.seq),
       (SELECT sum(a.unpriced) FROM adjustment a WHERE a.event_seq = e.seq),
       (SELECT sum(a.requests) FROM adjustment a WHERE a.event_seq = e.seq),
       {", ".join(f"s.{name}" for name in DIMENSIONS)}
FROM event e
JOIN series s ON s.id = e.series_id
JOIN ledger_commit c ON c.first_seq = (SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= e.seq)
LEFT JOIN request q ON q.seq = e.seq
LEFT JOIN price_source p ON p.id = coalesce(
  (SELECT a.price_source_id FROM adjustment a WHERE a.event_seq = e.seq AND a.kind = 'reprice'
   ORDER BY a.seq DESC LIMIT 1),
  e.price_source_id)
WHERE s.org_id = ?
"""
_UNITS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")


@dataclass(frozen=True, slots=True)
class EventView:
    """One record as the ledger keeps it; times in UTC milliseconds, quantities as decimal text.

    `cost_nano` is after corrections, `recorded_nano` before them; None where it was unpriced.
    """

    event_id: str
    request_id: str
    at_ms: int
    received_ms: int
    dimensions: dict[str, str]
    units: dict[str, str]
    cost_nano: int | None
    cost_source: str
    price_version: str
    latency_ms: int | None
    status: str
    job: str
    unrated: list[str] = field(default_factory=list)
    context: dict[str, str] = field(default_factory=dict)
    recorded_nano: int | None = None
    is_corrected: bool = False
    is_void: bool = False


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of records and where the next one begins ("" at the end)."""

    events: list[EventView]
    next_cursor: str


def list_events(connection: sqlite3.Connection, org_id: int, before_seq: int | None, limit: int) -> EventPage:
    """The newest `limit` records below the number `before_seq`."""
    where, values = ("", [org_id]) if before_seq is None else (" AND e.seq < ?", [org_id, before_seq])
    rows = connection.execute(f"{_SELECT}{where} ORDER BY e.seq DESC LIMIT ?", (*values, limit + 1)).fetchall()
    more = len(rows) > limit
    page = rows[:limit]
    return EventPage([_view(row) for row in page], str(page[-1][0]) if more else "")


def events_numbered(connection: sqlite3.Connection, org_id: int, seqs: Sequence[int]) -> list[EventView]:
    """The records with these numbers, newest first."""
    marks = ", ".join("?" * len(seqs))
    rows = connection.execute(f"{_SELECT} AND e.seq IN ({marks}) ORDER BY e.seq DESC", (org_id, *seqs))
    return [_view(row) for row in rows]


def find_event(connection: sqlite3.Connection, org_id: int, wanted: str) -> EventView | None:
    """The record with this request id or, failing that, this event id."""
    seq = find_seq(connection, org_id, wanted)
    if seq is None:
        return None
    found = connection.execute(f"{_SELECT} AND e.seq = ?", (org_id, seq)).fetchone()
    return _view(found) if found else None


def find_seq(connection: sqlite3.Connection, org_id: int, wanted: str) -> int | None:
    """The number that a request id or, failing that, an event id stands for; whose event it is, is not looked at."""
    row = connection.execute(
        "SELECT seq FROM request WHERE org_id = ? AND request_id = ?", (org_id, stored_request_id(wanted))
    ).fetchone()
    return row[0] if row else _seq_of(connection, wanted)


def _seq_of(connection: sqlite3.Connection, event_id: str) -> int | None:
    number = parse_uuid(event_id.lower())
    if number is None:
        return None
    commit_id, ordinal = split_event_id(number)
    row = connection.execute(
        "SELECT first_seq + ? FROM ledger_commit WHERE id = ? AND items > ?",
        (ordinal, commit_id.to_bytes(16, "big"), ordinal),
    ).fetchone()
    return row[0] if row else None


def _view(row: tuple[object, ...]) -> EventView:
    seq, at_ms, *rest = row
    counts, (cost, latency, extra_text, request_id, source, version, first, commit_id, received), names = (
        rest[:5],
        rest[5:14],
        rest[17:],
    )
    cost_change, unpriced, requests = rest[14:17]
    extra = json.loads(str(extra_text)) if extra_text else {}
    dimensions = {name: str(value) for name, value in zip(DIMENSIONS, names, strict=True) if value}
    units = {name: str(count) for name, count in zip(_UNITS, counts, strict=True) if count}
    assert isinstance(commit_id, bytes)
    assert isinstance(seq, int)
    assert isinstance(first, int)
    return EventView(
        event_id=uuid_text(int.from_bytes(commit_id, "big") + seq - first),
        request_id=shown_request_id(request_id),  # type: ignore[arg-type]  # bytes, text or NULL by the schema
        at_ms=at_ms,  # type: ignore[arg-type]  # integers by the STRICT schema, here and below
        received_ms=received,  # type: ignore[arg-type]
        dimensions=dimensions,
        units={**units, **extra.get("units", {})},
        cost_nano=_corrected(cost, cost_change, unpriced),  # type: ignore[arg-type]
        cost_source=str(source),
        price_version=str(version),
        latency_ms=latency,  # type: ignore[arg-type]
        status=extra.get("status", dimensions.get("status", "")),
        job=extra.get("job", ""),
        unrated=extra.get("unrated", []),
        context=extra.get("context", {}),
        recorded_nano=cost,  # type: ignore[arg-type]
        is_corrected=cost_change is not None,
        is_void=bool(requests),
    )


def _corrected(cost: int | None, change: int | None, unpriced: int | None) -> int | None:
    """A cost after corrections, which changed it and whether it is unpriced."""
    if change is None:
        return cost
    return (cost or 0) + change if (cost is None) + (unpriced or 0) == 0 else None
