"""Several records in one request: each has its own outcome, and all of them share commits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec

from costd.domain.errors import Invalid, Refused, Retryable
from costd.services.metering import Receipt, reason_of
from costd.wire import decoding
from costd.wire.web.answers import money_or_null
from costd.wire.web.failures import error_body, http_status
from costd.wire.web.route import DOOR, Call
from costd.wire.web.usage import FIELD_NAMES, usage_of
from costd.wire.web.usage_structs import RecordBody, RecordResult, RecordsAnswer

#: Records taken at a stretch before other requests get their turn: about 5 ms of work.
_TURN = 128
_PATH = "/v1/usage/records"
_array = msgspec.json.Decoder(list[msgspec.Raw])
_record = decoding.decoder(RecordBody)

#: What became of one record so far: on its way to disk, or refused.
_Sent = Awaitable[Receipt] | Refused


async def records(call: Call) -> object:
    """Record every one of a JSON array's or JSON lines' records that can be; answered when all of those are on disk."""
    # Everything is handed to the writer before anything is awaited, so that it lands in as few commits as possible.
    sent = []
    call.handed_over = True
    for index, raw in enumerate(_split(call.raw)):
        sent.append(_submit(call, raw, index))
        if index % _TURN == _TURN - 1:
            await asyncio.sleep(0)
    outcomes = [await _outcome(one) for one in sent]
    refusals = [one for one in outcomes if isinstance(one, Refused)]
    if refusals and len(refusals) == len(outcomes) and all(isinstance(one, Retryable) for one in refusals):
        # Nothing was recorded and everything may be tried again: say so where every client looks first.
        raise refusals[0]
    results = [_result(index, outcome, call.request_id) for index, outcome in enumerate(outcomes)]
    return RecordsAnswer(
        results=results,
        recorded=sum(isinstance(one, Receipt) and not one.duplicate for one in outcomes),
        duplicates=sum(isinstance(one, Receipt) and one.duplicate for one in outcomes),
        refused=len(refusals),
    )


def _split(raw: bytes) -> list[bytes] | list[msgspec.Raw]:
    """The records as they were sent: the items of an array, or the lines that are not blank."""
    text = raw.strip()
    if text.startswith(b"["):
        return decoding.decode(_array, text)
    lines = [line for line in text.split(b"\n") if not line.isspace() and line]
    if not lines:
        raise Invalid("", "the body is empty; send a JSON array of records, or one record on each line")
    return lines


def _submit(call: Call, raw: bytes | msgspec.Raw, index: int) -> _Sent:
    try:
        one = decoding.decode(_record, raw)
        # The key stands for the whole request; each record without an id of its own gets one from it.
        key = f"{call.idempotency_key}:{index}" if call.idempotency_key and not one.request_id else ""
        usage = usage_of(one, call.caller, key)
    except Refused as refusal:
        call.services.metrics.rejected(DOOR, reason_of(refusal))
        return refusal
    try:
        return call.services.metering.record(call.caller, usage, DOOR)
    except Refused as refusal:
        return refusal


async def _outcome(sent: _Sent) -> Receipt | Refused:
    if isinstance(sent, Refused):
        return sent
    try:
        return await sent
    except Refused as refusal:
        return refusal


def _result(index: int, outcome: Receipt | Refused, request_id: str) -> RecordResult:
    if isinstance(outcome, Refused):
        error = error_body(outcome, _PATH, FIELD_NAMES, request_id)
        return RecordResult(index=index, success=False, status=http_status(outcome), error=error)
    return RecordResult(
        index=index,
        success=True,
        event_id=outcome.event_id,
        cost_usd=money_or_null(outcome.cost_nano),
        request_id=outcome.request_id or None,
        duplicate=outcome.duplicate,
        warnings=outcome.warnings,
    )
