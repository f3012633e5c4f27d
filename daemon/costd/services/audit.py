"""The audit trail, as the admins of an organization read it."""

from __future__ import annotations

from typing import NamedTuple

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.store.audit import AuditLine, find_audit
from costd.store.orgs import org_name
from costd.store.reader import Readers

MAX_PAGE = 100
DEFAULT_PAGE = 20
_MAX_CURSOR_DIGITS = 18


class AuditPage(NamedTuple):
    """Some lines, newest first, the name of their organization, and where the next page begins; "" at the end."""

    lines: list[AuditLine]
    organization: str
    next_cursor: str


class AuditTrail:
    """Who did what: each change wrote its line itself, in its own transaction."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def page(self, caller: Caller, cursor: str = "", limit: int | None = None) -> AuditPage:
        """Lines of the caller's organization, newest first. Needs admin, and reads the ledger.

        `cursor` is the next_cursor of an earlier page, "" for the first; `limit` is DEFAULT_PAGE where it is None.
        """
        caller.require("admin")
        limit = DEFAULT_PAGE if limit is None else limit
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_CURSOR_DIGITS):
            raise Invalid("cursor", "must be the next cursor of an earlier answer")
        with self._readers.snapshot() as connection:
            found = find_audit(connection, caller.org_id, int(cursor) if cursor else None, limit + 1)
            organization = org_name(connection, caller.org_id)
        lines = found[:limit]
        return AuditPage(lines, organization, str(lines[-1].id) if len(found) > limit else "")
