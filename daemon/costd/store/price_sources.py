"""Where costs come from, as numbers events can carry, with the compiled tables behind the list's versions."""

from __future__ import annotations

from typing import NamedTuple

from costd.store.commit import Commit

CALLER = "caller"
LIST = "list"


class PriceSources(NamedTuple):
    """The numbers of the sources in use now."""

    caller_id: int
    list_id: int


def register_sources(commit: Commit, version: str, digest: str, body: bytes) -> PriceSources:
    """The numbers of the caller's own prices and of this price list; a list not seen before is kept whole."""
    connection = commit.connection
    connection.execute("INSERT OR IGNORE INTO price_table (digest, body) VALUES (?, ?)", (bytes.fromhex(digest), body))
    return PriceSources(
        caller_id=_source(commit, CALLER, "", None), list_id=_source(commit, LIST, version, bytes.fromhex(digest))
    )


def _source(commit: Commit, kind: str, version: str, digest: bytes | None) -> int:
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
