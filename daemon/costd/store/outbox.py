"""The outbox: the ledger's sequence behind an acknowledged watermark, its epochs and its sealed ranges."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.forwarding import EPOCH_BYTES, NO_SEAL, Lost, Sealed, SetAside
from costd.store.adjustments import DUPLICATE
from costd.store.commit import Commit
from costd.store.event_blocks import BLOCK_EVENTS
from costd.store.quarantine import Held, insert_quarantined
from costd.store.taken_back import take_back

#: Seals kept after their ranges were acknowledged: what a hub that lost its last moments may still refer to.
KEPT_SEALS = 1_000
#: Beyond every number there is.
_FAR = 1 << 60


class Epoch(NamedTuple):
    """A lineage of the sequence: its number here, its 16 random bytes, its first number of the sequence."""

    number: int
    epoch: bytes
    first: int


class Tip(NamedTuple):
    """How far an epoch is sealed, and the last seal."""

    sealed: int
    seal: bytes


class Backlog(NamedTuple):
    """What waits for the hub: records, when the oldest was received (None: none waits), bytes of sealed content.

    `first_ms` is when the first item of any kind was received that waits, None where nothing does.
    """

    records: int
    oldest_ms: int | None
    sealed_bytes: int
    first_ms: int | None


def has_joined(connection: sqlite3.Connection) -> bool:
    """Whether the ledger keeps everything for a hub."""
    (forwarded,) = connection.execute("SELECT forwarded_seq FROM ledger_state").fetchone()
    return forwarded is not None


def join(commit: Commit) -> None:
    """Begin to keep everything for a hub, from the beginning of what is still here; again changes nothing."""
    if not has_joined(commit.connection):
        begin_epoch(commit, 0, "joined", None)


def begin_epoch(commit: Commit, after: int, reason: str, lost: Lost | None, hub_epoch: bytes = b"") -> Epoch:
    """Begin a new lineage of the sequence that goes on after a number: nothing of it is sealed yet.

    `hub_epoch` is of the hub that it is for, b"" where none is known yet.
    """
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
    connection.execute("UPDATE hub_link SET hub_epoch = ?", (hub_epoch,))
    return read_epoch(connection)


def read_epoch(connection: sqlite3.Connection) -> Epoch:
    """The present lineage; the ledger has joined."""
    return Epoch(
        *connection.execute(
            "SELECT number, epoch, first_seq FROM forward_epoch ORDER BY number DESC LIMIT 1"
        ).fetchone()
    )


def read_tip(connection: sqlite3.Connection, epoch: Epoch) -> Tip:
    """How far the epoch is sealed."""
    row = connection.execute(
        "SELECT last_seq, seal FROM forward_seal WHERE epoch_number = ? ORDER BY last_seq DESC LIMIT 1",
        (epoch.number,),
    ).fetchone()
    return Tip(*row) if row else Tip(epoch.first - 1, NO_SEAL)


def read_acknowledged(connection: sqlite3.Connection) -> int:
    """The number up to which everything is at the hub."""
    (acknowledged,) = connection.execute("SELECT forwarded_seq FROM ledger_state").fetchone()
    return int(acknowledged)


def find_acknowledged(connection: sqlite3.Connection) -> int | None:
    """The same; None where the ledger has never joined a hub."""
    (acknowledged,) = connection.execute("SELECT forwarded_seq FROM ledger_state").fetchone()
    return None if acknowledged is None else int(acknowledged)


def read_lost(connection: sqlite3.Connection, epoch: Epoch) -> Lost | None:
    """What was lost before an epoch began."""
    row = connection.execute(
        "SELECT first_seq, last_seq FROM lost_range WHERE source_id IS NULL AND epoch = ?", (epoch.epoch,)
    ).fetchone()
    return Lost(*row) if row else None


def store_seal(commit: Commit, epoch: Epoch, sealed: Sealed) -> None:
    """Seal a range for good. The caller is the only one who seals."""
    commit.connection.execute(
        "INSERT INTO forward_seal (epoch_number, last_seq, first_seq, seal, previous, format, records, content) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            epoch.number,
            sealed.last,
            sealed.first,
            sealed.seal,
            sealed.previous,
            sealed.form,
            sealed.records,
            sealed.content,
        ),
    )


def sealed_after(connection: sqlite3.Connection, epoch: Epoch, after: int, limit: int) -> list[Sealed]:
    """Sealed ranges behind a number that are not acknowledged, the oldest first."""
    rows = connection.execute(
        "SELECT first_seq, last_seq, previous, seal, format, content, records FROM forward_seal "
        "WHERE epoch_number = ? AND last_seq > ? AND content IS NOT NULL ORDER BY last_seq LIMIT ?",
        (epoch.number, after, limit),
    )
    return [Sealed(*row) for row in rows]


def seal_at(connection: sqlite3.Connection, epoch: Epoch, last_seq: int) -> bytes | None:
    """The seal of the range that ends at a number; None where none does."""
    row = connection.execute(
        "SELECT seal FROM forward_seal WHERE epoch_number = ? AND last_seq = ?", (epoch.number, last_seq)
    ).fetchone()
    return row[0] if row else None


def oldest_whole(connection: sqlite3.Connection) -> int:
    """The first number of which everything is still here: commits before it are gone, or there never were any."""
    (first,) = connection.execute("SELECT min(first_seq) FROM ledger_commit").fetchone()
    return int(first or 1)


def acknowledge(commit: Commit, epoch: Epoch, watermark: int, told: Sequence[SetAside], hub_epoch: bytes) -> int:
    """Take down that the hub keeps everything up to `watermark`, and what it did not count; the number it has now."""
    connection = commit.connection
    if read_epoch(connection) != epoch:  # of a road that was left since
        return read_acknowledged(connection)
    for each in told:
        _heard_of(commit, epoch, each)
    acknowledged = read_acknowledged(connection)
    if watermark > acknowledged:
        connection.execute("UPDATE ledger_state SET forwarded_seq = ?", (watermark,))
        connection.execute(
            "UPDATE forward_seal SET content = NULL WHERE epoch_number = ? AND last_seq > ? AND last_seq <= ?",
            (epoch.number, acknowledged, watermark),
        )
        _prune_seals(connection, epoch.number, watermark)
    connection.execute("UPDATE hub_link SET acknowledged_ms = ?, hub_epoch = ?", (commit.now_ms, hub_epoch))
    return max(watermark, acknowledged)


def _heard_of(commit: Commit, epoch: Epoch, told: SetAside) -> None:
    if told.is_duplicate:
        take_back(commit, told.first, told.last, DUPLICATE, "the hub had it from another source")
        return
    insert_quarantined(
        commit,
        Held(
            id=told.quarantine_id,
            source_id=None,
            epoch=epoch.epoch,
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
    row = connection.execute(
        "SELECT at_ms FROM ledger_commit WHERE first_seq > ? ORDER BY first_seq LIMIT 1", (acknowledged,)
    ).fetchone()
    first_ms = row[0] if row else None
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(content)), 0) FROM forward_seal WHERE last_seq > ?", (acknowledged,)
    ).fetchone()
    return Backlog(records, first_ms if records else None, size, first_ms)


def setbacks(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many records are held in quarantine at the hub, and how many numbers it will never get."""
    (quarantined,) = connection.execute(
        "SELECT coalesce(sum(records), 0) FROM quarantine WHERE source_id IS NULL AND state = 'held'"
    ).fetchone()
    (lost,) = connection.execute(
        "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM lost_range WHERE source_id IS NULL"
    ).fetchone()
    return int(quarantined), int(lost)


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
