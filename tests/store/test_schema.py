"""The schema: what the migrations lead to is what schema.sql says, and a migration is applied whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlite_utils
from scripts.write_schema import PATH, schema

from costd.store import migrate as migrating
from costd.store.connection import connect, open_database
from costd.store.migrate import Migration, migrate, migrations, statements
from ledger import NOW_MS, draft, record, writing


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A fresh ledger's connection."""
    with closing(open_database(tmp_path / "costd.db", NOW_MS)) as connection:
        yield connection


def test_the_migrated_schema_is_what_schema_sql_says() -> None:
    assert PATH.read_text("utf-8") == schema(), "run: python scripts/write_schema.py"


def test_schema_sql_makes_the_same_tables_and_indexes(tmp_path: Path, database: sqlite3.Connection) -> None:
    made = sqlite_utils.Database(tmp_path / "made.db")
    made.conn.executescript(PATH.read_text("utf-8"))
    migrated = sqlite_utils.Database(database)
    assert set(made.table_names()) == set(migrated.table_names())
    for table in migrated.table_names():
        assert made[table].columns == migrated[table].columns
        assert {index.name: index.columns for index in made[table].indexes} == {
            index.name: index.columns for index in migrated[table].indexes
        }
        assert made[table].strict or table.startswith("sqlite_"), f"{table} is not STRICT"
    made.close()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [one.version for one in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_second_opening_applies_nothing_and_keeps_everything(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        first = record(writer, draft(request_id="a", fingerprint=b"f"))[0]
    with closing(open_database(tmp_path / "costd.db", NOW_MS)) as connection:
        assert migrate(connection, NOW_MS) == []
        assert connection.execute("SELECT seq, request_id FROM request").fetchall() == [(first.seq, "a")]


def test_a_migration_that_fails_leaves_nothing_behind_and_can_be_tried_again(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    version = known[-1].version + 1
    sql = "CREATE TABLE half (a);\nINSERT INTO half VALUES (1);\n"
    broken = Migration(version, "broken", sql + "INSERT INTO nowhere VALUES (1);")
    monkeypatch.setattr(migrating, "migrations", lambda: [*known, broken])
    before = database.execute("SELECT sql FROM sqlite_schema ORDER BY rowid").fetchall()
    with pytest.raises(sqlite3.OperationalError):
        migrate(database, NOW_MS)
    assert not database.in_transaction
    assert database.execute("SELECT sql FROM sqlite_schema ORDER BY rowid").fetchall() == before
    assert database.execute("SELECT max(version) FROM schema_migration").fetchone() == (version - 1,)
    mended = broken._replace(name="mended", sql=sql)
    monkeypatch.setattr(migrating, "migrations", lambda: [*known, mended])
    assert migrate(database, NOW_MS) == ["mended"]
    assert database.execute("SELECT a FROM half").fetchall() == [(1,)]
    assert migrate(database, NOW_MS) == []


def test_a_script_is_split_where_its_statements_end() -> None:
    script = "-- a comment; with a semicolon\nCREATE TABLE a (x DEFAULT ';');\n\n-- the end\n"
    assert [one.strip().splitlines()[-1] for one in statements(script)] == ["CREATE TABLE a (x DEFAULT ';');"]


def test_every_connection_syncs_each_commit_before_it_returns(tmp_path: Path) -> None:
    open_database(tmp_path / "costd.db", NOW_MS).close()
    with closing(connect(tmp_path / "costd.db")) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: the log is synced at every COMMIT
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental
    with writing(tmp_path) as writer:
        assert writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
