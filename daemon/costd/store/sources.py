"""Sources as a hub's ledger keeps them: who they are, what they may record for, and how far each has come."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import NamedTuple

from costd.store.commit import Commit


class KnownSource(NamedTuple):
    """A source; `orgs` are numbers and names of its organizations, the first that of its own records."""

    id: int
    public_id: str
    name: str
    orgs: tuple[tuple[int, str], ...]
    key_id: str
    forgotten_ms: int | None = None


class SourceState(NamedTuple):
    """How far a source has come; times in UTC milliseconds, None where it has not happened.

    `watermark` is of its newest epoch, `recent_epochs` counts those that were seen since the moment asked for.
    """

    id: int
    created_ms: int
    host: str
    version: str
    seen_ms: int | None
    clock_skew_ms: int
    records: int
    duplicates: int
    key_revoked_ms: int | None
    watermark: int
    epochs: int
    recent_epochs: int
    quarantined: int
    lost: int


def load_sources(connection: sqlite3.Connection) -> list[KnownSource]:
    """All sources by name, forgotten ones included."""
    orgs: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for source_id, org_id, name in connection.execute(
        "SELECT source_id, org_id, name FROM source_org JOIN org ON org.id = org_id ORDER BY source_id, place"
    ):
        orgs[source_id].append((org_id, name))
    rows = connection.execute("SELECT id, public_id, name, key_id, forgotten_ms FROM source ORDER BY name")
    return [
        KnownSource(id_, public_id, name, tuple(orgs[id_]), key_id, forgotten_ms)
        for id_, public_id, name, key_id, forgotten_ms in rows
    ]


def load_states(connection: sqlite3.Connection, since_ms: int) -> list[SourceState]:
    """How far each source has come; epochs seen at `since_ms` (UTC milliseconds) or later count as recent."""
    return [SourceState(*row) for row in connection.execute(_STATES, {"since_ms": since_ms})]


def insert_source(commit: Commit, public_id: str, name: str, key_id: str, org_ids: list[int]) -> KnownSource:
    """Store a new source for these organizations, which must exist. Its name must be free."""
    connection = commit.connection
    (id_,) = connection.execute(
        "INSERT INTO source (public_id, name, key_id, created_ms, host, version, clock_skew_ms, records, duplicates) "
        "VALUES (?, ?, ?, ?, '', '', 0, 0, 0) RETURNING id",
        (public_id, name, key_id, commit.now_ms),
    ).fetchone()
    connection.executemany(
        "INSERT INTO source_org (source_id, org_id, place) VALUES (?, ?, ?)",
        [(id_, org_id, place) for place, org_id in enumerate(org_ids)],
    )
    return next(source for source in load_sources(connection) if source.id == id_)


def find_source(connection: sqlite3.Connection, wanted: str) -> KnownSource | None:
    """The source with this name or public id; a name wins."""
    found = [source for source in load_sources(connection) if wanted in (source.name, source.public_id)]
    return min(found, key=lambda source: source.name != wanted, default=None)


def store_key(commit: Commit, source: KnownSource, key_id: str) -> KnownSource:
    """Let another key be the source's."""
    commit.connection.execute("UPDATE source SET key_id = ? WHERE id = ?", (key_id, source.id))
    return source._replace(key_id=key_id)


def store_forgotten(commit: Commit, source: KnownSource) -> KnownSource:
    """Wait for a source no more; what it has brought stays."""
    commit.connection.execute("UPDATE source SET forgotten_ms = ? WHERE id = ?", (commit.now_ms, source.id))
    return source._replace(forgotten_ms=commit.now_ms)


def is_forgotten(connection: sqlite3.Connection, source_id: int) -> bool:
    """Whether a source was forgotten."""
    (forgotten_ms,) = connection.execute("SELECT forgotten_ms FROM source WHERE id = ?", (source_id,)).fetchone()
    return forgotten_ms is not None


def touch_source(commit: Commit, source_id: int, host: str, version: str, seen_ms: int, clock_skew_ms: int) -> None:
    """Note what a source said of itself as it connected, and how far its clock is behind, in milliseconds."""
    commit.connection.execute(
        "UPDATE source SET host = ?, version = ?, seen_ms = max(coalesce(seen_ms, 0), ?), clock_skew_ms = ? "
        "WHERE id = ?",
        (host, version, seen_ms, clock_skew_ms, source_id),
    )


def note_forwarded(commit: Commit, source_id: int, forwarded_ms: int | None) -> None:
    """Note up to when, by its own clock, everything that a source received is here."""
    if forwarded_ms is not None:
        commit.connection.execute(
            "UPDATE source SET forwarded_ms = max(coalesce(forwarded_ms, 0), ?) WHERE id = ?", (forwarded_ms, source_id)
        )


_STATES = """
    SELECT source.id, source.created_ms, host, version, seen_ms, clock_skew_ms, records, duplicates,
        (SELECT revoked_ms FROM api_key WHERE api_key.id = key_id),
        coalesce((SELECT last_seq FROM source_epoch WHERE source_id = source.id
            ORDER BY seen_ms DESC, started_ms DESC LIMIT 1), 0),
        (SELECT count(*) FROM source_epoch WHERE source_id = source.id),
        (SELECT count(*) FROM source_epoch WHERE source_id = source.id AND seen_ms >= :since_ms),
        coalesce((SELECT sum(quarantine.records) FROM quarantine
            WHERE source_id = source.id AND state = 'held'), 0),
        coalesce((SELECT sum(last_seq - first_seq + 1) FROM lost_range WHERE source_id = source.id), 0)
    FROM source ORDER BY source.name
"""
