"""Repricing: rates recorded usage again, by the prices in force, by those of a day, or as if by another model.

Events are read beside the writer, block by block, and rated there; the writer is only handed the differences. Each
block's differences and how far the work has come are one transaction, so that whatever stops it, the same request
again goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from costd.domain.access import Caller
from costd.domain.days import DAY_MS, Span
from costd.domain.errors import Conflict, Invalid
from costd.domain.rerating import Model, Rater, Rating
from costd.domain.series import DIMENSIONS, Series
from costd.services.prices import Prices
from costd.store import corrections
from costd.store.adjustments import REPRICE, AdjustmentDraft, append_adjustments, newest_adjustment
from costd.store.audit import append_audit
from costd.store.commit import Change, Commit
from costd.store.rating_rows import RatingBlock, RatingRow, RatingSource
from costd.store.reader import Readers
from costd.store.sums import Wanted

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: Events read at once, and rated before anybody is told how far it has come: some 50 ms.
BLOCK_EVENTS = 4_000
#: How often a block is rated again because somebody else corrected one of its events meanwhile.
_TRIES = 10
_WAIT_S = 60.0


class Scope(NamedTuple):
    """Which records: those whose dimensions have these values, made in a span."""

    filters: Mapping[str, str]
    span: Span = Span()


@dataclass(slots=True)
class ModelChange:
    """What comes of one model's records; costs in nano-USD, of those that have one."""

    provider: str
    model: str
    events: int = 0
    changed: int = 0
    before_nano: int = 0
    after_nano: int = 0
    newly_priced: int = 0
    newly_unpriced: int = 0
    unpriced: int = 0
    unrated: int = 0


class Progress(NamedTuple):
    """How far it has come, in numbers of the ledger's sequence, and what came of each model so far.

    `kept` are records whose cost is not ours to change (the caller's own word, or taken back), `unratable` those that
    these prices cannot rate: both stay as they are. `resumed` where an earlier run had done a part.
    """

    done_seq: int
    through_seq: int
    models: list[ModelChange]
    kept: int
    unratable: int
    resumed: bool = False
    #: What the whole correction came to, once it is finished.
    finished: corrections.Correction | None = None


