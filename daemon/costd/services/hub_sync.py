"""Sync at a hub: each source is told of its organizations' keys, catalog and prices as they change, and tells back.

One thread looks at the versions of all that may change; where one has moved it wakes the streams, each of which then
reads what is news to its own source.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from costd import __version__
from costd.domain.access import Caller
from costd.domain.errors import Invalid, Refused, Unauthenticated, Unavailable
from costd.domain.synced import (
    News,
    Outcome,
    Standing,
    SyncedBudget,
    SyncedEndpoint,
    SyncedItem,
    SyncedKey,
    SyncedPrices,
    SyncedRule,
    SyncedTable,
    Upward,
    Versions,
)
from costd.services.access import Access
from costd.services.budgets import Budgets
from costd.services.health import Health
from costd.services.prices import Prices
from costd.services.proxy_endpoints import ProxyEndpoints
from costd.services.sources import Sources
from costd.store import synced_news
from costd.store.commit import Change, Commit
from costd.store.hub_state import HubState, read_hub_state, renew_hub_epoch
from costd.store.keys import StoredKey, learn_revocations
from costd.store.reader import Readers
from costd.store.sources import KnownSource

if TYPE_CHECKING:
    from costd.store.writer import Writer

#: How often the versions are looked at, and how often at most sources are told of the catalog, in which every new user
#: of theirs is a change: a change is at a source well within the 5 s that are promised.
LOOK_S = 0.2
CATALOG_EVERY_S = 1.0
#: A source hears from its hub at least this often, so that it knows how old its copy is.
HEARTBEAT_S = 20.0
#: What one message holds at most; a source stores each in one transaction, which its records wait for.
MAX_KEYS = 1_000
MAX_ITEMS = 2_000
_WRITE_TIMEOUT_S = 30.0
_UNSEEN = (-1, 0, 0, 0)
#: Behind every id there is.
_LAST = "\x7f"

_Made = TypeVar("_Made")

_log = logging.getLogger(__name__)


class Current(NamedTuple):
    """What the hub has: its epoch, and how new everything is."""

    epoch: bytes
    versions: Versions
    #: Of the proxy endpoints, as they are in this process's memory: every stream is told of them once at least.
    endpoints: int = 0


class HubSync:
    """Keeps the sources of a hub up to date."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        access: Access,
        prices: Prices,
        budgets: Budgets,
        endpoints: ProxyEndpoints,
        sources: Sources,
        health: Health,
        *,
        orders: Mapping[str, Callable[[str, str], object]],
    ) -> None:
        """`orders` carry out what sources want done with what was set aside, by the names of these orders.

        They take the id of it, and the key of whoever wants it done.
        """
        self.writer = writer
        self.readers = readers
        self.clock = access.clock
        self.access = access
        self.prices = prices
        self.budgets = budgets
        self.endpoints = endpoints
        self.sources = sources
        self.orders = orders
        self._health = health
        self._streams: set[SourceStream] = set()
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._seen = _UNSEEN
        self._next_catalog_s = 0.0
        self.current = Current(b"", Versions())
        self.is_stopping = False
        self._epoch_watcher: Callable[[bytes], object] = bool
        self.look()
        self._thread = threading.Thread(target=self._watch, name="costd-sync", daemon=True)

    def start(self) -> None:
        """Begin to look for changes, until the daemon stops."""
        self._thread.start()

    def watch_epoch(self, callback: Callable[[bytes], object]) -> None:
        """Call `callback` with the hub's epoch, now and whenever it is another: this ledger went back in time."""
        self._epoch_watcher = callback
        callback(self.current.epoch)

    def follow(self, caller: Caller, upward: Iterator[Upward]) -> Iterator[News]:
        """Tell a source what is news to it, for as long as it listens; raises what ends that.

        Raises Forbidden where the caller is no source, Invalid where the first message does not come.
        """
        source = self.sources.of(caller)
        first = next(upward, None)
        if first is None or first.standing is None:
            raise Invalid("", "the first message of a stream must say where the source stands")
        stream = SourceStream(self, source, caller)
        stream.meet(first.standing, first)
        with self._lock:
            self._streams.add(stream)
        listening = threading.Thread(target=stream.listen, args=(upward,), name="costd-sync-read", daemon=True)
        listening.start()
        try:
            yield from stream.news()
        finally:
            with self._lock:
                self._streams.discard(stream)

    def look(self) -> None:
        """See how new everything is, and wake the streams where something is newer."""
        with self._looking:
            seen = self.writer.commits, self.prices.state.revision, self.budgets.version, self.endpoints.version
            if seen == self._seen:
                return
            with self.readers.snapshot() as connection:
                state = read_hub_state(connection)
                assert state is not None, "a hub has its state from its first start"
                # What is told of prices, budgets and endpoints is what is in memory: it follows the disk by a moment.
                versions = synced_news.read_versions(connection, state)._replace(prices=seen[1], budgets=seen[2])
            self._seen = seen
            found = self._paced(Current(state.epoch, versions, seen[3]))
            if found == self.current:
                return
            self.current = found
        self._epoch_watcher(found.epoch)
        self.wake_all()

    def _paced(self, found: Current) -> Current:
        """What was found, its catalog as old as before where that has just changed."""
        before, now_s = self.current, self.clock.monotonic_s()
        if found.epoch != before.epoch or found.versions.catalog == before.versions.catalog:
            return found
        if now_s < self._next_catalog_s:
            self._seen = _UNSEEN  # so that it is looked at again
            return found._replace(versions=found.versions._replace(catalog=before.versions.catalog))
        self._next_catalog_s = now_s + CATALOG_EVERY_S
        return found

    def wake_all(self) -> None:
        """Have every stream look for news."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.wake()

    def _watch(self) -> None:
        while not self._health.stops_within(LOOK_S):
            try:
                self.look()
            except Refused as refusal:
                _log.warning("sources are not told of changes for now: %s", refusal.message)
            except Exception:
                _log.exception("looking for changes to tell sources of failed; it is tried again")
        self.is_stopping = True
        self.wake_all()


class SourceStream:
    """One source's stream: what it was told, and what it tells."""

    def __init__(self, hub: HubSync, source: KnownSource, caller: Caller) -> None:
        self._hub = hub
        self._source = source
        self._caller = caller
        self._orgs = dict(source.orgs)
        self._told = Current(b"", Versions())
        self._is_whole = True
        #: Digests of the tables that the source has.
        self._tables: set[bytes] = set()
        self._is_first = True
        self._awake = threading.Event()
        self._ended = False
        self._error: Exception | None = None

    def wake(self) -> None:
        """Have it look for news."""
        self._awake.set()

    # -- what the source tells -----------------------------------------------------------------------------------------

    def meet(self, standing: Standing, first: Upward) -> None:
        """Take down where the source stands, after what it knows of revoked keys: those must not come to life here."""
        self.hear(first)
        current: HubState = self._write(lambda commit: self._met(commit, standing))
        self._hub.look()
        self._tables = {standing.price_list}
        self._is_whole = standing.hub_epoch != current.epoch
        self._told = Current(current.epoch, Versions() if self._is_whole else standing.versions)

    def _met(self, commit: Commit, standing: Standing) -> HubState:
        state, versions = synced_news.meet_source(commit)
        is_ahead = any(theirs > ours for theirs, ours in zip(standing.versions, versions, strict=True))
        if standing.hub_epoch == state.epoch and is_ahead:
            _log.warning(
                "this ledger lacks what it had told a source: it was restored from a backup; every source is told all",
                extra={"source": self._source.name},
            )
            return renew_hub_epoch(commit)
        return state

    def listen(self, upward: Iterator[Upward]) -> None:
        """Take what the source tells until it ends; runs in a thread of its own."""
        try:
            while (message := self._next(upward)) is not None:
                self.hear(message)
        except Exception as error:
            self._error = error
        self._ended = True
        self.wake()

    def _next(self, upward: Iterator[Upward]) -> Upward | None:
        try:
            return next(upward, None)
        except Refused:
            raise
        except Exception as error:  # the call is over: grpcio's iterator says so in several ways
            _log.debug("a source's stream ended: %s", type(error).__name__)
            return None

    def hear(self, message: Upward) -> None:
        """Take down one message."""
        self._hub.access.note_uses(self._orgs, message.uses)
        if message.revocations:
            self._learn(message.revocations)
        if message.clock_skew_ms:
            self._write(lambda commit: synced_news.note_skew(commit, self._source.id, message.clock_skew_ms))
        for quarantine_id, order in message.orders.items():
            self._carry_out(quarantine_id, order)

    def _learn(self, revocations: Mapping[str, int]) -> None:
        def apply(commit: Commit) -> list[StoredKey]:
            return learn_revocations(commit, self._orgs, revocations, self._source.key_id)

        def after(keys: list[StoredKey]) -> None:
            for key in keys:
                self._hub.access.take_over(key)

        if self._write(apply, after):
            _log.warning("a source knew of keys that are revoked", extra={"source": self._source.name})

    def _carry_out(self, quarantine_id: str, order: str) -> None:
        """Do what the source's operator wants; the source is told what came of it, also where nothing did."""
        with self._hub.readers.snapshot() as connection:
            if not synced_news.is_of_source(connection, self._source.id, quarantine_id):
                return
        try:
            if (carry_out := self._hub.orders.get(order)) is None:
                raise Invalid("orders", f'"{order[:32]}" is none that this hub knows')
            carry_out(quarantine_id, self._source.key_id)
        except Unavailable:
            raise
        except Refused as refusal:
            _log.warning("a source's order was not carried out: %s", refusal.message, extra={"order": order[:32]})
            self._write(lambda commit: synced_news.tell_again(commit, quarantine_id))

    def _write(self, apply: Callable[[Commit], _Made], after: Callable[[Any], None] | None = None) -> _Made:
        """Write in the turn of what must go on while callers are turned away: each stream does one thing at a time."""
        made: _Made = self._hub.writer.submit(Change(apply, after, bounded=False)).wait(_WRITE_TIMEOUT_S)
        return made

    # -- what it is told -----------------------------------------------------------------------------------------------

    def news(self) -> Iterator[News]:
        """What is news to the source as it comes, and a sign of life where nothing is."""
        clock = self._hub.clock
        next_sign_s = 0.0
        while self._goes_on():
            self._awake.clear()
            for news in self._round(self._hub.current):
                if not news.is_empty or clock.monotonic_s() >= next_sign_s:
                    next_sign_s = clock.monotonic_s() + HEARTBEAT_S
                    yield news._replace(time_ms=clock.now_ms())
            self._awake.wait(max(0.0, next_sign_s - clock.monotonic_s()))

    def _goes_on(self) -> bool:
        """Whether the source still listens; raises what else ends the stream."""
        if self._error is not None:
            raise self._error
        if self._hub.is_stopping:
            raise Unavailable("this hub is stopping")
        self._hub.sources.of(self._caller)
        if not self._hub.access.is_in_force(self._caller.key_id):
            raise Unauthenticated("the key of this source was revoked")
        return not self._ended

    def _round(self, current: Current) -> Iterator[News]:
        """Everything that is news as of `current`; the last message has its versions."""
        if current.epoch != self._told.epoch:
            self._is_whole = True
            self._told = Current(current.epoch, Versions())
        names = [name for _, name in self._source.orgs]
        held = News(current.epoch, 0, self._source.name, names, current.versions, __version__, all_keys=self._is_whole)
        for page in self._pages(current.versions):
            if page.items and not held.catalog:
                held = held._replace(catalog=page.items)
            elif page.keys or page.items:
                if held.keys or held.catalog:
                    yield held._replace(more=True)
                held = held._replace(keys=page.keys, catalog=page.items)
        prices = self._prices(current.versions.prices)
        held = held._replace(
            prices=prices,
            quarantine=self._outcomes(current.versions.quarantine),
            budgets=self._budgets(current.versions.budgets),
            endpoints=self._endpoints(current.endpoints),
        )
        if prices is not None:
            held = held._replace(versions=held.versions._replace(prices=prices.revision))
        self._told = Current(current.epoch, held.versions, current.endpoints)
        self._is_whole = False
        yield held

    def _pages(self, versions: Versions) -> Iterator[_Page]:
        """Keys and catalog, message by message."""
        told, is_whole = self._told.versions, self._is_whole
        if is_whole or versions.keys != told.keys:
            after: tuple[int, str] | None = (synced_news.ALL if is_whole else told.keys, _LAST)
            while after is not None:
                with self._hub.readers.snapshot() as connection:
                    keys, after = synced_news.keys_after(connection, self._orgs, after, MAX_KEYS)
                yield _Page(keys, [])
        if is_whole or versions.catalog != told.catalog:
            behind: int | None = synced_news.ALL if is_whole else told.catalog
            while behind is not None:
                with self._hub.readers.snapshot() as connection:
                    items, behind = synced_news.items_after(connection, self._orgs, behind, MAX_ITEMS)
                yield _Page([], items)

    def _prices(self, revision: int) -> SyncedPrices | None:
        """The prices for the source, None where it has them."""
        state = self._hub.prices.state
        is_known = revision == self._told.versions.prices and not self._is_whole
        if is_known and (not self._is_first or self._tables == {state.list.digest}):
            self._is_first = False
            return None
        self._is_first = False
        held = [state.list] if state.file is None else [state.list, state.file]
        rules = [
            SyncedRule(None if rule.org_id is None else self._orgs[rule.org_id], rule)
            for rule in state.rules
            if rule.org_id is None or rule.org_id in self._orgs
        ]
        tables = [
            SyncedTable(
                table.kind, table.version, table.name, table.digest, b"" if table.digest in self._tables else table.body
            )
            for table in held
        ]
        self._tables = {table.digest for table in held}
        return SyncedPrices(state.revision, rules, tables)

    def _budgets(self, version: int) -> list[SyncedBudget] | None:
        """The budgets of the source's organizations, None where it has them."""
        if version == self._told.versions.budgets and not self._is_whole:
            return None
        return [
            SyncedBudget(held.organization, held.budget, held.created_ms, held.updated_ms)
            for held in self._hub.budgets.of_orgs(self._orgs)
        ]

    def _endpoints(self, version: int) -> list[SyncedEndpoint] | None:
        """The proxy endpoints of the source's organizations, None where it has them."""
        return None if version == self._told.endpoints else self._hub.endpoints.of_orgs(self._orgs)

    def _outcomes(self, version: int) -> dict[str, Outcome]:
        told = 0 if self._is_whole else self._told.versions.quarantine
        if version == told:
            return {}
        with self._hub.readers.snapshot() as connection:
            return synced_news.outcomes_after(connection, self._source.id, told)


class _Page(NamedTuple):
    """What one message holds of keys or of the catalog."""

    keys: list[SyncedKey]
    items: list[SyncedItem]
