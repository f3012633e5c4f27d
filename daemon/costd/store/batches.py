"""Batches of records by columns: stored as the same rows as single records, in a fraction of their time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import compress, repeat
from typing import Any, NamedTuple

from costd.domain.errors import Conflict
from costd.domain.series import Series
from costd.store.column_sums import add_columns
from costd.store.commit import Commit
from costd.store.history import Content, caller_sources, content, find_event_ids, held_alike
from costd.store.ledger import EVENT_COLUMNS, INTO_EVENT
from costd.store.requests import INTO_REQUEST, Request, find_requests, stored_request_id
from costd.store.rows import insert_rows

#: What became of a record, as batches keep it for their retry.
ACCEPTED = "a"
DUPLICATE = "d"
CONFLICT = "c"
INVALID = "i"
FORBIDDEN = "f"

#: The same in the words that metrics count.
OUTCOME_WORDS = {
    ACCEPTED: "accepted",
    DUPLICATE: "duplicate",
    CONFLICT: "conflict",
    INVALID: "invalid",
    FORBIDDEN: "forbidden",
}

_NEW = (ACCEPTED, 0)
_HELD = frozenset((ACCEPTED, DUPLICATE))
#: Of a record that was stored without a request id: no fingerprint is like it.
_NO_FINGERPRINT = b""

StoredId = bytes | str


class RefusedRecord(NamedTuple):
    """A record that is not valid. With an id it may be held already, and is a duplicate then."""

    position: int
    outcome: str  # INVALID or FORBIDDEN
    field: str
    reason: str
    request_id: str = ""
    fingerprint: bytes = b""


class ColumnBatch(NamedTuple):
    """Valid, priced records by columns, and those that are refused. All columns are equally long.

    `place` is each record's place in `series`, `positions` its own place in the batch as sent. `request_ids` (in their
    stored form, "" for none) and `fingerprints` are None where no record has an id. `rare` are units without a column,
    by index into the columns. `charged_ms` is when those were reserved that were, empty where none was. `history` says
    that records may be held from elsewhere: see costd.store.history.
    """

    org_id: int
    batch_id: str
    fingerprint: bytes
    sent: int
    series: Sequence[Series]
    positions: Sequence[int]
    place: Sequence[int]
    at_ms: Sequence[int]
    counts: tuple[Sequence[int], ...]  # of domain.batch.COUNT_COLUMNS
    cost_nano: Sequence[int | None]
    source_id: Sequence[int | None]
    latency_ms: Sequence[int | None]
    extra: Sequence[str | None]
    unrated: frozenset[int]
    rare: Mapping[int, tuple[tuple[str, int | Decimal], ...]]
    request_ids: Sequence[StoredId] | None
    fingerprints: Sequence[bytes] | None
    refused: Sequence[RefusedRecord]
    door: str
    history: bool = False
    charged_ms: Sequence[int | None] = ()


class BatchStored(NamedTuple):
    """What became of a batch: an outcome for each record as sent, its event id and its cost (None where unknown)."""

    duplicate: bool
    outcomes: str
    event_ids: Sequence[int | None]
    costs_nano: Sequence[int | None]
    refusals: Sequence[tuple[int, str, str]]


def store_batch(commit: Commit, batch: ColumnBatch) -> BatchStored | Conflict:
    """Store a batch, or give the first answer again where its id is held."""
    if batch.batch_id:
        held = _find_batch(commit, batch)
        if held is not None:
            if commit.charges is not None and isinstance(held, BatchStored):
                _name(commit, batch, held.outcomes)
            return held
    seq = commit.take_seq() if batch.batch_id else 0
    known = _known(commit, batch)
    fates: dict[int, tuple[str, int]] = {}  # position → (outcome, seq of what is held)
    refused = [record for record in batch.refused if not _is_held(record, known, fates)]
    fates.update((record.position, (record.outcome, 0)) for record in refused)
    refusals = [(record.position, record.field, record.reason) for record in refused]
    fresh = _fresh(commit.connection, batch, known, fates)
    first_seq = _insert(commit, fresh)
    stored = _outcome(commit, batch, fresh, first_seq, fates, refusals)
    if commit.charges is not None:
        _name(commit, batch, stored.outcomes)
    # Where nothing was new, a retry finds the same by the records' own ids.
    if batch.batch_id and (fresh.place or not batch.history):
        _remember(commit, seq, batch, stored, fates)
    return stored


def _known(commit: Commit, batch: ColumnBatch) -> dict[StoredId, Request]:
    ids = {stored_request_id(record.request_id) for record in batch.refused if record.request_id}
    ids.update(batch.request_ids or ())
    ids.discard("")
    if not ids:
        return {}
    found = find_requests(commit.connection, [(batch.org_id, each) for each in ids])
    known = {request_id: request for (_, request_id), request in found.items()}
    if batch.history:
        others = [each for each in ids if isinstance(each, bytes) and each not in known]
        events = find_event_ids(commit.connection, batch.org_id, others)
        known.update((each, Request(_NO_FINGERPRINT, seq)) for each, seq in events.items())
    return known


def _is_held(record: RefusedRecord, known: Mapping[StoredId, Request], fates: dict[int, tuple[str, int]]) -> bool:
    """Whether a record that would be refused now is held, or its id stands for something else; notes which."""
    request = known.get(stored_request_id(record.request_id)) if record.request_id else None
    if request is None:
        return False
    outcome = DUPLICATE if request.fingerprint == record.fingerprint else CONFLICT
    fates[record.position] = (outcome, request.seq if outcome is DUPLICATE else 0)
    return True


def _fresh(
    connection: sqlite3.Connection,
    batch: ColumnBatch,
    known: Mapping[StoredId, Request],
    fates: dict[int, tuple[str, int]],
) -> ColumnBatch:
    """The batch without records that are held, on disk or earlier in itself; notes what became of those.

    A duplicate of a record of the same batch is noted with the negative index of the first.
    """
    if batch.request_ids is None or batch.fingerprints is None:
        return batch
    keep = [True] * len(batch.place)
    seen: dict[StoredId, int] = {}
    kept = 0
    for at, request_id in enumerate(batch.request_ids):
        if request_id:
            earlier = known.get(request_id) if known else None
            first = seen.get(request_id)
            if earlier is not None or first is not None:
                keep[at] = False
                fates[batch.positions[at]] = _repeat_of(batch, at, earlier, first)
                continue
            seen[request_id] = at
        kept += 1
    if batch.history:
        _compare_contents(connection, batch, known, fates)
    return batch if kept == len(keep) else _only(batch, keep)


def _compare_contents(
    connection: sqlite3.Connection,
    batch: ColumnBatch,
    known: Mapping[StoredId, Request],
    fates: dict[int, tuple[str, int]],
) -> None:
    """Conflicts that are none: records that were said in other words, but mean the same."""
    assert batch.request_ids is not None
    doubtful = {
        at: known[batch.request_ids[at]].seq
        for at, position in enumerate(batch.positions)
        if fates.get(position, _NEW)[0] == CONFLICT and batch.request_ids[at] in known
    }
    own = caller_sources(connection)

    def said(at: int) -> Content:
        own_nano = batch.cost_nano[at] if batch.source_id[at] in own else None
        counts = [column[at] for column in batch.counts]
        series = batch.series[batch.place[at]]
        return content(series, batch.at_ms[at], counts, batch.latency_ms[at], batch.extra[at], own_nano)

    for at in held_alike(connection, doubtful, said):
        fates[batch.positions[at]] = (DUPLICATE, doubtful[at])


def _repeat_of(batch: ColumnBatch, at: int, earlier: Request | None, first: int | None) -> tuple[str, int]:
    assert batch.fingerprints is not None
    if earlier is not None:
        same = earlier.fingerprint == batch.fingerprints[at]
        return (DUPLICATE, earlier.seq) if same else (CONFLICT, 0)
    assert first is not None
    same = batch.fingerprints[first] == batch.fingerprints[at]
    return (DUPLICATE, -batch.positions[first] - 1) if same else (CONFLICT, 0)


def _only(batch: ColumnBatch, keep: Sequence[bool]) -> ColumnBatch:
    old_to_new = {old: new for new, old in enumerate(compress(range(len(keep)), keep))}
    columns: dict[str, Any] = {
        name: list(compress(getattr(batch, name), keep))
        for name in ("positions", "place", "at_ms", "cost_nano", "source_id", "latency_ms", "extra")
    }
    assert batch.request_ids is not None
    assert batch.fingerprints is not None
    return batch._replace(
        **columns,
        counts=tuple(list(compress(column, keep)) for column in batch.counts),
        request_ids=list(compress(batch.request_ids, keep)),
        fingerprints=list(compress(batch.fingerprints, keep)),
        charged_ms=list(compress(batch.charged_ms, keep)) if batch.charged_ms else (),
        unrated=frozenset(old_to_new[at] for at in batch.unrated if at in old_to_new),
        rare={old_to_new[at]: units for at, units in batch.rare.items() if at in old_to_new},
    )


def _insert(commit: Commit, batch: ColumnBatch) -> int:
    """Insert every record of the batch; the number of the first."""
    count = len(batch.place)
    first_seq = commit.take_seqs(count)
    if not count:
        return first_seq
    numbers = {at: commit.ledger.intern(commit, batch.series[at]) for at in set(batch.place)}
    series_ids = [numbers[at] for at in batch.place]
    seqs = range(first_seq, first_seq + count)
    rows = zip(
        seqs,
        batch.at_ms,
        batch.charged_ms or repeat(None),
        series_ids,
        *batch.counts,
        batch.cost_nano,
        batch.source_id,
        batch.latency_ms,
        batch.extra,
        strict=False,
    )
    insert_rows(commit.connection, INTO_EVENT, EVENT_COLUMNS, list(rows))
    if batch.request_ids is not None and batch.fingerprints is not None:
        requests = [
            (seq, batch.org_id, request_id, fingerprint)
            for seq, request_id, fingerprint in zip(seqs, batch.request_ids, batch.fingerprints, strict=True)
            if request_id
        ]
        insert_rows(commit.connection, INTO_REQUEST, 4, requests)
    add_columns(commit, batch, numbers)
    return first_seq


def _name(commit: Commit, batch: ColumnBatch, outcomes: str) -> None:
    """Name those records that are on disk now, new or repeated."""
    said = [(record.position, stored_request_id(record.request_id)) for record in batch.refused]
    said += zip(batch.positions, batch.request_ids or (), strict=False)
    named = {request_id for position, request_id in said if request_id and outcomes[position] in _HELD}
    commit.named += [(batch.org_id, request_id) for request_id in named]


def _outcome(
    commit: Commit,
    batch: ColumnBatch,
    fresh: ColumnBatch,
    first_seq: int,
    fates: Mapping[int, tuple[str, int]],
    refusals: Sequence[tuple[int, str, str]],
) -> BatchStored:
    first_id = commit.event_id(first_seq)
    if not fates:
        return BatchStored(
            False, ACCEPTED * batch.sent, range(first_id, first_id + batch.sent), fresh.cost_nano, refusals
        )
    outcomes = [ACCEPTED] * batch.sent
    event_ids: list[int | None] = [None] * batch.sent
    costs: list[int | None] = [None] * batch.sent
    for at, position in enumerate(fresh.positions):
        event_ids[position] = first_id + at
        costs[position] = fresh.cost_nano[at]
    for position, (outcome, seq) in sorted(fates.items()):
        outcomes[position] = outcome
        if outcome == DUPLICATE and seq > 0:
            event_ids[position] = commit.public_id(seq)
            costs[position] = _cost_of(commit.connection, seq)
        elif outcome == DUPLICATE:
            event_ids[position] = event_ids[-seq - 1]
            costs[position] = costs[-seq - 1]
    return BatchStored(False, "".join(outcomes), event_ids, costs, refusals)


def _cost_of(connection: sqlite3.Connection, seq: int) -> int | None:
    row = connection.execute("SELECT cost_nano FROM event WHERE seq = ?", (seq,)).fetchone()
    return row[0] if row else None


def _remember(
    commit: Commit, seq: int, batch: ColumnBatch, stored: BatchStored, fates: Mapping[int, tuple[str, int]]
) -> None:
    """Keep what a retry of this batch will be answered with: nothing but its id where every record was accepted."""
    answer = None
    if fates:
        held = [None if each is None else f"{each:x}" for each in stored.event_ids]
        answer = json.dumps([stored.outcomes, held, list(stored.costs_nano), list(stored.refusals)])
    commit.connection.execute(
        "INSERT INTO record_batch (seq, org_id, batch_id, fingerprint, records, answer) VALUES (?, ?, ?, ?, ?, ?)",
        (seq, batch.org_id, stored_request_id(batch.batch_id), batch.fingerprint, batch.sent, answer),
    )


def _find_batch(commit: Commit, batch: ColumnBatch) -> BatchStored | Conflict | None:
    connection = commit.connection
    row = connection.execute(
        "SELECT seq, fingerprint, records, answer FROM record_batch WHERE org_id = ? AND batch_id = ?",
        (batch.org_id, stored_request_id(batch.batch_id)),
    ).fetchone()
    if row is None:
        return None
    seq, fingerprint, records, answer = row
    if fingerprint != batch.fingerprint:
        return Conflict(f'the batch id "{batch.batch_id}" was already used with other content; nothing was recorded')
    if answer is not None:
        outcomes, held, costs, refusals = json.loads(answer)
        ids = [None if each is None else int(each, 16) for each in held]
        return BatchStored(True, outcomes, ids, costs, [tuple(each) for each in refusals])
    first_id = commit.public_id(seq + 1)
    kept = connection.execute(
        "SELECT cost_nano FROM event WHERE seq > ? AND seq <= ? ORDER BY seq", (seq, seq + records)
    )
    costs = [cost for (cost,) in kept]
    return BatchStored(True, ACCEPTED * records, range(first_id, first_id + records), costs, [])
