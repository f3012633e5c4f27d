"""A sidecar's copy of its hub's keys and catalog, and how new it is.

Nothing of it enters the ledger's sequence: what came from the hub must not go back there as if it were said here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from costd.domain.synced import News, Outcome, SyncedItem, SyncedKey, Versions
from costd.store.catalog_kinds import KINDS, Kind
from costd.store.commit import Commit
from costd.store.hub_link import meet_hub
from costd.store.keys import GONE, HUB, StoredKey, keys_by_id
from costd.store.orgs import OWN_ORG, ensure_org
from costd.store.quarantine import HELD
from costd.store.rows import insert_rows
from costd.store.taken_back import take_back

_VOID = "void"
_KINDS = {kind.name: kind for kind in KINDS}
_ACTOR = HUB

_KEY_COLUMNS = (
    "id, org_id, name, digest, key_prefix, roles, team, project, source_app, description, created_ms, revoked_ms, "
    "renamed_ms, origin"
)
#: A revocation is for good, whatever an older state of the hub says; a key that was only missing may come back. Another
#: key with the same secret stays what it is.
_RENEW_KEY = (
    " ON CONFLICT (id) DO UPDATE SET org_id = excluded.org_id, name = excluded.name, "
    "renamed_ms = excluded.renamed_ms, roles = excluded.roles, team = excluded.team, project = excluded.project, "
    "source_app = excluded.source_app, "
    f"description = excluded.description, revoked_ms = iif(origin = '{GONE}', excluded.revoked_ms, "
    "coalesce(revoked_ms, excluded.revoked_ms)), origin = excluded.origin ON CONFLICT (digest) DO NOTHING"
)


def place_orgs(commit: Commit, news: News) -> dict[str, int]:
    """The numbers here of the organizations that the hub names; the first is that of the ledger's own records."""
    own, *others = news.organizations
    meet_hub(commit, news.source, own)
    return {own: OWN_ORG, **{name: ensure_org(commit, name, _ACTOR) for name in others}}


def store_keys(commit: Commit, keys: Sequence[SyncedKey], orgs: Mapping[str, int]) -> list[StoredKey]:
    """Take the hub's keys over, or what became of them; as they are here after that."""
    rows = [
        (
            key.id,
            orgs[key.organization],
            key.name,
            key.digest,
            key.key_prefix,
            ",".join(key.roles),
            *key[6:],
            HUB,
        )
        for key in keys
        if key.organization in orgs
    ]
    insert_rows(commit.connection, f"INSERT INTO api_key ({_KEY_COLUMNS})", 14, rows, _RENEW_KEY)
    return keys_by_id(commit.connection, [row[0] for row in rows])


def forget_other_keys(commit: Commit, ids: Collection[str]) -> list[StoredKey]:
    """Let no key be in force that was the hub's and is not among these; those it concerns."""
    rows = commit.connection.execute(
        "UPDATE api_key SET revoked_ms = ?, origin = ? WHERE origin = ? AND revoked_ms IS NULL "
        "AND id NOT IN (SELECT value FROM json_each(?)) RETURNING id",
        (commit.now_ms, GONE, HUB, json.dumps(list(ids))),
    ).fetchall()
    return keys_by_id(commit.connection, [key_id for (key_id,) in rows])


def known_revocations(connection: sqlite3.Connection) -> dict[str, int]:
    """Keys of the hub's that are known here to be revoked, and since when, UTC milliseconds."""
    rows = connection.execute("SELECT id, revoked_ms FROM api_key WHERE origin = ? AND revoked_ms IS NOT NULL", (HUB,))
    return dict(rows.fetchall())


def store_items(commit: Commit, items: Sequence[SyncedItem], orgs: Mapping[str, int]) -> None:
    """Take the hub's catalog over; what was said here and is not at the hub yet stays said."""
    pending = _Pending(commit.connection, {item.id for item in items})
    commit.catalog_said.update(
        (item.kind, orgs[item.organization], item.source_app, item.id) for item in items if item.organization in orgs
    )
    for kind in KINDS:
        rows = [
            pending.row(kind, orgs[item.organization], item)
            for item in items
            if item.kind == kind.name and item.organization in orgs
        ]
        names = _columns(kind)
        renew = "".join(f"{name} = excluded.{name}, " for name in (*kind.columns.values(), *_registered(kind)))
        insert_rows(
            commit.connection,
            f"INSERT INTO {kind.table} ({', '.join(names)})",
            len(names),
            rows,
            f" ON CONFLICT DO UPDATE SET {renew}created_ms = excluded.created_ms, updated_ms = excluded.updated_ms",
        )


