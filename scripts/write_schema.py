"""Writes daemon/costd/store/schema.sql: the schema that the migrations lead to, statement by statement."""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from costd.store.connection import open_database

HEADER = """\
-- The whole schema of a ledger, as the migrations beside this file lead to it.
-- Written by scripts/write_schema.py; a test holds it to the migrations. To change the schema, add a migration.
"""
PATH = Path(str(resources.files("costd.store"))) / "schema.sql"


def schema() -> str:
    """The text of schema.sql as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        connection = open_database(Path(folder) / "costd.db", now_ms=0)
        try:
            rows = connection.execute(
                "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
            ).fetchall()
        finally:
            connection.close()
    return HEADER + "".join(f"\n{sql.strip()};\n" for (sql,) in rows)


if __name__ == "__main__":
    PATH.write_text(schema(), "utf-8")
    sys.stdout.write(f"wrote {PATH}\n")
