"""Reports: what the ledger says, read on snapshots of its own; every call blocks for as long as the read takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain import freshness as judging
from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.freshness import Freshness
from costd.domain.series import DIMENSIONS
from costd.store import events, rollups
from costd.store.events import EventPage
from costd.store.reader import Readers
from costd.store.rollups import BUCKET_HOURS, Period, SummaryRow, Totals
from costd.store.sums import Wanted

if TYPE_CHECKING:
    from costd.store.writer import Writer

MAX_PAGE = 1000
DEFAULT_PAGE = 100


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows of sums and their total."""

    rows: list[SummaryRow]
    total: Totals


class Reports:
    """Answers questions about the ledger of the caller's organization; every method needs the role read."""

    def __init__(self, readers: Readers, writer: Writer, clock: Clock) -> None:
        self._readers = readers
        self._writer = writer
        self._clock = clock

    def summarize(
        self,
        caller: Caller,
        by: Sequence[str],
        since_ms: int | None = None,
        until_ms: int | None = None,
        filters: Mapping[str, str] | None = None,
        bucket: str = "",
    ) -> Summary:
        """Sums over [since, until) in whole hours, grouped by dimensions and a bucket ("", "hour", "day")."""
        caller.require("read")
        check_dimensions(by, "group_by")
        check_dimensions(filters or {}, "filters")
        if len(set(by)) != len(by):
            raise Invalid("group_by", "names a dimension twice")
        if bucket not in BUCKET_HOURS:
            raise Invalid("bucket", 'must be "", "hour" or "day"')
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise Invalid("until", "must be later than since")
        period = Period.around(bounded(since_ms), bounded(until_ms))
        wanted = Wanted(caller.org_id, {name: (value,) for name, value in (filters or {}).items()})
        with self._readers.snapshot() as connection:
            rows = rollups.summarize(connection, wanted, by, period, bucket)
        return Summary(rows, rollups.total_of(rows))

    def list_events(self, caller: Caller, wanted: str = "", cursor: str = "", limit: int = DEFAULT_PAGE) -> EventPage:
        """Single records, newest first; `wanted` is one event id or request id."""
        caller.require("read")
        limit = limit or DEFAULT_PAGE
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise Invalid("cursor", "must be the next_cursor of an earlier answer")
        with self._readers.snapshot() as connection:
            if not wanted:
                return events.list_events(connection, caller.org_id, int(cursor) if cursor else None, limit)
            found = events.find_event(connection, caller.org_id, wanted)
            return EventPage([found] if found else [], "")

    def freshness(self, caller: Caller) -> Freshness:
        """How fresh the organization's data is; from memory."""
        newest = self._writer.ledger.newest.copy()
        mine = {provider: ms for (org_id, provider), ms in newest.items() if org_id == caller.org_id}
        return judging.judge(mine, self._clock.now_ms())


def bounded(moment_ms: int | None) -> int | None:
    """A moment as it was asked for, kept within what SQLite's integers hold."""
    return None if moment_ms is None else max(-(2**60), min(2**60, moment_ms))


def check_dimensions(names: Sequence[str] | Mapping[str, str], field: str) -> None:
    """Raise Invalid naming `field` unless all of these are dimensions."""
    for name in names:
        if name not in DIMENSIONS:
            raise Invalid(field, f'"{name[:64]}" is not a dimension; there are {", ".join(DIMENSIONS)}')
