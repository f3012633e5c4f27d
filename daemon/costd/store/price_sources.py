"""Where costs come from, as numbers events can carry, with the compiled tables behind them."""

from __future__ import annotations

from costd.store.commit import Commit

CALLER = "caller"
LIST = "list"
FILE = "file"
OVERRIDE = "override"


def keep_table(commit: Commit, digest: bytes, body: bytes) -> None:
    """Keep a compiled table whole, once; costs may be asked about as long as there are events."""
    commit.connection.execute("INSERT OR IGNORE INTO price_table (digest, body) VALUES (?, ?)", (digest, body))


def source_id(commit: Commit, kind: str, version: str, digest: bytes | None) -> int:
    """The number of a source, given to it now if it is new."""
    key = (kind, version, digest)
    row = commit.connection.execute(
        "SELECT id FROM price_source WHERE kind = ? AND version = ? AND table_digest IS ?", key
    ).fetchone()
    if row is None:
        row = commit.connection.execute(
            "INSERT INTO price_source (kind, version, table_digest, added_ms) VALUES (?, ?, ?, ?) RETURNING id",
            (*key, commit.now_ms),
        ).fetchone()
    return int(row[0])
