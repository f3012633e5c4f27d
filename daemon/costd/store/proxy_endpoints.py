"""Proxy endpoints as they are kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from costd.domain.errors import Conflict, Forbidden, NotFound
from costd.domain.proxy_endpoint import FROM_HUB, ProxyEndpoint
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


def take_over_endpoints(commit: Commit, ours: Sequence[ProxyEndpoint]) -> list[ProxyEndpoint]:
    """Let these of the hub's be in force here, and no others of its; all there ever were after that.

    Where a slug is this ledger's own, the hub's is not in force here.
    """
    connection = commit.connection
    ids = json.dumps([held.id for held in ours])
    # The slug is free then: whether it is ever given again is the hub's business.
    connection.execute(
        "UPDATE proxy_endpoint SET removed_ms = coalesce(removed_ms, ?), slug = id "
        "WHERE origin = ? AND id NOT IN (SELECT value FROM json_each(?))",
        (commit.now_ms, FROM_HUB, ids),
    )
    renew = ", ".join(f"{name} = excluded.{name}" for name in ProxyEndpoint._fields[1:])
    marks = ", ".join("?" * len(ProxyEndpoint._fields))
    connection.executemany(
        f"INSERT INTO proxy_endpoint ({_COLUMNS}) VALUES ({marks}) "
        f"ON CONFLICT (id) DO UPDATE SET {renew} WHERE origin = '{FROM_HUB}' ON CONFLICT (slug) DO NOTHING",
        ours,
    )
    return load_endpoints(connection)


def remove_endpoint(commit: Commit, org_id: int, wanted: str, actor: str) -> ProxyEndpoint:
    """Take an endpoint out of force, by its id or slug; raises NotFound."""
    row = commit.connection.execute(
        f"SELECT {_COLUMNS} FROM proxy_endpoint WHERE org_id = ? AND (id = ? OR slug = ?) AND removed_ms IS NULL",
        (org_id, wanted, wanted),
    ).fetchone()
    if row is None:
        raise NotFound("there is no such proxy endpoint")
    held = _endpoint(row)
    if held.origin:
        raise Forbidden(f'the proxy endpoint "{held.slug}" is the hub\'s; remove it there')
    commit.connection.execute("UPDATE proxy_endpoint SET removed_ms = ? WHERE id = ?", (commit.now_ms, held.id))
    append_audit(commit, org_id, actor, "proxy_endpoint.removed", held.id, {"name": held.name, "slug": held.slug})
    return held._replace(removed_ms=commit.now_ms)


def _endpoint(row: tuple[object, ...]) -> ProxyEndpoint:
    made = ProxyEndpoint(*row)  # type: ignore[arg-type]
    return made._replace(store_bodies=bool(made.store_bodies))
