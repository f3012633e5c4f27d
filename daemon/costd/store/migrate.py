"""Brings a database to the newest schema: each migration and its record in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

from costd.domain.errors import DamagedDatabase

APPLICATION_ID = 0x636F7374  # "cost": tells our databases from anybody else's

_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migration (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_ms INTEGER NOT NULL
) STRICT
"""


class Migration(NamedTuple):
    """One numbered .sql file."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All migrations, oldest first."""
    files = sorted(
        (file for file in (resources.files("costd.store") / "migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return [Migration(int(file.name[:4]), file.name[5:-4], file.read_text("utf-8")) for file in files]


def migrate(connection: sqlite3.Connection, now_ms: int) -> list[str]:
    """Apply what is missing; returns the names applied. The connection must be in autocommit mode.

    Raises DamagedDatabase when the file is not ours, or was written by a newer release.
    """
    if not is_ours(connection):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(_RECORD)
    done = _version(connection)
    known = migrations()
    fresh = [migration for migration in known if migration.version > done]
    for migration in fresh:
        _apply(connection, migration, now_ms)
    return [migration.name for migration in fresh]


def is_ours(connection: sqlite3.Connection) -> bool:
    """Whether this is a ledger; False for an empty file. Only reads: what is not ours must stay as it is.

    Raises DamagedDatabase when the file is another program's, or was written by a newer release.
    """
    ours = bool(connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and not ours:
        raise DamagedDatabase("the file is an SQLite database of another program; move it away or name another folder")
    done, newest = _version(connection) if tables else 0, migrations()[-1].version
    if done > newest:
        raise DamagedDatabase(
            f"the database has schema {done}, this release knows {newest}: it was written by a newer costd; "
            "start that release, or restore a backup made before the upgrade"
        )
    return ours


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_migration").fetchone()[0])


def _apply(connection: sqlite3.Connection, migration: Migration, now_ms: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements(migration.sql):
            connection.execute(statement)
        connection.execute("INSERT INTO schema_migration VALUES (?, ?, ?)", (migration.version, migration.name, now_ms))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: executescript() would commit the transaction around it."""
    buffer = ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            yield buffer
            buffer = ""
    if buffer.strip() and not all(line.lstrip().startswith("--") for line in buffer.strip().splitlines()):
        yield buffer
