"""One batch on its way from the columns that were sent to the columns that will be stored, checked and priced.

A record that is like most is priced by its model's factors in one expression; whatever is unusual about a record (a
unit without a column, a price that changes within the batch) sends it, and it alone,
through the same steps as a single record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import NamedTuple, TypeVar

from costd.domain.access import Caller
from costd.domain.batch import COUNT_COLUMNS, UNKNOWN, Batch
from costd.domain.errors import Forbidden, Invalid, Refused
from costd.domain.money import MAX_RECORD_NANO
from costd.domain.pricebook import PriceBook, Quote
from costd.domain.rates import Context, Linear
from costd.domain.rerating import linear_cost
from costd.domain.series import Series
from costd.domain.usage import TimeLimits, Usage, fingerprint, own_content, shared_content
from costd.services.metering import Metering, extra_of
from costd.store.batches import FORBIDDEN, INVALID, ColumnBatch, RefusedRecord
from costd.store.ledger import EventDraft
from costd.store.requests import stored_request_id

T = TypeVar("T")


class Entry(NamedTuple):
    """A dictionary entry, checked: its series, what its records keep beside the columns, and its price's names."""

    usage: Usage
    series: Series
    extra: str | None


class _Priced(NamedTuple):
    """How to price an entry's records in one batch: by factors, or (`linear` None) every one by itself."""

    linear: Linear | None
    unpriced: bool
    source_id: int = 0


_BY_HAND = _Priced(None, unpriced=False)


class _Columns:
    """The columns of what will be stored, filled position by position."""

    def __init__(self, batch: Batch, now_ms: int) -> None:
        records = len(batch.place)
        self.at_ms = [at_ms or now_ms for at_ms in batch.at_ms] if batch.at_ms else [now_ms] * records
        self.latency_ms: list[int | None] = (
            [None if ms == UNKNOWN else ms for ms in batch.latency_ms] if batch.latency_ms else [None] * records
        )
        self.counts = [list(column) if column else [0] * records for column in batch.counts]
        self.cost_nano: list[int | None] = [None] * records
        self.source_id: list[int | None] = [None] * records
        self.extra: list[str | None] = [None] * records


class Tools(NamedTuple):
    """What a build is done with; `entry` says what is known about a dictionary entry of a caller's.

    `caller_id` is the source of callers' own prices.
    """

    metering: Metering
    book: PriceBook
    limits: TimeLimits
    caller_id: int
    entry: Callable[[Caller, Usage], Entry | Refused]


