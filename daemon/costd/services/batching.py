"""Batching: many records, by columns or as rows, checked, priced and handed to the writer as one piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.batch import Batch
from costd.domain.errors import Forbidden, Invalid, Refused
from costd.domain.usage import TimeLimits, Usage, check_text
from costd.services.column_build import ColumnBuild, Entry, Tools
from costd.services.metering import Metering, extra_of, reason_of, series_of
from costd.services.prices import Prices
from costd.services.row_build import Rows, rows_as_columns
from costd.store.batches import BatchStored

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: Dictionary entries remembered between batches, with what was worked out about them; about 2 KB each.
MAX_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """The answer to a batch that is on disk; see BatchStored."""

    batch_id: str
    stored: BatchStored


class Batching:
    """Records batches."""

    def __init__(
        self,
        writer: Writer,
        metering: Metering,
        prices: Prices,
        limits: TimeLimits,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._writer = writer
        self._metering = metering
        self._prices = prices
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._entries: dict[tuple[str, int], tuple[Usage, Entry | Refused]] = {}
        self._book = prices.book

    def record(self, caller: Caller, batch: Batch, door: str) -> Ticket[BatchReceipt]:
        """Record a batch; the ticket resolves when all of it that is valid is on disk.

        Raises Invalid where the batch as a whole makes no sense, Forbidden, Overloaded, OutOfSpace or Unavailable;
        Conflict comes from the ticket. What is wrong with single records is in the receipt.
        """
        try:
            _check_allowed(caller, history=batch.history)
            batch.check_shape()
            tools = self._tools(self._limits_for(history=batch.history))
            work = ColumnBuild(tools, caller, batch, door, self._clock.now_ms()).columns()
            return self._writer.submit_batch(work, _receipt_of(batch.batch_id))
        except Refused as refusal:
            self._metrics.rejected(door, reason_of(refusal), max(1, len(batch.place)))
            raise

    def record_rows(self, caller: Caller, rows: Rows, door: str) -> Ticket[BatchReceipt]:
        """The same for records that came as rows."""
        try:
            _check_allowed(caller, history=rows.history)
            work = rows_as_columns(self._metering, caller, rows, door, self._limits_for(history=rows.history))
            return self._writer.submit_batch(work, _receipt_of(rows.batch_id))
        except Refused as refusal:
            self._metrics.rejected(door, reason_of(refusal), max(1, len(rows.usages)))
            raise

    def _limits_for(self, *, history: bool) -> TimeLimits:
        return self._limits.for_history(self._clock.now_ms()) if history else self._limits

    def _tools(self, limits: TimeLimits) -> Tools:
        """What a build is done with; with other prices, a record's provider may be another."""
        book = self._prices.book
        if book is not self._book:
            self._book = book
            self._entries = {}
        return Tools(self._metering, book, limits, self._prices.caller_id, self._entry)

    def _entry(self, caller: Caller, usage: Usage) -> Entry | Refused:
        """What is known about a dictionary entry, or why its records are refused."""
        # By identity, because hashing a usage costs more than everything else here: the door gives the same object for
        # the same entry, and what is remembered keeps it alive, so that no other can take its place.
        key = (caller.key_id, id(usage))
        held = self._entries.get(key)
        if held is None or held[0] is not usage:
            if len(self._entries) >= MAX_REMEMBERED:
                self._entries.clear()
            held = self._entries[key] = (usage, self._checked(caller, usage))
        return held[1]

    def _checked(self, caller: Caller, usage: Usage) -> Entry | Refused:
        try:
            if not usage.model:
                raise Invalid("model", "is required: the model as the provider names it")
            check_text(usage)
            now_ms = self._clock.now_ms()
            quote = self._prices.book.price(caller.org_id, usage.provider, usage.model, {}, now_ms, usage.context)
            series = series_of(caller, usage, quote.provider)
        except (Invalid, Forbidden) as refusal:
            return refusal
        return Entry(usage, series, extra_of(usage, (), (), series.status))


def _check_allowed(caller: Caller, *, history: bool) -> None:
    caller.require("admin" if history else "ingest")


def _receipt_of(batch_id: str) -> Callable[[BatchStored], BatchReceipt]:
    return lambda stored: BatchReceipt(batch_id, stored)
