"""Exports: every single record of an organization, block by block, each block read on a snapshot of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from costd.domain.access import Caller
from costd.domain.days import Span
from costd.domain.errors import Invalid, Unavailable
from costd.domain.series import Series
from costd.services.health import Health
from costd.services.reports import check_dimensions
from costd.store import exports
from costd.store.exports import Block, Extent
from costd.store.reader import Readers
from costd.store.sums import Wanted

#: Left to others between two blocks: an export would else take every turn at the interpreter that it can get.
PAUSE_S = 0.001
#: Series remembered while they are written: a kilobyte each.
MAX_SERIES = 20_000
_MAX_SEQ = 1 << 60


class ExportQuery(NamedTuple):
    """Which records: made in `span`, of series whose dimensions have these values, numbered after `after` up to `end`.

    `end` is None for everything there is when the export begins.
    """

    span: Span = Span()
    filters: Mapping[str, str] = MappingProxyType({})
    after: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True)
class NamedBlock:
    """A block, with at least the series and price sources ((kind, version)) that its rows name; where the export ends.

    Between two blocks of an export, `series` is the same mapping unless it has been begun anew.
    """

    block: Block
    series: Mapping[int, Series]
    sources: Mapping[int, tuple[str, str]]
    start: int
    end: int


class Exports:
    """Reads whole ledgers; every method needs the role read."""

    def __init__(self, readers: Readers, health: Health) -> None:
        self._readers = readers
        self._health = health

    def blocks(self, caller: Caller, query: ExportQuery) -> Iterator[NamedBlock]:
        """The records in the order they were recorded; the last block's position is its end.

        Raises Invalid, Forbidden, and Unavailable when the daemon is to stop.
        """
        caller.require("read")
        _check(query)
        wanted = Wanted(caller.org_id, {name: (value,) for name, value in query.filters.items()})
        with self._readers.snapshot() as connection:
            extent = exports.extent_of(connection, wanted, query.span, query.end)
        names: dict[int, Series] = {}
        position = max(query.after, extent.start)
        while True:
            made = self._next(extent, position, names)
            yield made
            position = made.block.position
            if position >= extent.end:
                return
            if self._health.stops_within(PAUSE_S):
                raise Unavailable("the daemon is stopping; go on with the export when it is back")

    def _next(self, extent: Extent, position: int, names: dict[int, Series]) -> NamedBlock:
        with self._readers.snapshot() as connection:
            block = exports.read_block(connection, extent, position)
            missing = {row[2] for row in block.rows} - names.keys()
            if missing:
                if len(names) > MAX_SERIES:
                    names.clear()
                    missing = {row[2] for row in block.rows}
                names.update(exports.read_series(connection, sorted(missing)))
            sources = exports.read_price_sources(connection)
        return NamedBlock(block, names, sources, extent.start, extent.end)


def _check(query: ExportQuery) -> None:
    check_dimensions(query.filters, "filters")
    start_ms, end_ms = query.span
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise Invalid("until", "must be later than since")
    for name, position in (("after", query.after), ("end", query.end or 0)):
        if not 0 <= position <= _MAX_SEQ:
            raise Invalid(name, "must be a position of an earlier answer")