class ColumnBuild:
    """One batch on its way from what was sent to what will be stored."""

    def __init__(self, tools: Tools, caller: Caller, batch: Batch, door: str, now_ms: int) -> None:
        self._tools = tools
        self._caller = caller
        self._batch = batch
        self._door = door
        self._now_ms = now_ms
        self._columns = _Columns(batch, now_ms)
        self._refused: dict[int, RefusedRecord] = {}
        self._drafts: dict[int, EventDraft] = {}

    def columns(self) -> ColumnBatch:
        """Everything checked and priced."""
        batch = self._batch
        suspects = batch.suspects(self._now_ms, self._tools.limits)
        entries = self._checked_entries(suspects)
        by_hand = suspects | batch.other_units.keys()
        self._price(entries, by_hand)
        for record in sorted(by_hand):
            self._look_at(record)
        return self._assembled(entries)

    def _checked_entries(self, suspects: set[int]) -> list[Entry | Refused | None]:
        """Each used dictionary entry, checked; records of refused ones become suspects."""
        series = self._batch.series
        entries: list[Entry | Refused | None] = [None] * len(series)
        refused = set()
        for at in set(self._batch.place):
            if at < len(series):
                entries[at] = entry = self._entry(series[at])
                if isinstance(entry, Refused):
                    refused.add(at)
        if refused:
            suspects.update(record for record, at in enumerate(self._batch.place) if at in refused)
        return entries

    def _entry(self, usage: Usage) -> Entry | Refused:
        try:
            check_source_app(self._caller, usage, history=self._batch.history)
        except Invalid as refusal:
            return refusal
        return self._tools.entry(self._caller, usage)

    def _price(self, entries: Sequence[Entry | Refused | None], by_hand: set[int]) -> None:
        """Price every record that its entry's factors can; the others are added to `by_hand`."""
        columns = self._columns
        first_ms, last_ms = min(columns.at_ms, default=0), max(columns.at_ms, default=0)
        priced = self._priced(entries, first_ms, last_ms)
        extras = [entry.extra if isinstance(entry, Entry) else None for entry in entries]
        costs, sources, extra = columns.cost_nano, columns.source_id, columns.extra
        own = self._batch.cost_nano or repeat(UNKNOWN)
        rows = zip(self._batch.place, own, *columns.counts, strict=False)
        for record, (at, said, in_, out, read, write, reasoning) in enumerate(rows):
            if record in by_hand:
                continue
            linear, unpriced, source_id = priced[at]
            if said != UNKNOWN:
                costs[record] = said
                sources[record] = self._tools.caller_id
            elif linear is None:
                if not unpriced:
                    by_hand.add(record)
                    continue
            else:
                cost = linear_cost(linear, in_, out, read, write, reasoning)
                if cost is None or cost > MAX_RECORD_NANO:
                    by_hand.add(record)
                    continue
                costs[record] = cost
                sources[record] = source_id
            extra[record] = extras[at]
        for record, job in enumerate(self._batch.jobs or ()):
            if job and record not in by_hand:
                entry = entries[self._batch.place[record]]
                assert isinstance(entry, Entry)
                extra[record] = extra_of(entry.usage._replace(job=job), (), (), entry.series.status)

    def _priced(self, entries: Sequence[Entry | Refused | None], first_ms: int, last_ms: int) -> list[_Priced]:
        """How to price each entry's records; models are asked for once, however many entries have them."""
        asked: dict[tuple[str, str, Context], _Priced] = {}
        found = []
        for entry in entries:
            if not isinstance(entry, Entry):
                found.append(_BY_HAND)
                continue
            usage = entry.usage
            key = (usage.provider, usage.model, usage.context)
            if key not in asked:
                asked[key] = self._ask(key, first_ms, last_ms)
            found.append(asked[key])
        return found

    def _ask(self, key: tuple[str, str, Context], first_ms: int, last_ms: int) -> _Priced:
        provider, model, context = key
        price = self._tools.book.price_columns(
            self._caller.org_id, provider, model, COUNT_COLUMNS, first_ms, last_ms, context
        )
        if isinstance(price, Quote):
            return _Priced(None, unpriced=True)
        return _Priced(None if price.unmapped_tier else price.linear, unpriced=False, source_id=price.source_id)

    def _look_at(self, record: int) -> None:
        """Do with one record what is done with a single one."""
        batch = self._batch
        usage: Usage | None = None
        try:
            if batch.place[record] >= len(batch.series):
                raise Invalid(f"columns.series[{record}]", f"must be below {len(batch.series)}, the dictionary's size")
            usage = batch.usage(record)
            check_source_app(self._caller, usage, history=batch.history)
            draft, _ = self._tools.metering.draft(self._caller, usage, self._door, self._tools.limits)
        except (Invalid, Forbidden) as refusal:
            self._refused[record] = refused_record(record, refusal, usage)
            return
        columns = self._columns
        columns.cost_nano[record] = draft.cost_nano
        columns.source_id[record] = draft.price_source_id
        columns.extra[record] = draft.extra
        self._drafts[record] = draft

    def _assembled(self, entries: Sequence[Entry | Refused | None]) -> ColumnBatch:
        batch, columns = self._batch, self._columns
        kept: Sequence[int] = range(len(batch.place))
        if self._refused:
            kept = [record for record in kept if record not in self._refused]
        ids = None
        if batch.request_ids and any(batch.request_ids):
            picked = _pick(batch.request_ids, kept)
            ids = [stored_request_id(each) if isinstance(each, str) else each for each in picked]
        at_of = {record: at for at, record in enumerate(kept)} if self._drafts else {}
        nobody = Series(0, *[""] * (len(Series._fields) - 1))
        return ColumnBatch(
            org_id=self._caller.org_id,
            batch_id=batch.batch_id,
            fingerprint=batch.fingerprint,
            sent=len(batch.place),
            series=[entry.series if isinstance(entry, Entry) else nobody for entry in entries],
            positions=kept,
            place=_pick(batch.place, kept),
            at_ms=_pick(columns.at_ms, kept),
            counts=tuple(_pick(column, kept) for column in columns.counts),
            cost_nano=_pick(columns.cost_nano, kept),
            source_id=_pick(columns.source_id, kept),
            latency_ms=_pick(columns.latency_ms, kept),
            extra=_pick(columns.extra, kept),
            unrated=frozenset(at_of[record] for record, draft in self._drafts.items() if draft.unrated),
            rare={at_of[record]: draft.rare for record, draft in self._drafts.items() if draft.rare},
            request_ids=ids,
            fingerprints=self._fingerprints(kept) if ids else None,
            refused=[self._refused[record] for record in sorted(self._refused)],
            door=self._door,
            history=batch.history,
            charged_ms=self._tools.metering.charged_column(self._caller.org_id, ids),
        )

    def _fingerprints(self, kept: Sequence[int]) -> list[bytes]:
        """The fingerprint of every record that has an id; the same as on any other door."""
        batch = self._batch
        shared = {at: shared_content(batch.series[at].shared()) for at in set(batch.place) if at < len(batch.series)}
        by_hand = self._drafts
        ids = batch.request_ids or ()
        times = batch.at_ms or repeat(0)
        costs = batch.cost_nano or repeat(UNKNOWN)
        jobs = batch.jobs or repeat("")
        found: list[bytes] = []
        rows = zip(batch.place, times, costs, jobs, self._columns.latency_ms, *self._columns.counts, strict=False)
        refused = self._refused
        for record, (at, at_ms, cost, job, latency, in_, out, read, write, reasoning) in enumerate(rows):
            if record in refused:
                continue
            if record in by_hand:
                found.append(by_hand[record].fingerprint)
            elif not ids[record]:
                found.append(b"")
            else:
                if read or write or reasoning or not (in_ and out):
                    units = _units_text(in_, out, read, write, reasoning)
                else:
                    units = f"input_tokens={in_};output_tokens={out}"
                own = own_content(units, latency, at_ms or None, None if cost == UNKNOWN else cost, job)
                found.append(fingerprint(shared[at], own))
        return found


