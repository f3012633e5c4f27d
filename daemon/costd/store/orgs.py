"""Organizations: their names and numbers."""

from __future__ import annotations

import sqlite3

from costd.store.audit import append_audit
from costd.store.commit import Commit

#: The organization of whoever runs the installation, there from the beginning: its admins look after the whole of it,
#: set prices for everybody and for any organization, and make sources.
OWN_ORG = 1


def find_org(connection: sqlite3.Connection, name: str) -> int | None:
    """The number of the organization with this name."""
    row = connection.execute("SELECT id FROM org WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def org_name(connection: sqlite3.Connection, org_id: int) -> str:
    """The name of an organization."""
    return str(connection.execute("SELECT name FROM org WHERE id = ?", (org_id,)).fetchone()[0])


def org_names(connection: sqlite3.Connection) -> dict[int, str]:
    """The names of all organizations, by their numbers."""
    return dict(connection.execute("SELECT id, name FROM org").fetchall())


def ensure_org(commit: Commit, name: str, actor: str) -> int:
    """The number of the organization with this name, which is made, and the audit trail told, where there is none."""
    held = find_org(commit.connection, name)
    if held is not None:
        return held
    made = commit.connection.execute("INSERT INTO org (name) VALUES (?) RETURNING id", (name,)).fetchone()
    append_audit(commit, OWN_ORG, actor, "org.created", str(made[0]), {"name": name})
    return int(made[0])
