"""Bodies that went through a proxy endpoint which stores them: compressed, and gone after their time."""

from __future__ import annotations

import sqlite3
import zlib
from typing import NamedTuple
from uuid import UUID

from costd.store.commit import Commit


class Bodies(NamedTuple):
    """What was sent and what was answered, as far as it was stored."""

    request: bytes
    response: bytes


def insert_bodies(commit: Commit, org_id: int, event_id: str, bodies: Bodies, expires_ms: int) -> None:
    """Keep the bodies of a record."""
    commit.connection.execute(
        "INSERT INTO proxied_body (event_id, org_id, request, response, expires_ms) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (UUID(event_id).bytes, org_id, zlib.compress(bodies.request), zlib.compress(bodies.response), expires_ms),
    )


def find_bodies(connection: sqlite3.Connection, org_id: int, event_id: str) -> Bodies | None:
    """The bodies of a record, where they are kept."""
    row = connection.execute(
        "SELECT request, response FROM proxied_body WHERE event_id = ? AND org_id = ?", (UUID(event_id).bytes, org_id)
    ).fetchone()
    return Bodies(zlib.decompress(row[0]), zlib.decompress(row[1])) if row else None


def delete_expired(commit: Commit, most: int) -> int:
    """Delete up to so many whose time is over; how many they were."""
    return commit.connection.execute(
        "DELETE FROM proxied_body WHERE event_id IN (SELECT event_id FROM proxied_body WHERE expires_ms <= ? LIMIT ?)",
        (commit.now_ms, most),
    ).rowcount
