"""Records taken back by their numbers, because the hub did not count them."""

from __future__ import annotations

import json

from costd.store.adjustments import append_adjustments
from costd.store.commit import Commit
from costd.store.corrections import begin_correction, finish_correction
from costd.store.effect import effect_of

_ACTOR = "hub"


def take_back(commit: Commit, first_seq: int, last_seq: int, kind: str, reason: str) -> int:
    """Reverse every record with a number from `first_seq` to `last_seq` that still has an effect; how many.

    Month entries are taken away: they have no corrections.
    """
    connection = commit.connection
    numbers = connection.execute(
        "SELECT seq FROM event WHERE seq BETWEEN ? AND ? ORDER BY seq", (first_seq, last_seq)
    ).fetchall()
    standing = [effect for (seq,) in numbers if (effect := effect_of(connection, seq)) and not effect.is_void]
    if standing:
        request = json.dumps({"first": first_seq, "last": last_seq})
        made = begin_correction(commit, standing[0].org_id, kind, request, reason, _ACTOR, last_seq)
        append_adjustments(commit, kind, made.id, [effect.reversed() for effect in standing])
        finish_correction(commit, made.id)
    connection.execute("DELETE FROM month_entry WHERE seq BETWEEN ? AND ?", (first_seq, last_seq))
    return len(standing)
