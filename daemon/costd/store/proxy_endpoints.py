"""Proxy endpoints as they are kept."""

from __future__ import annotations

import sqlite3

from costd.domain.errors import Conflict, NotFound
from costd.domain.proxy_endpoint import ProxyEndpoint
from costd.store.audit import append_audit
from costd.store.commit import Commit

_COLUMNS = ", ".join(ProxyEndpoint._fields)


def load_endpoints(connection: sqlite3.Connection) -> list[ProxyEndpoint]:
    """All there ever were."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM proxy_endpoint")
    return [_endpoint(row) for row in rows]


def insert_endpoint(commit: Commit, made: ProxyEndpoint, actor: str) -> ProxyEndpoint:
    """Keep a new endpoint; raises Conflict where its slug is, or was, another's."""
    taken = commit.connection.execute("SELECT 1 FROM proxy_endpoint WHERE slug = ?", (made.slug,)).fetchone()
    if taken:
        raise Conflict(f'the slug "{made.slug}" is or was another endpoint\'s; choose another name')
    marks = ", ".join("?" * len(made))
    commit.connection.execute(f"INSERT INTO proxy_endpoint ({_COLUMNS}) VALUES ({marks})", made)
    append_audit(commit, made.org_id, actor, "proxy_endpoint.created", made.id, {"name": made.name, "slug": made.slug})
    return made


def remove_endpoint(commit: Commit, org_id: int, wanted: str, actor: str) -> ProxyEndpoint:
    """Take an endpoint out of force, by its id or slug; raises NotFound."""
    row = commit.connection.execute(
        f"SELECT {_COLUMNS} FROM proxy_endpoint WHERE org_id = ? AND (id = ? OR slug = ?) AND removed_ms IS NULL",
        (org_id, wanted, wanted),
    ).fetchone()
    if row is None:
        raise NotFound("there is no such proxy endpoint")
    held = _endpoint(row)
    commit.connection.execute("UPDATE proxy_endpoint SET removed_ms = ? WHERE id = ?", (commit.now_ms, held.id))
    append_audit(commit, org_id, actor, "proxy_endpoint.removed", held.id, {"name": held.name, "slug": held.slug})
    return held._replace(removed_ms=commit.now_ms)


def _endpoint(row: tuple[object, ...]) -> ProxyEndpoint:
    made = ProxyEndpoint(*row)  # type: ignore[arg-type]
    return made._replace(store_bodies=bool(made.store_bodies))
