"""Between the messages of batches and the domain's values."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from costd.domain.batch import MAX_RECORDS, Batch
from costd.domain.errors import Invalid, Refused
from costd.domain.units import Quantity
from costd.domain.usage import FINGERPRINT_BYTES, SUCCESS, Usage, check_string
from costd.services.batching import BatchReceipt
from costd.services.row_build import Rows
from costd.store.batches import ACCEPTED, CONFLICT, DUPLICATE, FORBIDDEN, INVALID
from costd.v1 import batch_pb2, usage_pb2
from costd.wire.rpc import convert

_UUID_BYTES = 16
_NO_ID = bytes(_UUID_BYTES)
#: Dictionary entries remembered by their bytes: reading one costs ten times as much as finding it again.
MAX_REMEMBERED = 20_000

OUTCOMES = {
    ACCEPTED: batch_pb2.RECORD_OUTCOME_ACCEPTED,
    DUPLICATE: batch_pb2.RECORD_OUTCOME_DUPLICATE,
    CONFLICT: batch_pb2.RECORD_OUTCOME_CONFLICT,
    INVALID: batch_pb2.RECORD_OUTCOME_INVALID,
    FORBIDDEN: batch_pb2.RECORD_OUTCOME_FORBIDDEN,
}


class BatchReader:
    """Reads batches; remembers the dictionary entries it has seen."""

    def __init__(self) -> None:
        self._series: dict[bytes, Usage] = {}

    def read(self, request: usage_pb2.RecordBatchRequest) -> Batch | Rows:
        """The batch, by columns or as rows; raises Invalid where it is both or neither."""
        check_string(request.batch_id, "batch_id")
        by_columns = request.HasField("columns")
        if by_columns and request.rows:
            raise Invalid("rows", "and columns were both sent; send one of them")
        if by_columns:
            return self._columns(request)
        if not request.rows:
            raise Invalid("columns", "or rows are required: the records of the batch")
        if len(request.rows) > MAX_RECORDS:
            raise Invalid("rows", f"has {len(request.rows)} records; a batch has at most {MAX_RECORDS}")
        return Rows(request.batch_id, _fingerprint(request), [_row(row) for row in request.rows], request.history)

    def _columns(self, request: usage_pb2.RecordBatchRequest) -> Batch:
        sent = request.columns
        return Batch(
            batch_id=request.batch_id,
            fingerprint=_fingerprint(request),
            series=[self._usage(entry) for entry in request.series],
            place=list(sent.series),
            at_ms=list(sent.time_ms) or None,
            counts=(
                list(sent.input_tokens) or None,
                list(sent.output_tokens) or None,
                list(sent.cache_read_tokens) or None,
                list(sent.cache_write_tokens) or None,
                list(sent.output_reasoning_tokens) or None,
            ),
            latency_ms=list(sent.latency_ms) or None,
            cost_nano=list(sent.cost_nano_usd) or None,
            request_ids=_request_ids(sent),
            jobs=list(sent.jobs) or None,
            other_units=_other_units(sent),
            history=request.history,
        )

    def _usage(self, entry: usage_pb2.BatchSeries) -> Usage:
        key = entry.SerializeToString()
        usage = self._series.get(key)
        if usage is None:
            if len(self._series) >= MAX_REMEMBERED:
                self._series.clear()
            usage = self._series[key] = _series(entry)
        return usage


def _series(entry: usage_pb2.BatchSeries) -> Usage:
    said = entry.dimensions
    if said.job:
        raise Invalid("series.dimensions.job", "belongs to single records; put it into columns.jobs")
    return Usage(
        said.source_app,
        said.model,
        (),
        said.user,
        said.project,
        said.team,
        said.product,
        "",
        said.provider,
        said.prompt_key,
        said.prompt_version,
        tuple(said.tags),
        said.endpoint,
        entry.status or SUCCESS,
        context=convert.context(entry.price_context),
    )


def _row(row: usage_pb2.RecordRequest) -> Usage | Refused:
    try:
        return convert.usage(row)
    except Refused as refusal:
        return refusal


def _fingerprint(request: usage_pb2.RecordBatchRequest) -> bytes:
    if not request.batch_id:
        return b""
    return blake2b(request.SerializeToString(deterministic=True), digest_size=FINGERPRINT_BYTES).digest()


def _request_ids(sent: usage_pb2.RecordColumns) -> Sequence[str | bytes] | None:
    packed = sent.request_uuids
    if not packed:
        return list(sent.request_ids) or None
    if sent.request_ids:
        raise Invalid("columns.request_uuids", "and request_ids were both sent; send one of them")
    if len(packed) % _UUID_BYTES:
        raise Invalid("columns.request_uuids", f"must be {_UUID_BYTES} bytes for each record")
    return [packed[start : start + _UUID_BYTES] for start in range(0, len(packed), _UUID_BYTES)]


def _other_units(sent: usage_pb2.RecordColumns) -> dict[int, tuple[tuple[str, Quantity], ...]]:
    found: dict[int, tuple[tuple[str, Quantity], ...]] = {}
    for entry in sent.other_units:
        if entry.record in found:
            raise Invalid("columns.other_units", f"names record {entry.record} twice")
        found[entry.record] = convert.units(entry.units, f"columns.other_units[{entry.record}].units")
    return found


def response(receipt: BatchReceipt) -> usage_pb2.RecordBatchResponse:
    """The answer to a batch."""
    stored = receipt.stored
    accepted = stored.outcomes.count(ACCEPTED)
    duplicates = stored.outcomes.count(DUPLICATE)
    return usage_pb2.RecordBatchResponse(
        batch_id=receipt.batch_id,
        duplicate=stored.duplicate,
        outcomes=[OUTCOMES[letter] for letter in stored.outcomes],
        cost_nano_usd=[-1 if cost is None else cost for cost in stored.costs_nano],
        event_ids=b"".join([_NO_ID if each is None else each.to_bytes(16, "big") for each in stored.event_ids]),
        refusals=[
            usage_pb2.RecordRefusal(record=record, field=convert.field_name(field), reason=reason)
            for record, field, reason in stored.refusals
        ],
        accepted=accepted,
        duplicates=duplicates,
        refused=len(stored.outcomes) - accepted - duplicates,
    )
