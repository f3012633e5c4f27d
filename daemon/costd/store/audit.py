"""The audit trail: who did what, a line for each change, written in the transaction of the change itself."""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from costd.store.commit import Commit


class AuditLine(NamedTuple):
    """One change.

    `actor` is the id of the key that made it, "" where there was none; `action` is "resource.verb"; `metadata` is JSON;
    `at_ms` is UTC milliseconds.
    """

    id: int
    org_id: int
    at_ms: int
    actor: str
    action: str
    resource_type: str
    resource_id: str
    metadata: str


_COLUMNS = ", ".join(AuditLine._fields)


def append_audit(
    commit: Commit, org_id: int, actor: str, action: str, resource_id: str, metadata: dict[str, object]
) -> None:
    """Add a line to the audit trail; `action` is "resource.verb"."""
    commit.connection.execute(
        "INSERT INTO audit (org_id, at_ms, actor, action, resource_type, resource_id, metadata) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (org_id, commit.now_ms, actor, action, action.partition(".")[0], resource_id, json.dumps(metadata)),
    )


def find_audit(connection: sqlite3.Connection, org_id: int, before_id: int | None, limit: int) -> list[AuditLine]:
    """At most `limit` lines of an organization's, newest first: those before a line, or the newest of all."""
    before = "" if before_id is None else " AND id < ?"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE org_id = ?{before} ORDER BY id DESC LIMIT ?",
        (org_id, *(() if before_id is None else (before_id,)), limit),
    )
    return [AuditLine(*row) for row in rows]
