"""What was said of the catalog, change by change: what a hub is told, as rows of the catalog only know their last."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from costd.store.catalog_kinds import KINDS, Kind
from costd.store.commit import Commit


class Said(NamedTuple):
    """One change. `values` are by the names in the kind's `columns`: None takes one away, what is not named stays."""

    seq: int
    org_id: int
    kind: str
    source_app: str
    id: str
    values: Mapping[str, str | None]
    registers: bool
    at_ms: int


def log_change(
    commit: Commit,
    seq: int,
    kind: Kind,
    key: tuple[int, str, str],
    values: Mapping[str, str | None],
    *,
    registers: bool = False,
) -> None:
    """Write down the change numbered `seq` of the thing at (organization, application, id)."""
    org_id, source_app, id_ = key
    if "team" in values or "workspace" in values:
        commit.catalog_said.add((kind.name, org_id, source_app, id_))
    commit.connection.execute(
        "INSERT INTO catalog_change (seq, org_id, kind, source_app, id, said, registers, at_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, org_id, kind.name, source_app, id_, _json(values), registers, commit.now_ms),
    )


def first_seen(commit: Commit, kind: Kind, key: tuple[int, str, str]) -> None:
    """Put a user or project, as (organization, application, id), into the catalog, unless it is there."""
    where = "org_id = ? AND source_app = ? AND external_id = ?"
    if commit.connection.execute(f"SELECT 1 FROM {kind.table} WHERE {where}", key).fetchone():
        return
    seq = commit.take_seq()
    registered = ", registered" if kind.registers else ""
    commit.connection.execute(
        f"INSERT INTO {kind.table} (org_id, source_app, external_id, created_ms, updated_ms, seq{registered}) "
        f"VALUES (?, ?, ?, ?, ?, ?{', 0' if registered else ''})",
        (*key, commit.now_ms, commit.now_ms, seq),
    )
    log_change(commit, seq, kind, key, {})


class Standing(NamedTuple):
    """One thing of the catalog as it is; its key is (organization, application, id)."""

    kind: Kind
    key: tuple[int, str, str]
    values: Mapping[str, str]
    is_registered: bool


def everything(connection: sqlite3.Connection) -> list[Standing]:
    """All of the catalog as it is."""
    found = []
    for kind in KINDS:
        app = "source_app" if kind.has_apps else "''"
        registered = "registered" if kind.registers else "0"
        columns = ", ".join(("org_id", app, kind.id_column, registered, *kind.columns.values()))
        rows = connection.execute(f"SELECT {columns} FROM {kind.table}")
        for org_id, source_app, id_, is_registered, *held in rows:
            values = {name: value for name, value in zip(kind.columns, held, strict=True) if value is not None}
            found.append(Standing(kind, (org_id, source_app, id_), values, bool(is_registered)))
    return found


def say_again(commit: Commit, standing: Iterable[Standing]) -> None:
    """Say what is known of these things: the log may have begun after them, or have been cut by retention since."""
    for each in standing:
        log_change(commit, commit.take_seq(), each.kind, each.key, each.values, registers=each.is_registered)


def changes_between(connection: sqlite3.Connection, first_seq: int, last_seq: int) -> list[Said]:
    """What was said, by numbers, both included."""
    rows = connection.execute(
        "SELECT seq, org_id, kind, source_app, id, said, registers, at_ms FROM catalog_change "
        "WHERE seq BETWEEN ? AND ? ORDER BY seq",
        (first_seq, last_seq),
    )
    return [
        Said(seq, org_id, kind, source_app, id_, json.loads(said), bool(registers), at_ms)
        for seq, org_id, kind, source_app, id_, said, registers, at_ms in rows
    ]


def _json(values: Mapping[str, str | None]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
