"""Bodies of proxied calls, where their endpoint stores them; for admins of the organization alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.proxy_endpoint import ProxyEndpoint
from costd.store.commit import Change
from costd.store.proxied_bodies import Bodies, find_bodies, insert_bodies
from costd.store.reader import Readers
from costd.store.ticket import Ticket

if TYPE_CHECKING:
    from costd.store.writer import Writer

DAY_MS = 86_400_000


class ProxiedBodies:
    """Keeps and shows bodies."""

    def __init__(self, writer: Writer, readers: Readers, clock: Clock) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock

    def keep(self, endpoint: ProxyEndpoint, event_id: str, bodies: Bodies) -> Ticket[None]:
        """Keep the bodies of a record for the endpoint's time."""
        expires_ms = self._clock.now_ms() + endpoint.retention_days * DAY_MS
        return self._writer.submit(
            Change(
                lambda commit: insert_bodies(commit, endpoint.org_id, event_id, bodies, expires_ms),
                control=False,
            )
        )

    def of(self, caller: Caller, event_id: str) -> Bodies | None:
        """The bodies of a record; None where none are kept, or the caller is no admin. Blocks."""
        if not caller.may("admin"):
            return None
        with self._readers.snapshot() as connection:
            return find_bodies(connection, caller.org_id, event_id)
