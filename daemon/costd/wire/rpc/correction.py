"""Corrections over gRPC: rating again, pricing otherwise, taking records back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from costd.domain.access import Caller
from costd.domain.days import Span
from costd.domain.errors import Invalid, NotFound
from costd.domain.ids import uuid_text
from costd.domain.money import usd_text
from costd.domain.usage import check_string
from costd.services.repricing import ModelChange, Progress, Repricing, Scope
from costd.v1 import correction_pb2

#: What the service calls a field, and its name in a request of ours.
_FIELDS = {"since": "since_ms", "until": "until_ms"}


class CorrectionService:
    """Answers the methods of costd.v1.AdminService that correct what was recorded."""

    def __init__(self, repricing: Repricing) -> None:
        self._repricing = repricing

    def reprice(
        self, caller: Caller, request: correction_pb2.RepriceRequest
    ) -> Iterator[correction_pb2.RepriceProgress]:
        """Rate again; a message for every block of records, the last with what came of them."""
        check_string(request.reason, "reason")
        scope = _scope(request.filters, request)
        day_ms = request.prices_of_ms if request.HasField("prices_of_ms") else None
        if request.dry_run:
            return _told(self._repricing.preview(caller, scope, day_ms))
        return _told(self._repricing.reprice(caller, scope, day_ms, request.reason))

    def what_if(
        self, caller: Caller, request: correction_pb2.WhatIfRequest
    ) -> Iterator[correction_pb2.RepriceProgress]:
        """Price as another model; the same messages."""
        check_string(request.to_model, "to_model")
        check_string(request.to_provider, "to_provider")
        scope = _scope(request.filters, request)
        return _told(self._repricing.what_if(caller, scope, request.to_provider, request.to_model))

    def void(self, caller: Caller, request: correction_pb2.VoidRequest) -> correction_pb2.VoidResponse:
        """Take a record back; returns once reports follow."""
        check_string(request.reason, "reason")
        voided = self._repricing.void(caller, request.id, request.reason)
        if voided is None:
            raise NotFound(f'no record has the event or request id "{request.id[:256]}"')
        return correction_pb2.VoidResponse(
            event_id=uuid_text(voided.event_id), cost_nano_usd=voided.cost_nano, was_void=voided.was_void
        )


def _scope(filters: Mapping[str, str], request: correction_pb2.RepriceRequest | correction_pb2.WhatIfRequest) -> Scope:
    for name, value in filters.items():
        check_string(value, f"filters.{name[:64]}")
    span = Span(
        _bounded(request.since_ms) if request.HasField("since_ms") else None,
        _bounded(request.until_ms) if request.HasField("until_ms") else None,
    )
    return Scope(dict(filters), span)


def _bounded(moment_ms: int) -> int:
    """Kept within what the ledger's arithmetic holds."""
    return max(-(2**60), min(2**60, moment_ms))


def _told(steps: Iterator[Progress]) -> Iterator[correction_pb2.RepriceProgress]:
    """Each step without its models, which only the last message has."""
    last: Progress | None = None
    try:
        for step in steps:
            if last is not None:
                yield _progress(last, with_models=False)
            last = step
    except Invalid as refusal:
        raise refusal.renamed(_FIELDS.get(refusal.field, refusal.field)) from None
    if last is not None:
        yield _progress(last, with_models=True)


def _progress(step: Progress, *, with_models: bool) -> correction_pb2.RepriceProgress:
    told = correction_pb2.RepriceProgress(
        done=step.done_seq,
        through=step.through_seq,
        kept=step.kept,
        unratable=step.unratable,
        resumed=step.resumed,
    )
    if with_models:
        told.models.extend(map(_change, step.models))
    if step.finished is not None:
        done = step.finished
        told.finished.CopyFrom(
            correction_pb2.Correction(
                id=done.id,
                adjusted=done.adjusted,
                raised_usd=usd_text(done.up_nano),
                lowered_usd=usd_text(done.down_nano),
            )
        )
    return told


def _change(change: ModelChange) -> correction_pb2.ModelChange:
    return correction_pb2.ModelChange(
        provider=change.provider,
        model=change.model,
        events=change.events,
        changed=change.changed,
        before_usd=usd_text(change.before_nano),
        after_usd=usd_text(change.after_nano),
        newly_priced=change.newly_priced,
        newly_unpriced=change.newly_unpriced,
        unpriced=change.unpriced,
        unrated=change.unrated,
    )
