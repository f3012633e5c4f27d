"""API keys as they are kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from costd.domain.errors import Conflict, NotFound
from costd.store.audit import append_audit
from costd.store.commit import Commit
from costd.store.hub_state import next_keys_version

_COLUMNS = (
    "id, org_id, name, digest, key_prefix, roles, team, project, source_app, description, "
    "created_ms, last_used_ms, revoked_ms, origin, renamed_ms"
)

#: Where a key is from, "" where it was made here: a copy of the hub's, or of one that the hub has no more.
HUB = "hub"
GONE = "gone"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the ledger keeps it: `digest` is the SHA-256 of its secret. Times are UTC milliseconds.

    `renamed_ms` is when it got the name it has, None where that is the one it was made with.
    """

    id: str
    org_id: int
    name: str
    digest: bytes
    key_prefix: str
    roles: tuple[str, ...]
    team: str
    project: str
    source_app: str
    description: str
    created_ms: int
    last_used_ms: int | None = None
    revoked_ms: int | None = None
    origin: str = ""
    renamed_ms: int | None = None


def load_keys(connection: sqlite3.Connection) -> list[StoredKey]:
    """All keys, newest first, revoked ones included."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM api_key ORDER BY id DESC")
    return [_key(row) for row in rows]


def insert_key(commit: Commit, key: StoredKey, actor: str) -> None:
    """Store a new key and say so in the audit trail."""
    commit.connection.execute(
        f"INSERT INTO api_key ({_COLUMNS}, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, NULL, ?)",
        (
            key.id,
            key.org_id,
            key.name,
            key.digest,
            key.key_prefix,
            ",".join(key.roles),
            key.team,
            key.project,
            key.source_app,
            key.description,
            key.created_ms,
            key.origin,
            next_keys_version(commit),
        ),
    )
    append_audit(commit, key.org_id, actor, "api_key.created", key.id, {"name": key.name, "roles": list(key.roles)})


def revoke_key(commit: Commit, org_id: int | None, wanted: str, actor: str) -> StoredKey:
    """Revoke the living key with this id, prefix or unambiguous name; again is the same answer.

    It is of this organization, or of any where that is None.
    """
    rows = commit.connection.execute(
        f"SELECT {_COLUMNS} FROM api_key WHERE coalesce(org_id = ?, 1) AND (id = ? OR key_prefix = ? OR name = ?)",
        (org_id, wanted, wanted, wanted),
    ).fetchall()
    keys = [_key(row) for row in rows]
    living = [key for key in keys if key.revoked_ms is None]
    if not keys:
        raise NotFound(f'there is no key with the id, prefix or name "{wanted}"')
    if len(living) > 1:
        raise Conflict(f'{len(living)} keys are named "{wanted}"; name the one to revoke by its id')
    if not living:
        return keys[0]
    return _revoke(commit, living[0], actor)


def delete_key(commit: Commit, org_id: int | None, key_id: str, actor: str) -> StoredKey:
    """Revoke the living key with this very id; NotFound where it is none, or no more.

    It is of this organization, or of any where that is None.
    """
    return _revoke(commit, _living_key(commit, org_id, key_id), actor)


def rename_key(commit: Commit, org_id: int, key_id: str, name: str, actor: str) -> StoredKey:
    """Give the organization's living key with this id another name; NotFound where there is none."""
    key = _living_key(commit, org_id, key_id)
    if key.name == name:
        return key
    commit.connection.execute(
        "UPDATE api_key SET name = ?, renamed_ms = ?, version = ? WHERE id = ?",
        (name, commit.now_ms, next_keys_version(commit), key_id),
    )
    append_audit(commit, key.org_id, actor, "api_key.renamed", key_id, {"from": key.name, "to": name})
    return replace(key, name=name, renamed_ms=commit.now_ms)


def _living_key(commit: Commit, org_id: int | None, key_id: str) -> StoredKey:
    for key in keys_by_id(commit.connection, [key_id]):
        if key.revoked_ms is None and org_id in {None, key.org_id}:
            return key
    raise NotFound("there is no key with this id, or it was revoked")


def _revoke(commit: Commit, key: StoredKey, actor: str) -> StoredKey:
    _store_revoked(commit, key.id, commit.now_ms)
    append_audit(commit, key.org_id, actor, "api_key.revoked", key.id, {"name": key.name})
    return replace(key, revoked_ms=commit.now_ms)


def learn_revocations(
    commit: Commit, org_ids: Collection[int], revoked_ms: Mapping[str, int], actor: str
) -> list[StoredKey]:
    """Revoke the living keys of these organizations that somebody knows to be revoked ({id: UTC milliseconds})."""
    learned = []
    for key in keys_by_id(commit.connection, revoked_ms):
        if key.revoked_ms is None and key.org_id in org_ids:
            _store_revoked(commit, key.id, min(max(revoked_ms[key.id], key.created_ms), commit.now_ms))
            append_audit(commit, key.org_id, actor, "api_key.revoked", key.id, {"name": key.name, "by": "source"})
            learned.append(key.id)
    return keys_by_id(commit.connection, learned)


def keys_by_id(connection: sqlite3.Connection, ids: Collection[str]) -> list[StoredKey]:
    """The keys with these ids."""
    if not ids:
        return []
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM api_key WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
    )
    return [_key(row) for row in rows]


def _store_revoked(commit: Commit, key_id: str, at_ms: int) -> None:
    commit.connection.execute(
        "UPDATE api_key SET revoked_ms = ?, version = ? WHERE id = ?", (at_ms, next_keys_version(commit), key_id)
    )


def store_last_used(commit: Commit, used_ms: dict[str, int]) -> None:
    """Write when keys were last used ({key id: UTC milliseconds})."""
    commit.connection.executemany(
        "UPDATE api_key SET last_used_ms = max(coalesce(last_used_ms, 0), ?) WHERE id = ?",
        [(used, key_id) for key_id, used in used_ms.items()],
    )


def _key(row: tuple[object, ...]) -> StoredKey:
    values = list(row)
    values[5] = tuple(str(values[5]).split(","))
    return StoredKey(*values)  # type: ignore[arg-type]  # the columns are typed by the STRICT table