class _Pending:
    """What was said of the catalog here and is not at the hub yet."""

    def __init__(self, connection: sqlite3.Connection, ids: Iterable[str]) -> None:
        rows = connection.execute(
            "SELECT org_id, kind, source_app, id, said, registers FROM catalog_change "
            "WHERE seq > (SELECT forwarded_seq FROM ledger_state) AND id IN (SELECT value FROM json_each(?)) "
            "ORDER BY seq",
            (json.dumps(list(ids)),),
        )
        self._said: dict[tuple[int, str, str, str], dict[str, str | None]] = {}
        self._registers: set[tuple[int, str, str, str]] = set()
        for org_id, kind, source_app, id_, said, registers in rows:
            key = (org_id, kind, source_app, id_)
            self._said.setdefault(key, {}).update(json.loads(said))
            if registers:
                self._registers.add(key)

    def row(self, kind: Kind, org_id: int, item: SyncedItem) -> tuple[object, ...]:
        """The row of one thing, in the order of its columns."""
        key = (org_id, kind.name, item.source_app, item.id)
        values = {**item.values, **self._said.get(key, {})}
        return (
            org_id,
            *((item.source_app,) if kind.has_apps else ()),
            item.id,
            *(values.get(name) for name in kind.columns),
            *((int(item.is_registered or key in self._registers),) if kind.registers else ()),
            item.created_ms,
            item.updated_ms,
            0,
        )


def _columns(kind: Kind) -> tuple[str, ...]:
    app = ("source_app",) if kind.has_apps else ()
    return (
        "org_id", *app, kind.id_column, *kind.columns.values(), *_registered(kind), "created_ms", "updated_ms", "seq"
    )  # fmt: skip


def _registered(kind: Kind) -> tuple[str, ...]:
    return ("registered",) if kind.registers else ()


def store_outcomes(commit: Commit, outcomes: Mapping[str, Outcome]) -> None:
    """Take down what became of records that the hub set aside; what it does not count has no effect here either."""
    for id_, (state, uncounted) in outcomes.items():
        row = commit.connection.execute(
            "SELECT first_seq, last_seq, state FROM quarantine WHERE id = ? AND source_id IS NULL", (id_,)
        ).fetchone()
        if row is None:  # of a time that was lost here
            continue
        first_seq, last_seq, before = row
        commit.connection.execute(
            "UPDATE quarantine SET state = ?, ordered = '', settled_ms = iif(? = 'held', NULL, ?) WHERE id = ?",
            (state, state, commit.now_ms, id_),
        )
        if before != HELD or state == HELD:
            continue
        for first, last in uncounted:
            window = max(first, first_seq), min(last, last_seq)
            take_back(commit, *window, _VOID, "the hub set it aside and does not count it")


def pending_orders(connection: sqlite3.Connection) -> dict[str, str]:
    """What this end's operator wants done with what the hub has set aside, by the hub's ids of it."""
    rows = connection.execute(
        "SELECT id, ordered FROM quarantine WHERE source_id IS NULL AND ordered <> '' AND state = ?", (HELD,)
    )
    return dict(rows.fetchall())


def store_versions(commit: Commit, hub_epoch: bytes, versions: Versions) -> None:
    """The copy is whole, and this new."""
    commit.connection.execute(
        "UPDATE hub_link SET sync_epoch = ?, keys_version = ?, catalog_version = ?, prices_version = ?, "
        "quarantine_version = ?, budgets_version = ?, heard_ms = ?",
        (hub_epoch, *versions, commit.now_ms),
    )


def store_heard(commit: Commit, heard_ms: int) -> None:
    """Note when the hub was last heard of, UTC milliseconds."""
    commit.connection.execute("UPDATE hub_link SET heard_ms = max(heard_ms, ?)", (heard_ms,))
