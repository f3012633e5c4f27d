"""Blocks of events: which stretches of the ledger can hold records of a time or of a series.

Events are stored as they come, so those of an hour or of a series lie anywhere. Upkeep writes down of every
BLOCK_EVENTS of them between which moments and of which series they are; a read skips the blocks that cannot hold what
it looks for. That costs a quarter of a byte for a record, long after it was answered; an index would cost ten, before.
"""

from __future__ import annotations

import sqlite3
import struct
from typing import NamedTuple

from costd.store.commit import Commit
from costd.store.rows import insert_rows

#: Small enough that the records of one hour are found within little more than themselves.
BLOCK_EVENTS = 1_024
#: Blocks made at a time: tens of milliseconds of reading, beside the writer.
STEP_BLOCKS = 200
#: A block of more series than this names none: few filters would let it be skipped.
MAX_SERIES = 256
#: More stretches than this are joined across the smallest gaps between them: each costs a statement.
MAX_RANGES = 16
#: Beyond every number and every moment there is.
_FAR = 1 << 60


class Block(NamedTuple):
    """The events numbered `first_seq` to `last_seq`; `series` as the table has it."""

    first_seq: int
    last_seq: int
    min_ms: int
    max_ms: int
    series: bytes | None


class Blocks:
    """The blocks as of one snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tail: tuple[int, int, int] | None = None
        self.has_adjustments = connection.execute("SELECT 1 FROM adjustment LIMIT 1").fetchone() is not None

    def ranges(
        self, start_ms: int | None, end_ms: int | None, series: frozenset[int] | None = None
    ) -> list[tuple[int, int]]:
        """Stretches of numbers (first, last), ascending, that hold every event of [start, end) of these series.

        None is open: an end of the time, or every series there is.
        """
        low, high = -_FAR if start_ms is None else start_ms, _FAR if end_ms is None else end_ms
        if series is None and (low, high) == (-_FAR, _FAR):
            return [(0, _FAR)]
        found: list[tuple[int, int]] = []
        for first, last, held in self._connection.execute(_OVERLAPPING, (low, high)):
            if series is None or held is None or not series.isdisjoint(unpacked(held)):
                _extend(found, first, last)
        after_seq, min_ms, max_ms = self._newest()
        if min_ms < high and max_ms >= low:
            _extend(found, after_seq + 1, _FAR)
        return _fewer(found)

    def _newest(self) -> tuple[int, int, int]:
        """The events that are in no block yet: after which number, and between which moments."""
        if self._tail is None:
            after_seq = _last_seq(self._connection)
            min_ms, max_ms = self._connection.execute(
                "SELECT coalesce(min(at_ms), ?), coalesce(max(at_ms), ?) FROM event WHERE seq > ?",
                (_FAR, -_FAR, after_seq),
            ).fetchone()
            self._tail = after_seq, min_ms, max_ms
        return self._tail


def make_blocks(connection: sqlite3.Connection) -> list[Block]:
    """The next blocks, STEP_BLOCKS at most; none while too few events are new."""
    blocks: list[Block] = []
    after_seq = _last_seq(connection)
    while len(blocks) < STEP_BLOCKS:
        count, last_seq, min_ms, max_ms, series = connection.execute(_NEXT, (after_seq, BLOCK_EVENTS)).fetchone()
        if count < BLOCK_EVENTS:
            break
        blocks.append(Block(after_seq + 1, last_seq, min_ms, max_ms, _packed(series)))
        after_seq = last_seq
    return blocks


def store_blocks(commit: Commit, blocks: list[Block]) -> None:
    """Write blocks down, unless somebody else has or retention took what they stand on."""
    connection = commit.connection
    if blocks and _last_seq(connection) == blocks[0].first_seq - 1:
        insert_rows(connection, "INSERT INTO event_block (first_seq, last_seq, min_ms, max_ms, series)", 5, blocks)


def unpacked(series: bytes) -> tuple[int, ...]:
    """The numbers in a block's `series`."""
    return struct.unpack(f"<{len(series) // 4}I", series)


def _packed(names: str) -> bytes | None:
    numbers = sorted(map(int, names.split(",")))
    return struct.pack(f"<{len(numbers)}I", *numbers) if len(numbers) <= MAX_SERIES else None


def _last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(last_seq), 0) FROM event_block").fetchone()[0])


def _extend(ranges: list[tuple[int, int]], first: int, last: int) -> None:
    if ranges and ranges[-1][1] + 1 >= first:
        ranges[-1] = (ranges[-1][0], last)
    else:
        ranges.append((first, last))


def _fewer(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most MAX_RANGES that hold all of these: where there are more, the widest gaps stay."""
    if len(ranges) <= MAX_RANGES:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda place: ranges[place - 1][1] - ranges[place][0])
    kept = set(gaps[: MAX_RANGES - 1])
    joined: list[tuple[int, int]] = []
    for place, (first, last) in enumerate(ranges):
        if place == 0 or place in kept:
            joined.append((first, last))
        else:
            joined[-1] = (joined[-1][0], last)
    return joined


_OVERLAPPING = "SELECT first_seq, last_seq, series FROM event_block WHERE max_ms >= ? AND min_ms < ? ORDER BY first_seq"
_NEXT = (
    "SELECT count(*), max(seq), min(at_ms), max(at_ms), group_concat(DISTINCT series_id) "
    "FROM (SELECT seq, at_ms, series_id FROM event WHERE seq > ? ORDER BY seq LIMIT ?)"
)
