"""Reports: what the ledger says, read on snapshots of its own; every call blocks for as long as the read takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain import freshness as judging
from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.freshness import Freshness
from costd.domain.series import DIMENSIONS
from costd.store import events, months, rollups
from costd.store.events import EventPage
from costd.store.months import MonthTotal
from costd.store.reader import Readers
from costd.store.rollups import BUCKET_HOURS, Period, SummaryRow, Totals

if TYPE_CHECKING:
    from costd.store.writer import Writer

MAX_PAGE = 1000
DEFAULT_PAGE = 100


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows of sums and their total."""

    rows: list[SummaryRow]
    total: Totals


@dataclass(frozen=True, slots=True)
class MonthCosts:
    """A UTC month: usage by provider and model from the rollups, and the month's entries by provider."""

    year: int
    month: int
    usage: list[SummaryRow]
    entries: list[MonthTotal]


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Usage by provider and model over whole UTC days, and the entries of the months these days touch."""

    first_day: date
    last_day: date
    usage: list[SummaryRow]
    entries: list[MonthTotal]


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
        _check_dimensions(by, "group_by")
        _check_dimensions(filters or {}, "filters")
        if len(set(by)) != len(by):
            raise Invalid("group_by", "names a dimension twice")
        if bucket not in BUCKET_HOURS:
            raise Invalid("bucket", 'must be "", "hour" or "day"')
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise Invalid("until", "must be later than since")
        period = Period.around(_bounded(since_ms), _bounded(until_ms))
        with self._readers.snapshot() as connection:
            rows = rollups.summarize(connection, caller.org_id, by, period, filters or {}, bucket)
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

    def month_costs(self, caller: Caller, year: int, month: int) -> MonthCosts:
        """The costs of one UTC month."""
        caller.require("read")
        _check_month(year, month)
        start = datetime(year, month, 1, tzinfo=UTC)
        end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        number = year * 12 + month - 1
        usage, entries = self._usage_and_entries(caller, start, end, number, number)
        return MonthCosts(year, month, usage, entries)

    def token_usage(self, caller: Caller, first_day: date, last_day: date) -> TokenUsage:
        """The usage of the UTC days `first_day` to `last_day`, both inclusive."""
        caller.require("read")
        if last_day < first_day:
            raise Invalid("billingEndDate", "must not be before billingStartDate")
        _check_month(first_day.year, first_day.month)
        _check_month(last_day.year, last_day.month)
        start = datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC)
        end = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + timedelta(days=1)
        months_touched = [day.year * 12 + day.month - 1 for day in (first_day, last_day)]
        usage, entries = self._usage_and_entries(caller, start, end, *months_touched)
        return TokenUsage(first_day, last_day, usage, entries)

    def freshness(self, caller: Caller) -> Freshness:
        """How fresh the organization's data is; from memory."""
        newest = self._writer.ledger.newest.copy()
        mine = {provider: ms for (org_id, provider), ms in newest.items() if org_id == caller.org_id}
        return judging.judge(mine, self._clock.now_ms())

    def _usage_and_entries(
        self, caller: Caller, start: datetime, end: datetime, first_month: int, last_month: int
    ) -> tuple[list[SummaryRow], list[MonthTotal]]:
        period = Period.around(_ms(start), _ms(end))
        with self._readers.snapshot() as connection:
            usage = rollups.summarize(connection, caller.org_id, ("provider", "model"), period, {})
            entries = months.month_totals(connection, caller.org_id, first_month, last_month)
        return usage, entries


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _bounded(moment_ms: int | None) -> int | None:
    """A moment as it was asked for, kept within what SQLite's integers hold."""
    return None if moment_ms is None else max(-(2**60), min(2**60, moment_ms))


def _check_dimensions(names: Sequence[str] | Mapping[str, str], field: str) -> None:
    for name in names:
        if name not in DIMENSIONS:
            raise Invalid(field, f'"{name[:64]}" is not a dimension; there are {", ".join(DIMENSIONS)}')


def _check_month(year: int, month: int) -> None:
    if not 1 <= month <= 12:
        raise Invalid("month", "must be between 1 and 12")
    if not 2000 <= year <= 2100:
        raise Invalid("year", "must be between 2000 and 2100")
