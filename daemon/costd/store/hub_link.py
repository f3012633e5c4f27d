"""What a sidecar's ledger knows of its hub: who it is there, and what it has heard and copied of it."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from costd.store.commit import Commit

#: The organization of a ledger's own records.
_OWN_ORG = 1


class HubLink(NamedTuple):
    """The hub as it was last heard of; times in UTC milliseconds, epochs b"" where there is none."""

    joined_ms: int
    heard_ms: int
    acknowledged_ms: int | None
    source: str
    organization: str
    hub_epoch: bytes
    sync_epoch: bytes
    keys_version: int
    catalog_version: int
    prices_version: int
    quarantine_version: int
    budgets_version: int


def read_link(connection: sqlite3.Connection) -> HubLink | None:
    """The link; None where this ledger never met a hub."""
    row = connection.execute(f"SELECT {', '.join(HubLink._fields)} FROM hub_link").fetchone()
    return HubLink(*row) if row else None


def meet_hub(commit: Commit, source: str, organization: str) -> HubLink:
    """A hub said who this ledger is to it; its own organization bears the hub's name from here on.

    As another source than before it has nothing of the hub's to go on from: what is another's is not its own.
    """
    connection = commit.connection
    name_own_org(commit, organization)
    connection.execute(
        "INSERT INTO hub_link (id, joined_ms, heard_ms, source, organization, hub_epoch, sync_epoch, keys_version, "
        "catalog_version, prices_version, quarantine_version) VALUES (1, ?, ?, ?, ?, x'', x'', 0, 0, 0, 0) "
        "ON CONFLICT DO UPDATE SET source = excluded.source, organization = excluded.organization, "
        "sync_epoch = iif(source = excluded.source, sync_epoch, x'')",
        (commit.now_ms, commit.now_ms, source, organization),
    )
    link = read_link(connection)
    assert link is not None
    return link


def name_own_org(commit: Commit, name: str) -> None:
    """Give the organization of this ledger's own records a name; another that had it changes names with it."""
    connection = commit.connection
    (held,) = connection.execute("SELECT name FROM org WHERE id = ?", (_OWN_ORG,)).fetchone()
    if held == name:
        return
    connection.execute("UPDATE org SET name = ? WHERE id = ?", (f"{name}\x00", _OWN_ORG))
    connection.execute("UPDATE org SET name = ? WHERE name = ?", (held, name))
    connection.execute("UPDATE org SET name = ? WHERE id = ?", (name, _OWN_ORG))
