"""Adjustments: corrections of events, appended in the ledger's sequence; what an event comes to after them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from costd.domain.money import NANO_PER_USD
from costd.domain.rollup import ROLLUP_AMOUNTS
from costd.store.commit import Commit
from costd.store.rows import insert_rows

REPRICE = "reprice"
VOID = "void"
DUPLICATE = "duplicate"

_COST = ROLLUP_AMOUNTS.index("cost_nano")
_HOUR_MS = 3_600_000
#: Events looked up in one statement.
_LOOKUP = 500


class AdjustmentDraft(NamedTuple):
    """One correction: what it adds to each of ROLLUP_AMOUNTS, and to units without a column, of an event's series."""

    event_seq: int
    at_ms: int
    series_id: int
    amounts: Sequence[int]
    units: Sequence[tuple[str, Decimal]] = ()
    source_id: int | None = None


class Corrected(NamedTuple):
    """What the adjustments of an event come to: to be added to what the event says."""

    requests: int
    cost_nano: int
    unpriced: int
    unrated: int
    source_id: int | None


def corrected(connection: sqlite3.Connection, first_seq: int, last_seq: int) -> dict[int, Corrected]:
    """The events between two numbers that were adjusted, and what it comes to."""
    rows = connection.execute(
        # The newest adjustment's source: SQLite takes a bare column from the row that max() came from.
        "SELECT event_seq, sum(requests), sum(cost_nano), sum(unpriced), sum(unrated), price_source_id, max(seq) "
        "FROM adjustment WHERE event_seq >= ? AND event_seq <= ? GROUP BY event_seq",
        (first_seq, last_seq),
    )
    return {seq: Corrected(*said) for seq, *said, _ in rows}


def newest_adjustment(connection: sqlite3.Connection, first_seq: int, last_seq: int) -> int:
    """The number of the newest adjustment of these events, 0 where there is none: tells whether any came in between."""
    row = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM adjustment WHERE event_seq >= ? AND event_seq <= ?", (first_seq, last_seq)
    ).fetchone()
    return int(row[0])


def append_adjustments(commit: Commit, kind: str, correction_id: int, drafts: Sequence[AdjustmentDraft]) -> None:
    """Append corrections, and add them to rollups and totals in the same transaction."""
    if not drafts:
        return
    ids = _event_ids(commit.connection, drafts)
    first_seq = commit.take_seqs(len(drafts))
    rows = [
        (seq, event_seq, ids[event_seq], at_ms, series_id, kind, *amounts, _units_text(units), source_id, correction_id)
        for seq, (event_seq, at_ms, series_id, amounts, units, source_id) in enumerate(drafts, first_seq)
    ]
    insert_rows(commit.connection, _INTO_ADJUSTMENT, 21, rows)
    _correct_rollups(commit, drafts)
    if commit.charges is not None:
        _charge(commit, drafts)
    costs = [draft.amounts[_COST] for draft in drafts]
    up_nano = sum(cost for cost in costs if cost > 0)
    down_nano = up_nano - sum(costs)
    commit.adjustments.add(kind, len(drafts), up_nano, down_nano)
    halves = (*divmod(up_nano, NANO_PER_USD), *divmod(down_nano, NANO_PER_USD))
    commit.connection.execute(_INTO_TOTAL, (kind, len(drafts), *halves))
    commit.connection.execute(_INTO_CORRECTION, (len(drafts), *_carried(halves), correction_id))


def _correct_rollups(commit: Commit, drafts: Sequence[AdjustmentDraft]) -> None:
    by_rollup: dict[tuple[int, int], list[Sequence[int]]] = {}
    for draft in drafts:
        key = (draft.at_ms // _HOUR_MS, draft.series_id)
        by_rollup.setdefault(key, []).append(draft.amounts)
        for unit, quantity in draft.units:
            commit.add_unit_to_rollup(*key, unit, quantity)
    for (hour, series_id), amounts in by_rollup.items():
        commit.correct_rollup(hour, series_id, list(map(sum, zip(*amounts, strict=True))))


def _charge(commit: Commit, drafts: Sequence[AdjustmentDraft]) -> None:
    """Charge budgets with what corrections raise or lower, at the time that their events were charged at."""
    changed = [draft for draft in drafts if draft.amounts[_COST]]
    charged_ms = dict[int, int]()
    for start in range(0, len(changed), _LOOKUP):
        seqs = [draft.event_seq for draft in changed[start : start + _LOOKUP]]
        rows = commit.connection.execute(
            f"SELECT seq, charged_ms FROM event WHERE charged_ms IS NOT NULL AND seq IN ({','.join('?' * len(seqs))})",
            seqs,
        )
        charged_ms.update(rows)
    for draft in changed:
        commit.charge(draft.series_id, charged_ms.get(draft.event_seq, draft.at_ms), draft.amounts[_COST])


def _units_text(units: Sequence[tuple[str, Decimal]]) -> str | None:
    return json.dumps({unit: str(quantity) for unit, quantity in units}) if units else None


def _carried(halves: tuple[int, ...]) -> tuple[int, ...]:
    up_usd, up_nano, down_usd, down_nano = halves
    return up_usd, up_nano, up_nano, down_usd, down_nano, down_nano


def _event_ids(connection: sqlite3.Connection, drafts: Sequence[AdjustmentDraft]) -> dict[int, bytes]:
    """The public ids of the events of drafts, which ascend; a commit is looked up once for all of its events."""
    ids: dict[int, bytes] = {}
    base, last = 0, -1
    for draft in drafts:
        seq = draft.event_seq
        if seq > last:
            first, items, commit_id = connection.execute(_COMMIT_OF, (seq,)).fetchone()
            base, last = int.from_bytes(commit_id, "big") - first, first + items - 1
        ids[seq] = (base + seq).to_bytes(16, "big")
    return ids


_COMMIT_OF = "SELECT first_seq, items, id FROM ledger_commit WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1"
_INTO_ADJUSTMENT = (
    "INSERT INTO adjustment (seq, event_seq, event_id, at_ms, series_id, kind, requests, errors, input_tokens, "
    "output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_nano, unpriced, unrated, latency_ms, "
    "timed, units, price_source_id, correction_id)"
)
_INTO_TOTAL = (
    "INSERT INTO adjustment_total (kind, adjustments, up_usd, up_nano, down_usd, down_nano) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET adjustments = adjustments + excluded.adjustments, "
    f"up_usd = up_usd + excluded.up_usd + (up_nano + excluded.up_nano) / {NANO_PER_USD}, "
    f"up_nano = (up_nano + excluded.up_nano) % {NANO_PER_USD}, "
    f"down_usd = down_usd + excluded.down_usd + (down_nano + excluded.down_nano) / {NANO_PER_USD}, "
    f"down_nano = (down_nano + excluded.down_nano) % {NANO_PER_USD}"
)
_INTO_CORRECTION = (
    "UPDATE correction SET adjusted = adjusted + ?, "
    f"up_usd = up_usd + ? + (up_nano + ?) / {NANO_PER_USD}, up_nano = (up_nano + ?) % {NANO_PER_USD}, "
    f"down_usd = down_usd + ? + (down_nano + ?) / {NANO_PER_USD}, down_nano = (down_nano + ?) % {NANO_PER_USD} "
    "WHERE id = ?"
)
