"""The quarantine's part of AdminService, at a hub and at its sources."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.domain.money import usd_text
from costd.services.quarantine import Quarantine
from costd.store.quarantine import Listed
from costd.v1 import source_pb2 as pb


class QuarantineService:
    """Answers the calls of costd.v1.AdminService that are about what was set aside."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    def list_quarantine(self, caller: Caller, request: pb.ListQuarantineRequest) -> pb.ListQuarantineResponse:
        """What is held; settled entries too where asked for."""
        return pb.ListQuarantineResponse(entries=map(_message, self._quarantine.list(caller, settled=request.all)))

    def settle_quarantine(self, caller: Caller, request: pb.SettleQuarantineRequest) -> pb.Quarantined:
        """Try again, or give up; returns once that is on disk."""
        return _message(self._quarantine.settle(caller, request.id, request.action))


def _message(listed: Listed) -> pb.Quarantined:
    held = listed.held
    return pb.Quarantined(
        id=held.id,
        source=listed.source,
        first=held.first_seq,
        last=held.last_seq,
        records=held.records,
        cost_usd=usd_text(held.cost_nano),
        reason=held.reason,
        at_ms=held.at_ms,
        state=held.state,
        settled_ms=held.settled_ms or 0,
        ordered=held.ordered,
    )