def _units_text(in_: int, out: int, read: int, write: int, reasoning: int) -> str:
    """The counts as Usage.fingerprint has them: sorted by name, without zeros."""
    named = (
        ("cache_read_tokens", read),
        ("cache_write_tokens", write),
        ("input_tokens", in_),
        ("output_reasoning_tokens", reasoning),
        ("output_tokens", out),
    )
    return ";".join([f"{name}={count}" for name, count in named if count])


def _pick(column: Sequence[T], kept: Sequence[int]) -> Sequence[T]:
    return column if len(kept) == len(column) else [column[record] for record in kept]


def check_source_app(caller: Caller, usage: Usage, *, history: bool) -> None:
    """Raise Invalid where nobody says which application made a call; of history it may not be known any more."""
    if not usage.source_app and not caller.source_app and not history:
        raise Invalid("source_app", "is required: the application that makes the call")


def refused_record(record: int, refusal: Refused, usage: Usage | None) -> RefusedRecord:
    """Why a record is refused, with what is needed to see whether it is held already."""
    outcome = FORBIDDEN if isinstance(refusal, Forbidden) else INVALID
    field, reason = getattr(refusal, "field", ""), getattr(refusal, "reason", refusal.message)
    if usage is None or not usage.request_id:
        return RefusedRecord(record, outcome, field, reason)
    return RefusedRecord(record, outcome, field, reason, usage.request_id, usage.fingerprint())
