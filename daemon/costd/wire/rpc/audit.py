"""The audit trail's part of AdminService."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.services.audit import AuditTrail
from costd.store.audit import AuditLine
from costd.v1 import audit_pb2 as pb


class AuditService:
    """Answers the call of costd.v1.AdminService that is about the audit trail."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def list_audit(self, caller: Caller, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
        """Who did what, newest first."""
        page = self._trail.page(caller, request.cursor, request.limit or None)
        return pb.ListAuditResponse(lines=map(_message, page.lines), next_cursor=page.next_cursor)


def _message(line: AuditLine) -> pb.AuditLine:
    return pb.AuditLine(
        id=str(line.id),
        actor=line.actor,
        action=line.action,
        resource_type=line.resource_type,
        resource_id=line.resource_id,
        metadata=line.metadata,
        created_ms=line.at_ms,
    )
