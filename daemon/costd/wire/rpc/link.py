"""The road to the hub in AdminService: how it stands, and a flush."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.link import LinkReport
from costd.services.link import Link
from costd.v1 import source_pb2 as pb

#: How long a flush waits where its caller does not say.
FLUSH_S = 10.0


class LinkService:
    """Answers the calls of costd.v1.AdminService that are about the road to the hub."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def flush(self, caller: Caller, request: pb.FlushRequest) -> pb.FlushResponse:
        """Forward what waits at once; returns when the hub has it, or when the caller has waited for long enough."""
        caller.require("admin")
        if request.timeout_ms < 0:
            raise Invalid("timeout_ms", "must not be negative")
        done = self._link.flush(request.timeout_ms / 1000 or FLUSH_S)
        return pb.FlushResponse(
            flushed=done.flushed,
            watermark=done.report.watermark if done.report else 0,
            unforwarded_records=done.report.unforwarded_records if done.report else 0,
            problem=done.problem,
        )


def link_message(report: LinkReport) -> pb.HubLink:
    """The road as callers read it."""
    return pb.HubLink(
        address=report.address,
        state=report.state,
        connected_ms=report.connected_ms or 0,
        unforwarded_records=report.unforwarded_records,
        oldest_unforwarded_ms=report.oldest_unforwarded_ms or 0,
        last_error=report.last_error,
        last_error_ms=report.last_error_ms or 0,
        source=report.source,
        organization=report.organization,
        hub_version=report.hub_version,
        clock_skew_ms=report.clock_skew_ms,
        watermark=report.watermark,
        heard_ms=report.heard_ms or 0,
        quarantined=report.quarantined,
        lost=report.lost,
        acknowledged_ms=report.acknowledged_ms or 0,
        sealed_bytes=report.sealed_bytes,
    )
