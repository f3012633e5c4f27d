"""HubService.Lease: slices of budgets for sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Refused
from costd.v1 import lease_pb2 as pb
from costd.wire import lease_messages

if TYPE_CHECKING:
    from costd.services.services import Services


class LeaseService:
    """Answers costd.v1.HubService/Lease."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def lease(self, caller: Caller, request: pb.LeaseRequest) -> pb.LeaseResponse:
        """Grant, take back, or be told of slices."""
        caller.require("source")
        lending, sources = self._services.lending, self._services.sources
        if lending is None or sources is None:
            raise Refused("this daemon is a sidecar, not a hub; `costd hub` starts one")
        source = sources.of(caller)
        return lease_messages.answer_message(lending.lease(source, lease_messages.read_request(request)))
