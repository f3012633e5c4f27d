"""The prices in force as the ledger keeps them: which list, which file, which rules, and their numbers as sources."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from costd.domain.price_rule import PriceRule
from costd.store.commit import Commit
from costd.store.price_list import PriceList
from costd.store.price_rules import load_rules
from costd.store.price_sources import CALLER, FILE, LIST, OVERRIDE, keep_table, source_id

#: In place of the version of the list that was installed, where the hub put a table in force: it stays until the hub
#: says otherwise, whatever is installed here.
FROM_HUB = "hub"


class HeldTable(NamedTuple):
    """A table in force: what it is, its bytes, and its number as a source."""

    kind: str
    version: str
    name: str
    digest: bytes
    body: bytes
    source_id: int
    imported_ms: int


class PriceState(NamedTuple):
    """Everything prices are made of; `file` is None where none was imported."""

    revision: int
    caller_id: int
    list: HeldTable
    file: HeldTable | None
    rules: tuple[PriceRule, ...]
    rules_id: int


def read_price_state(commit: Commit, installed: PriceList) -> PriceState:
    """The prices in force as of this commit; sources not seen before get their numbers.

    A list that was put in place stays while the same list is installed: once costd or the library is upgraded, the
    installed one is taken again, unless the hub put it there.
    """
    connection = commit.connection
    revision = int(connection.execute("SELECT price_revision FROM ledger_state").fetchone()[0])
    chosen = _imported(connection, LIST)
    if chosen is not None and chosen[0] in {installed.version, FROM_HUB}:
        held = _held(commit, LIST, *chosen[1:])
    else:
        digest = bytes.fromhex(installed.digest)
        keep_table(commit, digest, installed.body)
        number = source_id(commit, LIST, installed.version, digest)
        held = HeldTable(LIST, installed.version, "", digest, installed.body, number, 0)
    file = _imported(connection, FILE)
    rules = tuple(load_rules(connection))
    return PriceState(
        revision,
        source_id(commit, CALLER, "", None),
        held,
        _held(commit, FILE, *file[1:], over=held.version) if file is not None else None,
        rules,
        source_id(commit, OVERRIDE, str(revision), held.digest) if rules else 0,
    )


def next_revision(commit: Commit) -> int:
    """The number of the prices that this commit makes."""
    row = commit.connection.execute(
        "UPDATE ledger_state SET price_revision = price_revision + 1 RETURNING price_revision"
    ).fetchone()
    return int(row[0])


def import_table(commit: Commit, kind: str, name: str, table: PriceList, installed: PriceList, actor: str) -> None:
    """Put a table in force, in place of the one of its kind that was."""
    revision = next_revision(commit)
    _set_aside(commit, kind, revision)
    digest = bytes.fromhex(table.digest)
    keep_table(commit, digest, table.body)
    commit.connection.execute(
        "INSERT INTO price_import (revision, kind, version, name, digest, installed_version, imported_ms, imported_by) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (revision, kind, table.version, name, digest, installed.version, commit.now_ms, actor),
    )


def drop_table(commit: Commit, kind: str) -> bool:
    """Take the imported table of this kind out of force; whether there was one."""
    return _set_aside(commit, kind, next_revision(commit))


def _set_aside(commit: Commit, kind: str, revision: int) -> bool:
    cursor = commit.connection.execute(
        "UPDATE price_import SET removed_ms = ?, removed_revision = ? WHERE kind = ? AND removed_ms IS NULL",
        (commit.now_ms, revision, kind),
    )
    return cursor.rowcount > 0


def _imported(connection: sqlite3.Connection, kind: str) -> tuple[str, str, str, bytes, int] | None:
    """(installed version, version, name, digest, imported_ms) of the table of this kind that is in force."""
    row: tuple[str, str, str, bytes, int] | None = connection.execute(
        "SELECT installed_version, version, name, digest, imported_ms FROM price_import "
        "WHERE kind = ? AND removed_ms IS NULL ORDER BY revision DESC LIMIT 1",
        (kind,),
    ).fetchone()
    return row


def _held(
    commit: Commit, kind: str, version: str, name: str, digest: bytes, imported_ms: int, over: str = ""
) -> HeldTable:
    """`over` is the version of the list that says what a file does not: costs by the two name both."""
    body = commit.connection.execute("SELECT body FROM price_table WHERE digest = ?", (digest,)).fetchone()[0]
    source = source_id(commit, kind, f"{version} over {over}" if over else version, digest)
    return HeldTable(kind, version, name, digest, body, source, imported_ms)
