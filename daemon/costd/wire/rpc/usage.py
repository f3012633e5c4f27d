"""UsageService: preflights and records."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.domain.errors import Refused
from costd.metrics import Metrics
from costd.services.admission import Admission
from costd.services.metering import Metering, reason_of
from costd.v1 import usage_pb2
from costd.wire.rpc import convert

DOOR = "grpc"

#: Commits take milliseconds, seconds on a disk in trouble. Past this the caller is told to ask again: with a
#: request id that is safe whatever became of the record.
WRITE_TIMEOUT_S = 30.0


class UsageService:
    """Answers costd.v1.UsageService."""

    def __init__(self, admission: Admission, metering: Metering, metrics: Metrics) -> None:
        self._admission = admission
        self._metering = metering
        self._metrics = metrics

    def preflight(self, caller: Caller, request: usage_pb2.PreflightRequest) -> usage_pb2.PreflightResponse:
        """Price the estimate and decide; never waits."""
        try:
            return convert.decision(self._admission.preflight(caller, convert.estimate(request)))
        except Refused as refusal:
            raise convert.named_as_here(refusal) from None

    def record(self, caller: Caller, request: usage_pb2.RecordRequest) -> usage_pb2.RecordResponse:
        """Record the usage; returns once it is on disk."""
        try:
            usage = convert.usage(request)
        except Refused as refusal:
            self.refused(refusal)
            raise
        try:
            return convert.receipt(self._metering.record(caller, usage, DOOR).wait(WRITE_TIMEOUT_S))
        except Refused as refusal:
            raise convert.named_as_here(refusal) from None

    def refused(self, refusal: Refused) -> None:
        """Count a record that was refused before it came to metering, which counts those it refuses."""
        self._metrics.rejected(DOOR, reason_of(refusal))
