"""Batches: many records by columns over a dictionary of what they have in common, checked column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import add, gt
from typing import NamedTuple

from costd.domain.errors import Invalid
from costd.domain.ids import uuid_text
from costd.domain.money import MAX_RECORD_NANO
from costd.domain.units import MAX_QUANTITY, Quantity
from costd.domain.usage import MAX_LATENCY_MS, MAX_TEXT, TimeLimits, Usage

#: Bounded so that one batch is one transaction of some tens of milliseconds.
MAX_RECORDS = 10_000

#: The units that have a column, in the order of Batch.counts.
COUNT_COLUMNS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
_IN, _OUT, _READ, _WRITE, _REASONING = range(len(COUNT_COLUMNS))

#: Says "not known" in the columns of latencies and costs, as 0 says "now" in the column of times.
UNKNOWN = -1


class Batch(NamedTuple):
    """Records by columns. `place` names each one's entry of `series`; every other column is None or equally long.

    `series` are usages without anything of a single record in them. A request id is text, or the 16 bytes of a UUID.
    `fingerprint` is of the batch as sent. `history` says that the records may be old, and may be held from elsewhere.
    """

    batch_id: str
    fingerprint: bytes
    series: Sequence[Usage]
    place: Sequence[int]
    at_ms: Sequence[int] | None
    counts: tuple[Sequence[int] | None, ...]
    latency_ms: Sequence[int] | None
    cost_nano: Sequence[int] | None
    request_ids: Sequence[str | bytes] | None
    jobs: Sequence[str] | None
    other_units: Mapping[int, tuple[tuple[str, Quantity], ...]]
    history: bool = False

    def check_shape(self) -> None:
        """Raise Invalid where the batch as a whole makes no sense: too many records, columns of unequal length."""
        records = len(self.place)
        if records > MAX_RECORDS:
            raise Invalid("columns.series", f"has {records} records; a batch has at most {MAX_RECORDS}")
        if len(self.batch_id) > MAX_TEXT:
            raise Invalid("batch_id", f"must be at most {MAX_TEXT} characters")
        for name, column in self._columns():
            if column is not None and len(column) != records:
                raise Invalid(f"columns.{name}", f"has {len(column)} entries, but columns.series has {records}")
        for record in self.other_units:
            if record >= records:
                raise Invalid("columns.other_units", f"names record {record}, but there are {records}")

    def _columns(self) -> Iterable[tuple[str, Sequence[object] | None]]:
        yield "time_ms", self.at_ms
        yield from zip(COUNT_COLUMNS, self.counts, strict=True)
        yield "latency_ms", self.latency_ms
        yield "cost_nano_usd", self.cost_nano
        yield "request_ids", self.request_ids
        yield "jobs", self.jobs

    def usage(self, record: int) -> Usage:
        """One record as a usage of its own; its place must be within the dictionary."""
        units = {
            name: column[record]
            for name, column in zip(COUNT_COLUMNS, self.counts, strict=True)
            if column is not None and column[record]
        }
        others = self.other_units.get(record, ())
        for name, amount in others:
            if name in units:
                raise Invalid("other_units", f"names {name}, which has a column; say it once")
            units[name] = amount  # type: ignore[assignment]  # a column's counts are ints, others may be decimals
        return self.series[self.place[record]]._replace(
            units=tuple(sorted(units.items())),
            job=self.jobs[record] if self.jobs else "",
            latency_ms=_known(self.latency_ms, record),
            at_ms=(self.at_ms[record] or None) if self.at_ms else None,
            cost_nano=_known(self.cost_nano, record),
            request_id=_shown(self.request_ids[record]) if self.request_ids else "",
        )

    def suspects(self, now_ms: int, limits: TimeLimits) -> set[int]:
        """The records that may not be valid, found column by column; to be looked at one by one."""
        found: set[int] = set()
        found.update(_outside(self.place, 0, len(self.series) - 1))
        for column in self.counts:
            found.update(_outside(column, 0, MAX_QUANTITY))
        found.update(_outside(self.latency_ms, UNKNOWN, MAX_LATENCY_MS))
        found.update(_outside(self.cost_nano, UNKNOWN, MAX_RECORD_NANO))
        if self.at_ms and not all(self.at_ms):
            times = [at_ms or now_ms for at_ms in self.at_ms]
        else:
            times = list(self.at_ms or ())
        found.update(_outside(times, now_ms - limits.past_ms, now_ms + limits.future_ms))
        for texts in (self.request_ids, self.jobs):
            if texts and isinstance(texts[0], str):  # UUIDs in their bytes are always well
                found.update(at for at, text in enumerate(texts) if len(text) > MAX_TEXT or not _is_plain(text))
        found.update(self._ill_nested())
        return found

    def _ill_nested(self) -> Iterable[int]:
        """Records with more in the parts of a count than in the whole."""
        parts = [self.counts[_READ], self.counts[_WRITE]]
        cached: Iterable[int] | None
        if parts[0] is not None and parts[1] is not None:
            cached = map(add, parts[0], parts[1])
        else:
            cached = parts[0] if parts[0] is not None else parts[1]
        for part, whole in ((cached, self.counts[_IN]), (self.counts[_REASONING], self.counts[_OUT])):
            if part is None:
                continue
            if whole is None:
                yield from (at for at, count in enumerate(part) if count)
            else:
                yield from (at for at, above in enumerate(map(gt, part, whole)) if above)


def _outside(column: Sequence[int] | None, low: int, high: int) -> Iterable[int]:
    if not column or (min(column) >= low and max(column) <= high):
        return ()
    return [at for at, value in enumerate(column) if not low <= value <= high]


def _is_plain(text: str | bytes) -> bool:
    return isinstance(text, bytes) or text.isprintable()


def _shown(request_id: str | bytes) -> str:
    return uuid_text(int.from_bytes(request_id, "big")) if isinstance(request_id, bytes) else request_id


def _known(column: Sequence[int] | None, record: int) -> int | None:
    if column is None or column[record] == UNKNOWN:
        return None
    return column[record]
