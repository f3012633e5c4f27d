"""Proxy endpoints: made, listed and removed, and in memory for the calls that come by them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.ids import public_id
from costd.domain.proxy_endpoint import (
    DEFAULT_BODY_BYTES,
    DEFAULT_RETENTION_DAYS,
    ProxyEndpoint,
    check_endpoint,
    slug_of,
)
from costd.domain.synced import SyncedEndpoint
from costd.store import proxy_endpoints as store
from costd.store.commit import Change
from costd.store.reader import Readers
from costd.store.ticket import Ticket

if TYPE_CHECKING:
    from costd.store.writer import Writer

MAX_PAGE = 100
DEFAULT_PAGE = 20
#: Of hexadecimal digits: a slug that whoever can reach the daemon cannot guess.
_SUFFIX_BYTES = 8


class NewEndpoint(NamedTuple):
    """An endpoint to be made."""

    name: str
    store_bodies: bool = False
    body_bytes: int = DEFAULT_BODY_BYTES
    retention_days: int = DEFAULT_RETENTION_DAYS


class EndpointPage(NamedTuple):
    """Some endpoints, newest first, and where the next page begins; "" where this was the last."""

    endpoints: list[ProxyEndpoint]
    next_cursor: str


class ProxyEndpoints:
    """The endpoints in force."""

    def __init__(self, writer: Writer, readers: Readers, clock: Clock, *, is_exposed: bool) -> None:
        """`is_exposed`: HTTP listens beyond loopback, so that slugs must not be guessed."""
        self._writer = writer
        self._clock = clock
        self._is_exposed = is_exposed
        #: Counts changes, for whoever tells of them.
        self.version = 0
        with readers.snapshot() as connection:
            self.use(store.load_endpoints(connection))

    def use(self, every: Sequence[ProxyEndpoint]) -> None:
        """These are all there are, as they are on disk."""
        self._by_slug = {held.slug: held for held in every if held.removed_ms is None}
        self._ids = {held.id for held in every}
        self.version += 1

    def of_orgs(self, orgs: Mapping[int, str]) -> list[SyncedEndpoint]:
        """The endpoints in force of these organizations ({number: name})."""
        held = self._by_slug.values()
        return [SyncedEndpoint(orgs[each.org_id], each) for each in held if each.org_id in orgs]

    def find(self, slug: str) -> ProxyEndpoint | None:
        """The endpoint of a slug."""
        return self._by_slug.get(slug)

    def was_one(self, key_id: str) -> bool:
        """Whether what a record has for a key is an endpoint, in force or not."""
        return key_id in self._ids

    def create(self, caller: Caller, new: NewEndpoint) -> Ticket[ProxyEndpoint]:
        """Make an endpoint; in force once the ticket resolves. Raises Forbidden, Invalid; Conflict from the ticket."""
        caller.require("admin")
        check_endpoint(new.name, new.body_bytes, new.retention_days)
        now_ms = self._clock.now_ms()
        suffix = secrets.token_hex(_SUFFIX_BYTES) if self._is_exposed else ""
        made = ProxyEndpoint(
            public_id(now_ms),
            caller.org_id,
            new.name,
            slug_of(new.name, suffix),
            new.store_bodies,
            new.body_bytes,
            new.retention_days,
            now_ms,
        )
        return self._writer.submit(
            Change(lambda commit: store.insert_endpoint(commit, made, caller.key_id), self._made, bounded=False)
        )

    def remove(self, caller: Caller, wanted: str) -> Ticket[ProxyEndpoint]:
        """Remove an endpoint, by its id or slug; nobody gets in by it once the ticket resolves."""
        caller.require("admin")
        return self._writer.submit(
            Change(
                lambda commit: store.remove_endpoint(commit, caller.org_id, wanted, caller.key_id),
                self._removed,
                bounded=False,
            )
        )

    def page(self, caller: Caller, cursor: str = "", limit: int | None = None) -> EndpointPage:
        """The organization's endpoints, newest first; `cursor` is the next_cursor of an earlier page."""
        caller.require("read")
        limit = DEFAULT_PAGE if limit is None else limit
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        own = [held for held in list(self._by_slug.values()) if held.org_id == caller.org_id]
        own.sort(key=lambda held: (held.created_ms, held.id), reverse=True)
        if cursor:
            own = [held for held in own if held.id < cursor]
        found = own[:limit]
        return EndpointPage(found, found[-1].id if len(own) > limit else "")

    def _made(self, made: ProxyEndpoint) -> None:
        self._by_slug = {**self._by_slug, made.slug: made}
        self._ids.add(made.id)
        self.version += 1

    def _removed(self, removed: ProxyEndpoint) -> None:
        self._by_slug = {slug: held for slug, held in self._by_slug.items() if slug != removed.slug}
        self.version += 1
