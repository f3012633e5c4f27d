"""How far a hub has taken over each epoch of each source, with the seals that prove it and what sources must hear."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.forwarding import NO_SEAL, Lost, Sealed, SetAside
from costd.domain.money import NANO_PER_USD
from costd.store.commit import Commit

#: Seals kept behind each watermark, to know a range that comes again: sources repeat at most what was under way.
KEPT_SEALS = 128


class Mark(NamedTuple):
    """Everything of an epoch up to `watermark` is here; `seal` is of the range that ends there.

    `incarnation` is of the process that connected last with it; `is_first` where nothing came in another epoch.
    """

    watermark: int
    seal: bytes
    incarnation: bytes
    is_first: bool


def find_mark(connection: sqlite3.Connection, source_id: int, epoch: bytes) -> Mark | None:
    """Where a source's epoch stands; None where the hub does not know it."""
    row = connection.execute(
        "SELECT last_seq, seal, incarnation, NOT EXISTS (SELECT 1 FROM source_epoch o WHERE o.source_id = e.source_id "
        "AND o.epoch <> e.epoch AND o.last_seq > 0) FROM source_epoch e WHERE source_id = ? AND epoch = ?",
        (source_id, epoch),
    ).fetchone()
    return Mark(row[0], row[1], row[2], bool(row[3])) if row else None


def highest(connection: sqlite3.Connection, source_id: int) -> int:
    """The highest watermark of a source, of all its epochs; 0 where nothing of it is here."""
    (found,) = connection.execute(
        "SELECT coalesce(max(last_seq), 0) FROM source_epoch WHERE source_id = ?", (source_id,)
    ).fetchone()
    return int(found)


def begin_mark(commit: Commit, source_id: int, epoch: bytes, incarnation: bytes) -> None:
    """A process connected with an epoch, which may be new here."""
    commit.connection.execute(
        "INSERT INTO source_epoch (source_id, epoch, last_seq, seal, incarnation, started_ms, seen_ms) "
        "VALUES (?, ?, 0, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET incarnation = excluded.incarnation, seen_ms = excluded.seen_ms",
        (source_id, epoch, NO_SEAL, incarnation, commit.now_ms, commit.now_ms),
    )


def seen(commit: Commit, source_id: int, epoch: bytes) -> None:
    """A source was heard of."""
    connection = commit.connection
    connection.execute("UPDATE source SET seen_ms = ? WHERE id = ?", (commit.now_ms, source_id))
    connection.execute(
        "UPDATE source_epoch SET seen_ms = ? WHERE source_id = ? AND epoch = ?", (commit.now_ms, source_id, epoch)
    )


def move_mark(commit: Commit, source_id: int, epoch: bytes, sealed: Sealed) -> None:
    """Everything up to the end of this range is here; in the transaction that makes it so."""
    connection = commit.connection
    connection.execute(
        "UPDATE source_epoch SET last_seq = ?, seal = ?, seen_ms = ? WHERE source_id = ? AND epoch = ?",
        (sealed.last, sealed.seal, commit.now_ms, source_id, epoch),
    )
    connection.execute(
        "INSERT INTO source_seal (source_id, epoch, last_seq, seal) VALUES (?, ?, ?, ?)",
        (source_id, epoch, sealed.last, sealed.seal),
    )


def prune_seals(commit: Commit, source_id: int, epoch: bytes) -> None:
    """Forget seals far behind the watermark."""
    commit.connection.execute(
        "DELETE FROM source_seal WHERE source_id = ?1 AND epoch = ?2 AND last_seq <= (SELECT last_seq FROM source_seal "
        "WHERE source_id = ?1 AND epoch = ?2 ORDER BY last_seq DESC LIMIT 1 OFFSET ?3)",
        (source_id, epoch, KEPT_SEALS),
    )


def has_seal(connection: sqlite3.Connection, source_id: int, epoch: bytes, sealed: Sealed) -> bool:
    """Whether exactly this range was taken over."""
    row = connection.execute(
        "SELECT seal FROM source_seal WHERE source_id = ? AND epoch = ? AND last_seq = ?",
        (source_id, epoch, sealed.last),
    ).fetchone()
    return row is not None and row[0] == sealed.seal


def note_lost(commit: Commit, source_id: int, epoch: bytes, lost: Lost) -> None:
    """Remember numbers that a source will never send, once."""
    commit.connection.execute(
        "INSERT INTO lost_range (source_id, epoch, first_seq, last_seq, at_ms) SELECT ?1, ?2, ?3, ?4, ?5 "
        "WHERE NOT EXISTS (SELECT 1 FROM lost_range WHERE source_id = ?1 AND epoch = ?2 AND first_seq = ?3)",
        (source_id, epoch, lost.first, lost.last, commit.now_ms),
    )


def set_aside(commit: Commit, source_id: int, epoch: bytes, told: Sequence[SetAside]) -> None:
    """Keep what a source has to hear, until it has."""
    commit.connection.executemany(
        "INSERT OR IGNORE INTO set_aside (source_id, epoch, first_seq, last_seq, quarantine_id) VALUES (?, ?, ?, ?, ?)",
        [(source_id, epoch, each.first, each.last, each.quarantine_id or None) for each in told],
    )


def to_be_told(connection: sqlite3.Connection, source_id: int, epoch: bytes, after: int) -> list[SetAside]:
    """What a source that has acknowledged up to `after` has not heard of yet."""
    rows = connection.execute(
        "SELECT a.first_seq, a.last_seq, coalesce(a.quarantine_id, ''), coalesce(q.reason, ''), "
        "coalesce(q.records, 0), coalesce(q.cost_usd, 0), coalesce(q.cost_nano, 0) "
        "FROM set_aside a LEFT JOIN quarantine q ON q.id = a.quarantine_id "
        "WHERE a.source_id = ? AND a.epoch = ? AND a.last_seq > ? ORDER BY a.first_seq",
        (source_id, epoch, after),
    )
    return [
        SetAside(first, last, quarantine_id, reason, records, usd * NANO_PER_USD + nano)
        for first, last, quarantine_id, reason, records, usd, nano in rows
    ]


def heard(commit: Commit, source_id: int, epoch: bytes, through: int) -> None:
    """A source has heard of everything up to a number."""
    commit.connection.execute(
        "DELETE FROM set_aside WHERE source_id = ? AND epoch = ? AND last_seq <= ?", (source_id, epoch, through)
    )
