"""`/api/audit-logs`: who did what."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from costd.services.audit import DEFAULT_PAGE, MAX_PAGE, AuditPage
from costd.store.audit import AuditLine
from costd.wire.web.answers import rfc3339
from costd.wire.web.fields import Text
from costd.wire.web.route import Call, Route


class AuditItem(Struct, frozen=True):
    """One change.

    `user_id` is the id of the key that made it, null where there was none; `org_id` the organization's name.
    """

    id: str
    user_id: str | None
    org_id: str
    action: str
    resource_type: str
    resource_id: str
    metadata: Annotated[str, Meta(description="JSON, as text.")]
    created_at: str


class AuditLogs(Struct, frozen=True, rename="camel"):
    """Changes, newest first."""

    items: list[AuditItem]
    next_cursor: str | None
    has_more: bool


class AuditQuery(Struct, frozen=True):
    """Which page."""

    cursor: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE


def audit_routes() -> list[Route]:
    """The audit trail is read."""
    return [
        Route("GET", "/api/audit-logs", page, "Who did what, newest first", AuditLogs, role="admin", query=AuditQuery),
    ]


async def page(call: Call) -> object:
    """Changes of the organization's, newest first."""
    asked: AuditQuery = call.query
    found: AuditPage = await call.read(call.services.audit.page, call.caller, asked.cursor or "", asked.limit)
    return AuditLogs(
        items=[_item(line, found.organization) for line in found.lines],
        next_cursor=found.next_cursor or None,
        has_more=bool(found.next_cursor),
    )


def _item(line: AuditLine, organization: str) -> AuditItem:
    return AuditItem(
        id=str(line.id),
        user_id=line.actor or None,
        org_id=organization,
        action=line.action,
        resource_type=line.resource_type,
        resource_id=line.resource_id,
        metadata=line.metadata,
        created_at=rfc3339(line.at_ms),
    )
