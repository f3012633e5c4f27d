"""The effect of one event: what it adds to rollups now, after all its corrections."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from costd.domain.rollup import ROLLUP_AMOUNTS
from costd.store.adjustments import AdjustmentDraft, corrected

_COST = ROLLUP_AMOUNTS.index("cost_nano")
_UNPRICED = ROLLUP_AMOUNTS.index("unpriced")


class Effect(NamedTuple):
    """What an event adds: an integer for each of ROLLUP_AMOUNTS, and units without a column. `is_void`: nothing."""

    seq: int
    org_id: int
    at_ms: int
    series_id: int
    amounts: Sequence[int]
    units: Sequence[tuple[str, Decimal]]
    is_void: bool

    @property
    def cost_nano(self) -> int | None:
        """What it costs now; None where that is not known."""
        return None if self.amounts[_UNPRICED] else self.amounts[_COST]

    def reversed(self) -> AdjustmentDraft:
        """The adjustment that takes all of it back."""
        units = [(name, -quantity) for name, quantity in self.units]
        return AdjustmentDraft(self.seq, self.at_ms, self.series_id, [-amount for amount in self.amounts], units)


def effect_of(connection: sqlite3.Connection, seq: int) -> Effect | None:
    """The effect of the event with this number; None where there is none."""
    row = connection.execute(_EVENT, (seq,)).fetchone()
    if row is None:
        return None
    org_id, at_ms, series_id, status, in_, out, read, write, reasoning, cost, latency, extra = row
    held = corrected(connection, seq, seq).get(seq)
    said = json.loads(extra) if extra else {}
    unpriced, unrated = int(cost is None), int(bool(said.get("unrated")))
    if held is not None:
        cost, unpriced, unrated = (cost or 0) + held.cost_nano, unpriced + held.unpriced, unrated + held.unrated
    amounts = {
        "requests": 1,
        "errors": int(status == "error"),
        "input_tokens": in_,
        "output_tokens": out,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "reasoning_tokens": reasoning,
        "cost_nano": cost or 0,
        "unpriced": unpriced,
        "unrated": unrated,
        "latency_ms": latency or 0,
        "timed": int(latency is not None),
    }
    units = [(name, Decimal(quantity)) for name, quantity in said.get("units", {}).items()]
    is_void = held is not None and bool(held.requests)
    return Effect(seq, org_id, at_ms, series_id, [amounts[name] for name in ROLLUP_AMOUNTS], units, is_void)


_EVENT = (
    "SELECT s.org_id, e.at_ms, e.series_id, s.status, e.input_tokens, e.output_tokens, e.cache_read_tokens, "
    "e.cache_write_tokens, e.reasoning_tokens, e.cost_nano, e.latency_ms, e.extra "
    "FROM event e JOIN series s ON s.id = e.series_id WHERE e.seq = ?"
)
