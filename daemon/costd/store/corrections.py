"""Corrections as undertakings: a re-rating that goes on where it stopped, a record that is taken back."""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from costd.domain.money import NANO_PER_USD
from costd.store.adjustments import VOID, append_adjustments
from costd.store.commit import Commit, event_id_of
from costd.store.effect import Effect, effect_of
from costd.store.events import find_seq


class Correction(NamedTuple):
    """How far a correction has come: which events it looks at, how many it changed, and by how much in nano-USD."""

    id: int
    through_seq: int
    done_seq: int
    adjusted: int
    up_nano: int
    down_nano: int


class Voided(NamedTuple):
    """A record that was taken back; `was_void` where it had been before. Its cost was None if it was unpriced."""

    event_id: int
    cost_nano: int | None
    was_void: bool


def begin_correction(
    commit: Commit, org_id: int, kind: str, request: str, reason: str, actor: str, through_seq: int
) -> Correction:
    """The unfinished correction of this very request, else a new one over the events up to `through_seq`."""
    row = commit.connection.execute(
        f"SELECT {_COLUMNS} FROM correction WHERE org_id = ? AND kind = ? AND request = ? AND finished_ms IS NULL",
        (org_id, kind, request),
    ).fetchone()
    if row is None:
        row = commit.connection.execute(
            "INSERT INTO correction (org_id, kind, request, reason, actor, started_ms, through_seq, done_seq, "
            "adjusted, up_usd, up_nano, down_usd, down_nano) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0) RETURNING {_COLUMNS}",
            (org_id, kind, request, reason, actor, commit.now_ms, through_seq),
        ).fetchone()
    return _correction(row)


def find_unfinished(connection: sqlite3.Connection, org_id: int, kind: str, request: str) -> Correction | None:
    """The unfinished correction of this very request."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM correction WHERE org_id = ? AND kind = ? AND request = ? AND finished_ms IS NULL",
        (org_id, kind, request),
    ).fetchone()
    return _correction(row) if row else None


def advance_correction(commit: Commit, correction_id: int, done_seq: int) -> None:
    """Note that a correction has looked at every event up to `done_seq`."""
    commit.connection.execute("UPDATE correction SET done_seq = ? WHERE id = ?", (done_seq, correction_id))


def finish_correction(commit: Commit, correction_id: int) -> Correction:
    """Close a correction; what it came to."""
    row = commit.connection.execute(
        f"UPDATE correction SET finished_ms = ?, done_seq = through_seq WHERE id = ? RETURNING {_COLUMNS}",
        (commit.now_ms, correction_id),
    ).fetchone()
    return _correction(row)


def void_event(commit: Commit, org_id: int, wanted: str, reason: str, actor: str) -> Voided | None:
    """Take a record back by its request id or event id; None where there is none.

    Everything it added to rollups goes; the record, its id and its history stay. Again is the same answer.
    """
    connection = commit.connection
    seq = find_seq(connection, org_id, wanted)
    standing = effect_of(connection, seq) if seq is not None else None
    if seq is None or standing is None or standing.org_id != org_id:
        return None
    event_id = event_id_of(connection, seq)
    if standing.is_void:
        return Voided(event_id, _cost_taken_back(connection, seq), was_void=True)
    reverse(commit, standing, VOID, reason, actor)
    return Voided(event_id, standing.cost_nano, was_void=False)


def reverse(commit: Commit, standing: Effect, kind: str, reason: str, actor: str) -> None:
    """Append the adjustment that takes back everything an event adds to rollups now."""
    event_id = event_id_of(commit.connection, standing.seq)
    request = json.dumps({"event": f"{event_id:032x}"})
    made = begin_correction(commit, standing.org_id, kind, request, reason, actor, standing.seq)
    append_adjustments(commit, kind, made.id, [standing.reversed()])
    finish_correction(commit, made.id)


def _cost_taken_back(connection: sqlite3.Connection, seq: int) -> int | None:
    cost, unpriced = connection.execute(
        "SELECT -cost_nano, unpriced FROM adjustment WHERE event_seq = ? AND requests < 0 ORDER BY seq DESC LIMIT 1",
        (seq,),
    ).fetchone()
    return None if unpriced else int(cost)


def _correction(row: tuple[int, ...]) -> Correction:
    number, through_seq, done_seq, adjusted, up_usd, up_nano, down_usd, down_nano = row
    up, down = up_usd * NANO_PER_USD + up_nano, down_usd * NANO_PER_USD + down_nano
    return Correction(number, through_seq, done_seq, adjusted, up, down)


_COLUMNS = "id, through_seq, done_seq, adjusted, up_usd, up_nano, down_usd, down_nano"
