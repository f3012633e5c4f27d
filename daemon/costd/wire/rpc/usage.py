"""UsageService: preflights, records and batches of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from costd.domain.access import Caller
from costd.domain.errors import Refused
from costd.metrics import Metrics
from costd.services.admission import Admission, Decision
from costd.services.batching import Batching, BatchReceipt
from costd.services.metering import Metering, Receipt, reason_of
from costd.services.row_build import Rows
from costd.store.ticket import Ticket
from costd.v1 import usage_pb2
from costd.wire.rpc import batch, convert
from costd.wire.rpc.batch import BatchReader

DOOR = "grpc"

#: Commits take milliseconds, seconds on a disk in trouble. Past this the caller is told to ask again: with a
#: request id that is safe whatever became of the record.
WRITE_TIMEOUT_S = 30.0


class UsageService:
    """Answers costd.v1.UsageService."""

    def __init__(
        self,
        admission: Admission,
        metering: Metering,
        batching: Batching,
        metrics: Metrics,
        now_s: Callable[[], float],
    ) -> None:
        """`now_s` are seconds that never step back."""
        self._now_s = now_s
        self._admission = admission
        self._metering = metering
        self._batching = batching
        self._metrics = metrics
        self._batches = BatchReader()

    def preflight(
        self, caller: Caller, request: usage_pb2.PreflightRequest
    ) -> usage_pb2.PreflightResponse | Callable[[], usage_pb2.PreflightResponse]:
        """Price the estimate, decide and reserve; where something has to happen first, what waits for it."""
        try:
            decided = self._admission.ask(caller, convert.estimate(request))
        except Refused as refusal:
            raise convert.named_as_here(refusal) from None
        return convert.decision(decided) if isinstance(decided, Decision) else lambda: convert.decision(decided())

    def release(self, caller: Caller, request: usage_pb2.ReleaseRequest) -> usage_pb2.ReleaseResponse:
        """Let go of a reservation."""
        return usage_pb2.ReleaseResponse(released=self._admission.release(caller, request.request_id))

    def record(self, caller: Caller, request: usage_pb2.RecordRequest) -> Callable[[], usage_pb2.RecordResponse]:
        """Hand the usage to the writer; what waits until it is on disk."""
        try:
            ticket = self.submit(caller, request)
        except Refused as refusal:
            raise convert.named_as_here(refusal) from None
        return partial(self._receipt, ticket, self._now_s() + WRITE_TIMEOUT_S)

    def _receipt(self, ticket: Ticket[Receipt], until_s: float) -> usage_pb2.RecordResponse:
        try:
            # One thread waits for many of these, one after the other; none of them is to wait longer for that.
            return convert.receipt(ticket.wait(max(0.0, until_s - self._now_s())))
        except Refused as refusal:
            raise convert.named_as_here(refusal) from None

    def record_batch(self, caller: Caller, request: usage_pb2.RecordBatchRequest) -> usage_pb2.RecordBatchResponse:
        """Record a batch; returns once all of it that is valid is on disk."""
        return batch.response(self.submit_batch(caller, request).wait(WRITE_TIMEOUT_S))

    @property
    def has_room(self) -> bool:
        """Whether a record handed over now would be taken."""
        return self._metering.has_room

    def submit(self, caller: Caller, request: usage_pb2.RecordRequest) -> Ticket[Receipt]:
        """Hand a record to the writer."""
        try:
            caller.require("ingest")
            usage = convert.usage(request)
        except Refused as refusal:
            self.refused(refusal)
            raise
        return self._metering.record(caller, usage, DOOR)

    def submit_batch(self, caller: Caller, request: usage_pb2.RecordBatchRequest) -> Ticket[BatchReceipt]:
        """Hand a batch to the writer."""
        try:
            caller.require("ingest")
            said = self._batches.read(request)
        except Refused as refusal:
            self.refused(refusal)
            raise
        if isinstance(said, Rows):
            return self._batching.record_rows(caller, said, DOOR)
        return self._batching.record(caller, said, DOOR)

    def refused(self, refusal: Refused) -> None:
        """Count a record that was refused before it came to metering, which counts those it refuses."""
        self._metrics.rejected(DOOR, reason_of(refusal))
