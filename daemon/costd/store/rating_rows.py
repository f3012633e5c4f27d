"""Events as they are rated again: what was used, what it comes to after corrections, block by block."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.days import Span
from costd.domain.series import Series
from costd.store.adjustments import Corrected, corrected, newest_adjustment
from costd.store.event_blocks import Blocks
from costd.store.sums import Wanted

#: Costs from these are not ours to change.
_OTHERS_WORD = ("caller", "bill")
_FAR_MS = 1 << 60


class RatingRow(NamedTuple):
    """One event; `counts` are of the units with a column (domain.batch.COUNT_COLUMNS), `extra` is JSON."""

    seq: int
    at_ms: int
    series_id: int
    counts: tuple[int, int, int, int, int]
    cost_nano: int | None
    source_id: int | None
    extra: str | None


class RatingBlock(NamedTuple):
    """Events in the order of their numbers, all there are up to `through_seq`; which of them were adjusted.

    `newest_adjustment` is the number of the newest of their adjustments.
    """

    rows: Sequence[RatingRow]
    corrected: dict[int, Corrected]
    through_seq: int
    newest_adjustment: int


class RatingSource:
    """Reads events of the series wanted, made in a span, block by block; each block on a snapshot of its caller's."""

    def __init__(
        self, connection: sqlite3.Connection, wanted: Wanted, span: Span, through_seq: int | None = None
    ) -> None:
        """`through_seq` is the last event to look at, None for the last there is."""
        where, values = wanted.where()
        names = ", ".join(f"s.{name}" for name in Series._fields)
        rows = connection.execute(f"SELECT s.id, {names} FROM series s WHERE {where}", values)
        #: The series wanted, by number, those that were there at the start.
        self.series = {number: Series(*said) for number, *said in rows}
        marks = ", ".join("?" * len(_OTHERS_WORD))
        found = connection.execute(f"SELECT id FROM price_source WHERE kind IN ({marks})", _OTHERS_WORD)
        #: Sources whose costs stay as they are.
        self.fixed_sources = frozenset(row[0] for row in found)
        start_ms = -_FAR_MS if span.start_ms is None else span.start_ms
        end_ms = _FAR_MS if span.end_ms is None else span.end_ms
        newest = int(connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])
        #: The last event to look at.
        self.through_seq = newest if through_seq is None else min(newest, through_seq)
        ranges = Blocks(connection).ranges(start_ms, end_ms, frozenset(self.series) if wanted.filters else None)
        self._ranges = [(first, min(last, self.through_seq)) for first, last in ranges if first <= self.through_seq]
        self._span = (start_ms, end_ms)

    def read(self, connection: sqlite3.Connection, after_seq: int, limit: int) -> RatingBlock | None:
        """Up to `limit` events numbered above `after_seq`; None where there are no more."""
        for first, last in self._ranges:
            if last <= after_seq:
                continue
            start = max(first, after_seq + 1)
            found = connection.execute(_READ, (start, last, *self._span, limit)).fetchall()
            through = found[-1][0] if len(found) == limit else last
            series = self.series
            rows = [RatingRow(row[0], row[1], row[2], row[3:8], *row[8:]) for row in found if row[2] in series]
            return RatingBlock(
                rows, corrected(connection, start, through), through, newest_adjustment(connection, start, through)
            )
        return None


_READ = (
    "SELECT seq, at_ms, series_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, "
    "reasoning_tokens, cost_nano, price_source_id, extra FROM event "
    "WHERE seq >= ? AND seq <= ? AND at_ms >= ? AND at_ms < ? ORDER BY seq LIMIT ?"
)
