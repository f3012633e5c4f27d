"""The usage log: single records, by what they are and when they were made; every call blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from costd.domain.access import Caller
from costd.domain.days import Span
from costd.domain.errors import Invalid, NotFound
from costd.store.events import EventPage, EventView, find_event
from costd.store.reader import Readers
from costd.store.sums import Wanted
from costd.store.usage_log import find_events

MAX_PAGE = 100
DEFAULT_PAGE = 20
_MAX_CURSOR_DIGITS = 18


class UsageLog:
    """Lists the records of the caller's organization; every method needs the role read."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def page(
        self, caller: Caller, span: Span, filters: Mapping[str, Sequence[str]], cursor: str, limit: int | None
    ) -> EventPage:
        """Records made in `span` whose dimensions have one of these values each, newest first by receipt.

        `cursor` is the next_cursor of an earlier page, "" for the first; `limit` is DEFAULT_PAGE where it is None.
        """
        caller.require("read")
        limit = DEFAULT_PAGE if limit is None else limit
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_CURSOR_DIGITS):
            raise Invalid("cursor", "must be the nextCursor of an earlier answer")
        with self._readers.snapshot() as connection:
            wanted = Wanted(caller.org_id, filters)
            return find_events(connection, wanted, span, int(cursor) if cursor else None, limit)

    def one(self, caller: Caller, wanted: str) -> EventView:
        """The record with this id, its own or the caller's; NotFound where there is none or it is no longer kept."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            found = find_event(connection, caller.org_id, wanted)
        if found is None:
            raise NotFound("there is no record with this id, or it is no longer kept")
        return found
