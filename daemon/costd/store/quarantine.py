"""Records that a hub set aside because it could not take them, as both ends keep them."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from costd.domain.money import NANO_PER_USD
from costd.store.commit import Commit

HELD = "held"


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


def find_held(connection: sqlite3.Connection, id_: str) -> Held | None:
    """What is held in quarantine under this id."""
    row = connection.execute(
        f"SELECT {', '.join(Held._fields)}, cost_usd FROM quarantine WHERE id = ? AND state = ?", (id_, HELD)
    ).fetchone()
    if row is None:
        return None
    held = Held(*row[:-1])
    return held._replace(cost_nano=row[-1] * NANO_PER_USD + held.cost_nano)
