"""The outbox: the ledger's sequence behind an acknowledged watermark, its epochs and its sealed ranges."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.forwarding import EPOCH_BYTES, NO_SEAL, Lost, Sealed, SetAside
from costd.store.adjustments import DUPLICATE
from costd.store.catalog_log import log_everything
from costd.store.commit import Commit
from costd.store.event_blocks import BLOCK_EVENTS
from costd.store.quarantine import Held, insert_quarantined
from costd.store.taken_back import take_back

#: Seals kept after their ranges were acknowledged: what a hub that lost its last moments may still refer to.
KEPT_SEALS = 1_000
#: Beyond every number there is.
_FAR = 1 << 60


class Position(NamedTuple):
    """How far the sequence was forwarded: the epoch, what is acknowledged, what is sealed and the last seal."""

    number: int
    epoch: bytes
    first: int
    acknowledged: int
    sealed: int
    seal: bytes
    hub_epoch: bytes


class Backlog(NamedTuple):
    """What waits for the hub; `oldest_ms` is when the oldest of it was received, None where nothing waits."""

    records: int
    oldest_ms: int | None
    sealed_bytes: int


def join(commit: Commit) -> None:
    """Begin to keep everything for a hub, from the beginning of what is still here; again changes nothing."""
    (forwarded,) = commit.connection.execute("SELECT forwarded_seq FROM ledger_state").fetchone()
    if forwarded is None:
        log_everything(commit)
        begin_epoch(commit, 0, "joined", None)


def begin_epoch(commit: Commit, after: int, reason: str, lost: Lost | None) -> Position:
    """Begin a new lineage of the sequence that goes on after a number: nothing of it is sealed yet."""
    connection = commit.connection
    epoch = os.urandom(EPOCH_BYTES)
    if lost is not None:
        connection.execute(
            "INSERT INTO lost_range (epoch, first_seq, last_seq, at_ms) VALUES (?, ?, ?, ?)",
            (epoch, lost.first, lost.last, commit.now_ms),
        )
    connection.execute("DELETE FROM forward_seal")
    connection.execute(
        "INSERT INTO forward_epoch (epoch, first_seq, started_ms, reason) VALUES (?, ?, ?, ?)",
        (epoch, after + 1, commit.now_ms, reason),
    )
    connection.execute("UPDATE ledger_state SET forwarded_seq = ?", (after,))
    return read_position(connection)


def read_position(connection: sqlite3.Connection) -> Position:
    """Where the outbox stands; the ledger has joined."""
    number, epoch, first = connection.execute(
        "SELECT number, epoch, first_seq FROM forward_epoch ORDER BY number DESC LIMIT 1"
    ).fetchone()
    (acknowledged,) = connection.execute("SELECT forwarded_seq FROM ledger_state").fetchone()
    sealed, seal = connection.execute(
        "SELECT last_seq, seal FROM forward_seal WHERE epoch_number = ? ORDER BY last_seq DESC LIMIT 1", (number,)
    ).fetchone() or (first - 1, NO_SEAL)
    link = connection.execute("SELECT hub_epoch FROM hub_link").fetchone()
    return Position(number, epoch, first, acknowledged, sealed, seal, link[0] if link else b"")


def store_seal(commit: Commit, position: Position, sealed: Sealed) -> Position:
    """Seal a range for good; the position after it. The caller is the only one who seals."""
    commit.connection.execute(
        "INSERT INTO forward_seal (epoch_number, last_seq, first_seq, seal, previous, format, records, content) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            position.number,
            sealed.last,
            sealed.first,
            sealed.seal,
            sealed.previous,
            sealed.form,
            sealed.records,
            sealed.content,
        ),
    )
    return position._replace(sealed=sealed.last, seal=sealed.seal)


def sealed_after(connection: sqlite3.Connection, position: Position, after: int, limit: int) -> list[Sealed]:
    """Sealed ranges behind a number that are not acknowledged, the oldest first."""
    rows = connection.execute(
        "SELECT first_seq, last_seq, previous, seal, format, content, records FROM forward_seal "
        "WHERE epoch_number = ? AND last_seq > ? AND content IS NOT NULL ORDER BY last_seq LIMIT ?",
        (position.number, after, limit),
    )
    return [Sealed(*row) for row in rows]


def seal_at(connection: sqlite3.Connection, position: Position, last_seq: int) -> bytes | None:
    """The seal of the range that ends at a number; None where none does."""
    row = connection.execute(
        "SELECT seal FROM forward_seal WHERE epoch_number = ? AND last_seq = ?", (position.number, last_seq)
    ).fetchone()
    return row[0] if row else None


def oldest_whole(connection: sqlite3.Connection) -> int:
    """The first number of which everything is still here: commits before it are gone, or there never were any."""
    (first,) = connection.execute("SELECT min(first_seq) FROM ledger_commit").fetchone()
    return int(first or 1)


def acknowledge(
    commit: Commit, position: Position, watermark: int, set_aside: Sequence[SetAside], hub_epoch: bytes
) -> Position:
    """Take down that the hub keeps everything up to `watermark`, and what it did not count."""
    connection = commit.connection
    for each in set_aside:
        _heard_of(commit, position, each)
    if watermark > position.acknowledged:
        connection.execute("UPDATE ledger_state SET forwarded_seq = ?", (watermark,))
        connection.execute(
            "UPDATE forward_seal SET content = NULL WHERE epoch_number = ? AND last_seq <= ? AND content IS NOT NULL "
            "AND last_seq > ?",
            (position.number, watermark, position.acknowledged),
        )
        _prune_seals(connection, position.number, watermark)
    connection.execute("UPDATE hub_link SET acknowledged_ms = ?, hub_epoch = ?", (commit.now_ms, hub_epoch))
    return position._replace(acknowledged=max(watermark, position.acknowledged), hub_epoch=hub_epoch)


def _heard_of(commit: Commit, position: Position, told: SetAside) -> None:
    if told.is_duplicate:
        take_back(commit, told.first, told.last, DUPLICATE, "the hub had it from another source")
        return
    insert_quarantined(
        commit,
        Held(
            id=told.quarantine_id,
            source_id=None,
            epoch=position.epoch,
            first_seq=told.first,
            last_seq=told.last,
            records=told.records,
            cost_nano=told.cost_nano,
            reason=told.reason,
            format=0,
            content=None,
            at_ms=commit.now_ms,
        ),
    )


def _prune_seals(connection: sqlite3.Connection, number: int, watermark: int) -> None:
    row = connection.execute(
        "SELECT last_seq FROM forward_seal WHERE epoch_number = ? AND last_seq <= ? "
        "ORDER BY last_seq DESC LIMIT 1 OFFSET ?",
        (number, watermark, KEPT_SEALS),
    ).fetchone()
    if row is not None:
        connection.execute("DELETE FROM forward_seal WHERE epoch_number = ? AND last_seq <= ?", (number, row[0]))


def backlog(connection: sqlite3.Connection, acknowledged: int) -> Backlog:
    """What waits behind the acknowledged number; blocks of events are counted, not the events in them."""
    records = _events_after(connection, acknowledged)
    oldest = connection.execute(
        "SELECT at_ms FROM ledger_commit WHERE first_seq > ? ORDER BY first_seq LIMIT 1", (acknowledged,)
    ).fetchone()
    (size,) = connection.execute("SELECT coalesce(sum(length(content)), 0) FROM forward_seal").fetchone()
    return Backlog(records, oldest[0] if oldest and records else None, size)


def _events_after(connection: sqlite3.Connection, after: int) -> int:
    """How many events have a number above this one; whole blocks of them are known without looking."""
    first, last, blocks = connection.execute(
        "SELECT min(first_seq), max(last_seq), count(*) FROM event_block WHERE first_seq > ?", (after,)
    ).fetchone()
    if not blocks:
        return _count(connection, after + 1, _FAR)
    return int(blocks) * BLOCK_EVENTS + _count(connection, after + 1, first - 1) + _count(connection, last + 1, _FAR)


def _count(connection: sqlite3.Connection, first: int, last: int) -> int:
    row = connection.execute("SELECT count(*) FROM event WHERE seq BETWEEN ? AND ?", (first, last)).fetchone()
    return int(row[0])
