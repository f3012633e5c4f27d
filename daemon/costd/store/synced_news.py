"""What is news to a source of a hub: keys and catalog of its organizations, and what became of its quarantine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from costd.domain.synced import Outcome, SyncedItem, SyncedKey, Versions
from costd.store.catalog_kinds import KINDS
from costd.store.commit import Commit
from costd.store.hub_state import HubState, ensure_hub_state, next_quarantine_version

#: Source keys open the hub's door alone: nobody else has any use for them.
_NO_SOURCE_KEYS = "',' || roles || ',' NOT LIKE '%,source,%'"

#: Of everything, whatever its version.
ALL = -1


class KeyPage(NamedTuple):
    """Some keys, and the (version, id) of the last: where the next page begins. None where that was all."""

    keys: list[SyncedKey]
    next_after: tuple[int, str] | None


class ItemPage(NamedTuple):
    """Some of the catalog, and the number it goes up to: where the next page begins. None where that was all."""

    items: list[SyncedItem]
    next_after: int | None


def read_versions(connection: sqlite3.Connection, state: HubState) -> Versions:
    """The hub's versions as of this moment."""
    catalog = max(connection.execute(f"SELECT coalesce(max(seq), 0) FROM {kind.table}").fetchone()[0] for kind in KINDS)
    (prices,) = connection.execute("SELECT price_revision FROM ledger_state").fetchone()
    return Versions(state.keys_version, catalog, prices, state.quarantine_version, state.budgets_version)


def meet_source(commit: Commit) -> tuple[HubState, Versions]:
    """The hub's state and versions within a commit."""
    state = ensure_hub_state(commit)
    return state, read_versions(commit.connection, state)


def keys_after(connection: sqlite3.Connection, orgs: Mapping[int, str], after: tuple[int, str], limit: int) -> KeyPage:
    """Keys of these organizations ({number: name}) behind a (version, id), in that order."""
    rows = connection.execute(
        "SELECT version, id, org_id, name, digest, key_prefix, roles, team, project, source_app, description, "
        f"created_ms, revoked_ms, renamed_ms FROM api_key WHERE (version, id) > (?, ?) AND {_NO_SOURCE_KEYS} "
        "AND org_id IN (SELECT value FROM json_each(?)) ORDER BY version, id LIMIT ?",
        (*after, json.dumps(list(orgs)), limit + 1),
    ).fetchall()
    keys = [
        SyncedKey(id_, orgs[org_id], name, digest, prefix, tuple(roles.split(",")), *rest)
        for _, id_, org_id, name, digest, prefix, roles, *rest in rows[:limit]
    ]
    return KeyPage(keys, (rows[limit - 1][0], rows[limit - 1][1]) if len(rows) > limit else None)


def items_after(connection: sqlite3.Connection, orgs: Mapping[int, str], after: int, limit: int) -> ItemPage:
    """What of the catalog of these organizations changed behind a number; somewhat more than `limit` at a time."""
    wanted = json.dumps(list(orgs))
    numbers = " UNION ALL ".join(
        f"SELECT seq FROM {kind.table} WHERE seq > ?1 AND org_id IN (SELECT value FROM json_each(?2))" for kind in KINDS
    )
    row = connection.execute(f"{numbers} ORDER BY seq LIMIT 1 OFFSET ?3", (after, wanted, limit - 1)).fetchone()
    through = None if row is None else int(row[0])
    items: list[SyncedItem] = []
    for kind in KINDS:
        app = "source_app" if kind.has_apps else "''"
        registered = "registered" if kind.registers else "1"
        rows = connection.execute(
            f"SELECT org_id, {app}, {kind.id_column}, {registered}, created_ms, updated_ms, "
            f"{', '.join(kind.columns.values())} FROM {kind.table} WHERE seq > ?1 AND seq <= coalesce(?3, seq) "
            "AND org_id IN (SELECT value FROM json_each(?2))",
            (after, wanted, through),
        )
        items += [
            SyncedItem(
                kind.name,
                orgs[org_id],
                source_app,
                id_,
                dict(zip(kind.columns, values, strict=True)),
                bool(is_registered),
                created_ms,
                updated_ms,
            )
            for org_id, source_app, id_, is_registered, created_ms, updated_ms, *values in rows
        ]
    return ItemPage(items, through)


def outcomes_after(connection: sqlite3.Connection, source_id: int, version: int) -> dict[str, Outcome]:
    """What became of what was set aside of a source, by id, as far as it changed after a version."""
    rows = connection.execute(
        "SELECT id, state, uncounted FROM quarantine WHERE source_id = ? AND version > ?", (source_id, version)
    )
    return {
        id_: Outcome(state, [(first, last) for first, last in json.loads(uncounted)]) for id_, state, uncounted in rows
    }


def is_of_source(connection: sqlite3.Connection, source_id: int, quarantine_id: str) -> bool:
    """Whether something was set aside of this source under this id."""
    found = connection.execute(
        "SELECT 1 FROM quarantine WHERE id = ? AND source_id = ?", (quarantine_id, source_id)
    ).fetchone()
    return found is not None


def tell_again(commit: Commit, quarantine_id: str) -> None:
    """Tell the source once more what the state is of what was set aside."""
    version = next_quarantine_version(commit)
    commit.connection.execute("UPDATE quarantine SET version = ? WHERE id = ?", (version, quarantine_id))


def note_skew(commit: Commit, source_id: int, clock_skew_ms: int) -> None:
    """Note how far a source's clock is behind, as it measured it itself."""
    commit.connection.execute("UPDATE source SET clock_skew_ms = ? WHERE id = ?", (clock_skew_ms, source_id))
