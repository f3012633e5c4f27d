"""Records that a hub set aside because it could not take them, as both ends keep them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from costd.domain.money import NANO_PER_USD
from costd.store.audit import append_audit
from costd.store.commit import Commit
from costd.store.hub_state import next_quarantine_version
from costd.store.orgs import OWN_ORG

HELD = "held"
APPLIED = "applied"
DROPPED = "dropped"


class Held(NamedTuple):
    """What was set aside: a stretch of a source's sequence, and why; times in UTC milliseconds.

    `source_id` is None at the source itself, `content` the forwarded batch it came in, at the hub and until it is
    settled. `state` is held, applied or dropped. `ordered` is what the source's operator wants done.
    """

    id: str
    source_id: int | None
    epoch: bytes
    first_seq: int
    last_seq: int
    records: int
    cost_nano: int
    reason: str
    format: int
    content: bytes | None
    at_ms: int
    state: str = HELD
    settled_ms: int | None = None
    ordered: str = ""
    version: int = 0


def insert_quarantined(commit: Commit, held: Held) -> None:
    """Keep records in quarantine, once."""
    row = held._asdict()
    row["cost_usd"], row["cost_nano"] = divmod(held.cost_nano, NANO_PER_USD)
    commit.connection.execute(
        f"INSERT INTO quarantine ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) ON CONFLICT DO NOTHING",
        tuple(row.values()),
    )


class Listed(NamedTuple):
    """What was set aside, without its content; `source` is the name of the source it is of, "" at that source."""

    held: Held
    source: str


def find_held(connection: sqlite3.Connection, id_: str) -> Held | None:
    """What is held in quarantine under this id, with its content."""
    row = connection.execute(
        f"SELECT {', '.join(Held._fields)}, cost_usd FROM quarantine WHERE id = ? AND state = ?", (id_, HELD)
    ).fetchone()
    return _held(row[:-1], row[-1]) if row else None


def list_quarantine(connection: sqlite3.Connection, *, settled: bool) -> list[Listed]:
    """What is held, newest first; on demand what was settled as well."""
    where = "" if settled else f"WHERE q.state = '{HELD}' "
    return [_listed(row) for row in connection.execute(f"{_LISTED} {where}ORDER BY q.id DESC")]


def find_quarantined(connection: sqlite3.Connection, start: str) -> list[Listed]:
    """At most two, settled or not, whose id begins so."""
    rows = connection.execute(
        f"{_LISTED} WHERE substr(q.id, 1, ?) = ? ORDER BY q.id <> ?2, q.id LIMIT 2", (len(start), start)
    )
    return [_listed(row) for row in rows]


def count_quarantined(connection: sqlite3.Connection) -> int:
    """How many records are held."""
    (records,) = connection.execute(
        f"SELECT coalesce(sum(records), 0) FROM quarantine WHERE state = '{HELD}'"
    ).fetchone()
    return int(records)


def settle_quarantined(commit: Commit, id_: str, state: str, actor: str, uncounted: Sequence[tuple[int, int]]) -> None:
    """Say at the hub what became of what is held, and let its content go; the source is told by the version.

    `uncounted` are the numbers of it, as (first, last), that the hub does not count.
    """
    commit.connection.execute(
        "UPDATE quarantine SET state = ?, settled_ms = ?, content = NULL, version = ?, uncounted = ? WHERE id = ?",
        (state, commit.now_ms, next_quarantine_version(commit), json.dumps(uncounted), id_),
    )
    append_audit(commit, OWN_ORG, actor, f"quarantine.{state}", id_, {})


def tell_settled_again(commit: Commit, ids: Sequence[str]) -> None:
    """Tell a source once more what became of those that are settled: it hears only now that they were set aside."""
    settled = commit.connection.execute(
        "SELECT id FROM quarantine WHERE id IN (SELECT value FROM json_each(?)) AND state <> ?", (json.dumps(ids), HELD)
    ).fetchall()
    if settled:
        version = next_quarantine_version(commit)
        commit.connection.executemany(
            "UPDATE quarantine SET version = ? WHERE id = ?", [(version, *row) for row in settled]
        )


def order_settling(commit: Commit, id_: str, action: str, actor: str) -> None:
    """Note at the source what is to be done with what the hub holds, until the hub has heard of it."""
    commit.connection.execute("UPDATE quarantine SET ordered = ? WHERE id = ?", (action, id_))
    append_audit(commit, OWN_ORG, actor, "quarantine.ordered", id_, {"action": action})


def _held(row: tuple[Any, ...], cost_usd: int) -> Held:
    held = Held(*row)
    return held._replace(cost_nano=cost_usd * NANO_PER_USD + held.cost_nano)


def _listed(row: tuple[Any, ...]) -> Listed:
    return Listed(_held(row[:-2], row[-2]), row[-1])


_COLUMNS = ", ".join("NULL" if name == "content" else f"q.{name}" for name in Held._fields)
_LISTED = (
    f"SELECT {_COLUMNS}, q.cost_usd, coalesce(s.name, '') FROM quarantine q LEFT JOIN source s ON s.id = q.source_id"
)
