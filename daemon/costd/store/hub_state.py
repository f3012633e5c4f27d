"""What a hub's ledger knows of itself as a hub: its lineage, and counters of what its sources must be told."""

from __future__ import annotations

import os
import sqlite3
from typing import NamedTuple

from costd.store.commit import Commit

EPOCH_BYTES = 16
_HOUR_MS = 3_600_000


class HubState(NamedTuple):
    """The state of a hub.

    `epoch` is 16 random bytes, others once the ledger went back in time; the versions count changes of keys, of the
    quarantine and of budgets; the ids of commits received before `ids_from_ms` (UTC milliseconds) may have been
    forgotten.
    """

    epoch: bytes
    keys_version: int
    quarantine_version: int
    ids_from_ms: int
    budgets_version: int = 0


_COLUMNS = ", ".join(HubState._fields)


def read_hub_state(connection: sqlite3.Connection) -> HubState | None:
    """The state; None where this ledger never was a hub's."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM hub_state").fetchone()
    return None if row is None else HubState(*row)


def has_joined_hub(connection: sqlite3.Connection) -> bool:
    """Whether this ledger is of a sidecar that has joined a hub."""
    return connection.execute("SELECT 1 FROM hub_link").fetchone() is not None


def ensure_hub_state(commit: Commit) -> HubState:
    """The state, which the first call on a ledger makes."""
    held = read_hub_state(commit.connection)
    if held is not None:
        return held
    # A ledger that was a daemon's of its own may have deleted records already.
    (gone_before_hour,) = commit.connection.execute("SELECT complete_from_hour FROM ledger_state").fetchone()
    made = HubState(os.urandom(EPOCH_BYTES), 0, 0, gone_before_hour * _HOUR_MS)
    commit.connection.execute(f"INSERT INTO hub_state (id, {_COLUMNS}) VALUES (1, ?, ?, ?, ?, ?)", made)
    return made


def renew_hub_epoch(commit: Commit) -> HubState:
    """Begin another lineage; the state after that."""
    held = ensure_hub_state(commit)
    renewed = held._replace(epoch=os.urandom(EPOCH_BYTES))
    commit.connection.execute("UPDATE hub_state SET epoch = ?", (renewed.epoch,))
    return renewed


def next_keys_version(commit: Commit) -> int:
    """The number of another change of a key; 0 where this ledger is no hub's."""
    row = commit.connection.execute(
        "UPDATE hub_state SET keys_version = keys_version + 1 RETURNING keys_version"
    ).fetchone()
    return 0 if row is None else int(row[0])


def next_quarantine_version(commit: Commit) -> int:
    """The number of another change of the quarantine; 0 where this ledger is no hub's."""
    row = commit.connection.execute(
        "UPDATE hub_state SET quarantine_version = quarantine_version + 1 RETURNING quarantine_version"
    ).fetchone()
    return 0 if row is None else int(row[0])
