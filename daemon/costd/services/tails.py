"""Tails: records as they come, read beside the writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Invalid, Unavailable
from costd.services.health import Health
from costd.services.reports import check_dimensions
from costd.store import tails
from costd.store.reader import Readers
from costd.store.sums import Wanted
from costd.store.tails import Arrivals

if TYPE_CHECKING:
    from costd.store.writer import Writer

#: How often it is looked whether there was a commit; from memory.
POLL_S = 0.1
#: At least every so many looks there is an answer, empty where nothing came: whoever has left is noticed by it.
MAX_QUIET_LOOKS = 5
MAX_LAST = 1_000
_MAX_SEQ = 1 << 60


class Tails:
    """Follows ledgers; every method needs the role read."""

    def __init__(self, readers: Readers, writer: Writer, health: Health) -> None:
        self._readers = readers
        self._writer = writer
        self._health = health

    def follow(self, caller: Caller, filters: Mapping[str, str], last: int = 0, after: int = 0) -> Iterator[Arrivals]:
        """The newest `last` records or those after the number `after`, and then all that come, without end.

        Something comes every MAX_QUIET_LOOKS looks. Raises Invalid, Forbidden, and Unavailable when the daemon is to
        stop.
        """
        caller.require("read")
        check_dimensions(filters, "filters")
        if not 0 <= last <= MAX_LAST:
            raise Invalid("last", f"must be between 0 and {MAX_LAST}")
        if not 0 <= after <= _MAX_SEQ:
            raise Invalid("after", "must be the position of an earlier answer")
        if last and after:
            raise Invalid("last", "and after were both sent; send one of them")
        wanted = Wanted(caller.org_id, {name: (value,) for name, value in filters.items()})
        commits = self._writer.commits
        first = self._begin(wanted, last, after)
        yield first
        # Whatever was committed while it was begun is looked for once more.
        yield from self._on(wanted, first.position, commits - bool(after))

    def _begin(self, wanted: Wanted, last: int, after: int) -> Arrivals:
        with self._readers.snapshot() as connection:
            if last:
                return tails.read_newest(connection, wanted, last)
            newest = tails.last_position(connection)
        # A ledger that was put back to an earlier state has given out fewer numbers than it had.
        return Arrivals((), min(after, newest) if after else newest, more=False)

    def _on(self, wanted: Wanted, position: int, seen: int) -> Iterator[Arrivals]:
        """All after `position`, as of when there had been `seen` commits."""
        quiet = 0
        while True:
            commits = self._writer.commits
            arrivals = Arrivals((), position, more=False)
            if commits != seen:
                with self._readers.snapshot() as connection:
                    arrivals = tails.read_arrivals(connection, wanted, position)
                position = arrivals.position
                seen = seen if arrivals.more else commits
            quiet = 0 if arrivals.events else quiet + 1
            if arrivals.events or quiet >= MAX_QUIET_LOOKS:
                yield arrivals
                quiet = 0
            if self._health.stops_within(0 if arrivals.more else POLL_S):
                raise Unavailable("the daemon is stopping; go on when it is back")