class _Tally:
    """What comes of the records, by model."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], ModelChange] = {}
        self.kept = 0
        self.unratable = 0

    def progress(self, done_seq: int, through_seq: int, *, resumed: bool = False) -> Progress:
        return Progress(done_seq, through_seq, list(self.models.values()), self.kept, self.unratable, resumed)

    def add(self, series: Series, before: _Effective, rating: Rating) -> None:
        row = self.models.get((series.provider, series.model))
        if row is None:
            row = self.models[series.provider, series.model] = ModelChange(series.provider, series.model)
        row.events += 1
        row.changed += (rating.cost_nano, rating.is_unrated) != (before.cost_nano, before.is_unrated)
        row.before_nano += before.cost_nano or 0
        row.after_nano += rating.cost_nano or 0
        row.newly_priced += before.cost_nano is None and rating.cost_nano is not None
        row.newly_unpriced += before.cost_nano is not None and rating.cost_nano is None
        row.unpriced += rating.cost_nano is None
        row.unrated += rating.is_unrated


class _Effective(NamedTuple):
    """What an event comes to after its corrections."""

    cost_nano: int | None
    is_unrated: bool
    is_void: bool


class Repricing:
    """Rates history again; needs the role admin, and for questions the role read."""

    def __init__(self, writer: Writer, readers: Readers, prices: Prices) -> None:
        self._writer = writer
        self._readers = readers
        self._prices = prices

    def preview(self, caller: Caller, scope: Scope, at_day_ms: int | None = None) -> Iterator[Progress]:
        """What a reprice would change; nothing is changed. `resumed` where an earlier run had done a part."""
        caller.require("read")
        day_ms = _day(at_day_ms)
        with self._readers.snapshot() as connection:
            held = corrections.find_unfinished(connection, caller.org_id, REPRICE, self._request(scope, day_ms))
        return self._look(caller, scope, Rater(self._prices.book, day_ms), resumed=held is not None)

    def what_if(self, caller: Caller, scope: Scope, provider: str, model: str) -> Iterator[Progress]:
        """What the same traffic would have cost on another model; nothing is changed."""
        caller.require("read")
        if not model:
            raise Invalid("to_model", "is required: the model to price the traffic on")
        return self._look(caller, scope, Rater(self._prices.book), instead=Model(caller.org_id, provider, model))

    def reprice(self, caller: Caller, scope: Scope, at_day_ms: int | None, reason: str) -> Iterator[Progress]:
        """Append adjustments for every record whose cost is another by the prices asked for."""
        caller.require("admin")
        self._prices.require_no_hub("history is rated again", "costd prices reprice")
        _check(scope)
        day_ms = _day(at_day_ms)
        book = self._prices.book
        request = self._request(scope, day_ms)
        with self._readers.snapshot() as connection:
            held = corrections.find_unfinished(connection, caller.org_id, REPRICE, request)
            through_seq = held.through_seq if held else None
            source = RatingSource(connection, _wanted(caller, scope), scope.span, through_seq)
        made: corrections.Correction = self._writer.submit(
            Change(
                lambda commit: corrections.begin_correction(
                    commit, caller.org_id, REPRICE, request, reason, caller.key_id, source.through_seq
                )
            )
        ).wait(_WAIT_S)
        resumed = made.done_seq > 0
        run = _Run(self, source, Rater(book, day_ms), made.id)
        for done_seq in run.steps(made.done_seq):
            yield run.tally.progress(done_seq, made.through_seq, resumed=resumed)
        finish = Change(lambda commit: self._finish(commit, caller, made.id, request, reason))
        done: corrections.Correction = self._writer.submit(finish).wait(_WAIT_S)
        last = run.tally.progress(made.through_seq, made.through_seq, resumed=resumed)
        yield last._replace(finished=done)

    def void(self, caller: Caller, wanted: str, reason: str) -> corrections.Voided | None:
        """Take a record back, by its request id or event id; None where there is none."""
        caller.require("admin")
        if not reason.strip():
            raise Invalid("reason", "is required: it goes into the audit trail")

        def apply(commit: Commit) -> corrections.Voided | None:
            voided = corrections.void_event(commit, caller.org_id, wanted, reason, caller.key_id)
            if voided is not None and not voided.was_void:
                told: dict[str, object] = {"reason": reason, "cost_nano": voided.cost_nano}
                append_audit(commit, caller.org_id, caller.key_id, "record.voided", f"{voided.event_id:032x}", told)
            return voided

        return self._writer.submit(Change(apply)).wait(_WAIT_S)

    def _look(
        self, caller: Caller, scope: Scope, rater: Rater, *, instead: Model | None = None, resumed: bool = False
    ) -> Iterator[Progress]:
        _check(scope)
        with self._readers.snapshot() as connection:
            source = RatingSource(connection, _wanted(caller, scope), scope.span)
        tally = _Tally()
        done_seq = 0
        while (block := self.read(source, done_seq)) is not None:
            for _, _, _ in _rated(source, block, rater, tally, instead):
                pass
            done_seq = block.through_seq
            yield tally.progress(done_seq, source.through_seq)
        yield tally.progress(source.through_seq, source.through_seq, resumed=resumed)

    def read(self, source: RatingSource, after_seq: int) -> RatingBlock | None:
        """The next events, on a snapshot of their own."""
        with self._readers.snapshot() as connection:
            return source.read(connection, after_seq, BLOCK_EVENTS)

    def store(self, block: RatingBlock, drafts: list[AdjustmentDraft], correction_id: int) -> Ticket[bool]:
        """Append what came of a block; False where one of its events was corrected since it was read."""
        first_seq = block.rows[0].seq if block.rows else block.through_seq

        def apply(commit: Commit) -> bool:
            if newest_adjustment(commit.connection, first_seq, block.through_seq) > block.newest_adjustment:
                return False
            append_adjustments(commit, REPRICE, correction_id, drafts)
            corrections.advance_correction(commit, correction_id, block.through_seq)
            return True

        return self._writer.submit(Change(apply))

    def _request(self, scope: Scope, day_ms: int | None) -> str:
        """What is asked for, as text; by other prices it is another request."""
        state = self._prices.state
        tables = [held.digest.hex() for held in (state.list, state.file) if held is not None]
        asked = {
            "filters": dict(sorted(scope.filters.items())),
            "since_ms": scope.span.start_ms,
            "until_ms": scope.span.end_ms,
            "prices_of_ms": day_ms,
            "prices": [state.revision, *tables],
        }
        return json.dumps(asked, ensure_ascii=False)

    def _finish(
        self, commit: Commit, caller: Caller, correction_id: int, request: str, reason: str
    ) -> corrections.Correction:
        done = corrections.finish_correction(commit, correction_id)
        told: dict[str, object] = {
            "reason": reason,
            "request": json.loads(request),
            "adjusted": done.adjusted,
            "up_nano": done.up_nano,
            "down_nano": done.down_nano,
        }
        append_audit(commit, caller.org_id, caller.key_id, "prices.repriced", str(correction_id), told)
        return done


class _RatedBlock(NamedTuple):
    """A block, rated: what is to be appended, and what came of it."""

    after_seq: int
    block: RatingBlock
    drafts: list[AdjustmentDraft]
    tally: _Tally


class _Run:
    """One reprice under way."""

    def __init__(self, repricing: Repricing, source: RatingSource, rater: Rater, correction_id: int) -> None:
        self._repricing = repricing
        self._source = source
        self._rater = rater
        self._correction_id = correction_id
        self.tally = _Tally()

    def steps(self, after_seq: int) -> Iterator[int]:
        """Rate block after block and store what comes of it; after each, the last number that is done.

        While one block is on its way to the disk, the next is rated.
        """
        rated = self._rate(after_seq)
        while rated is not None:
            ticket = self._store(rated)
            following = self._rate(rated.block.through_seq)
            yield self._settle(rated, ticket)
            rated = following

    def _rate(self, after_seq: int) -> _RatedBlock | None:
        block = self._repricing.read(self._source, after_seq)
        if block is None:
            return None
        tally = _Tally()
        drafts = []
        for row, before, rating in _rated(self._source, block, self._rater, tally, None):
            if (draft := _draft(row, before, rating)) is not None:
                drafts.append(draft)
        return _RatedBlock(after_seq, block, drafts, tally)

    def _store(self, rated: _RatedBlock) -> Ticket[bool]:
        return self._repricing.store(rated.block, rated.drafts, self._correction_id)

    def _settle(self, rated: _RatedBlock, ticket: Ticket[bool]) -> int:
        """Wait until a block is stored, rating it again where others were quicker; the last number done."""
        for _ in range(_TRIES):
            if ticket.wait(_WAIT_S):
                _merge(self.tally, rated.tally)
                return rated.block.through_seq
            again = self._rate(rated.after_seq)
            if again is None:  # retention took them
                return rated.block.through_seq
            rated, ticket = again, self._store(again)
        raise Conflict("others keep correcting the same records; try again")


def _rated(
    source: RatingSource, block: RatingBlock, rater: Rater, tally: _Tally, instead: Model | None
) -> Iterator[tuple[RatingRow, _Effective, Rating]]:
    """Each event of a block that these prices decide about, with what it comes to now and what by these prices."""
    models: dict[int, Model] = {}
    for row in block.rows:
        series = source.series[row.series_id]
        before = _effective(row, block)
        if row.source_id in source.fixed_sources or before.is_void:
            tally.kept += 1
            continue
        model = instead or models.get(row.series_id)
        if model is None:
            model = models[row.series_id] = Model(series.org_id, series.provider, series.model)
        rating = rater.rate(model, row.at_ms, row.counts, row.extra)
        if rating is None:
            tally.unratable += 1
            continue
        tally.add(series, before, rating)
        yield row, before, rating


def _effective(row: RatingRow, block: RatingBlock) -> _Effective:
    unrated = row.extra is not None and '"unrated"' in row.extra and bool(json.loads(row.extra).get("unrated"))
    held = block.corrected.get(row.seq)
    if held is None:
        return _Effective(row.cost_nano, unrated, is_void=False)
    is_unpriced = (row.cost_nano is None) + held.unpriced > 0
    cost = None if is_unpriced else (row.cost_nano or 0) + held.cost_nano
    return _Effective(cost, unrated + held.unrated > 0, is_void=held.requests != 0)


def _draft(row: RatingRow, before: _Effective, rating: Rating) -> AdjustmentDraft | None:
    """The correction that makes an event cost what its rating says; None where it does already."""
    cost = (rating.cost_nano or 0) - (before.cost_nano or 0)
    unpriced = (rating.cost_nano is None) - (before.cost_nano is None)
    unrated = rating.is_unrated - before.is_unrated
    if not (cost or unpriced or unrated):
        return None
    amounts = (0, 0, 0, 0, 0, 0, 0, cost, unpriced, unrated, 0, 0)
    return AdjustmentDraft(row.seq, row.at_ms, row.series_id, amounts, (), rating.source_id)


def _merge(into: _Tally, other: _Tally) -> None:
    into.kept += other.kept
    into.unratable += other.unratable
    for key, change in other.models.items():
        held = into.models.setdefault(key, ModelChange(*key))
        for name in ModelChange.__slots__[2:]:
            setattr(held, name, getattr(held, name) + getattr(change, name))


def _wanted(caller: Caller, scope: Scope) -> Wanted:
    return Wanted(caller.org_id, {name: (value,) for name, value in scope.filters.items()})


def _check(scope: Scope) -> None:
    for name in scope.filters:
        if name not in DIMENSIONS:
            raise Invalid("filters", f'"{name[:64]}" is not a dimension; there are {", ".join(DIMENSIONS)}')
    start_ms, end_ms = scope.span
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise Invalid("until", "must be later than since")


def _day(at_ms: int | None) -> int | None:
    """The first moment of the UTC day."""
    return None if at_ms is None else at_ms // DAY_MS * DAY_MS
