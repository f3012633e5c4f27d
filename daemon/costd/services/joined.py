"""A sidecar that has joined a hub: the hub's keys, catalog and prices take effect here, and what is known here goes up.

One thread holds a stream to the hub for as long as the daemon runs, however often it breaks. What the hub says is on
disk before it takes effect, and stays in effect while the hub is away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from costd.domain.link import LinkBroken
from costd.domain.proxy_endpoint import FROM_HUB, ProxyEndpoint
from costd.domain.synced import News, SyncedEndpoint, SyncedPrices, SyncedTable, Upward
from costd.services.access import Access
from costd.services.attempts import Attempts
from costd.services.budgets import Budgets
from costd.services.membership import Membership
from costd.services.price_checks import check_synced
from costd.services.prices import Prices
from costd.services.proxy_endpoints import ProxyEndpoints
from costd.services.telling import Telling
from costd.store import synced
from costd.store.budgets import StoredBudget, store_copies
from costd.store.commit import Change, Commit
from costd.store.hub_link import meet_hub, read_link
from costd.store.keys import StoredKey
from costd.store.price_state import PriceState
from costd.store.proxy_endpoints import take_over_endpoints
from costd.store.reader import Readers
from costd.store.synced_prices import store_prices

if TYPE_CHECKING:
    from costd.store.writer import Writer

#: When the hub was last heard of is written down this often.
HEARD_EVERY_MS = 30_000
_WRITE_TIMEOUT_S = 60.0

_log = logging.getLogger(__name__)


class SyncRoad(Protocol):
    """One stream from the hub."""

    def exchange(self, upward: Iterator[Upward]) -> Iterator[News]:
        """Open it, tell the hub what comes from `upward` (asked for in another thread); what the hub tells.

        Raises LinkBroken.
        """

    def is_outdated(self) -> bool:
        """Whether the files that it was opened with have changed since."""

    def close(self) -> None:
        """End it, from any thread."""


class _Copied(NamedTuple):
    """What a message has changed: keys as they are now; all else whole, None where it is the same."""

    keys: list[StoredKey]
    prices: PriceState | None
    budgets: list[StoredBudget] | None
    endpoints: list[ProxyEndpoint] | None


class Joined:
    """Keeps the copy of the hub's state, and tells the hub what is known here."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        access: Access,
        prices: Prices,
        budgets: Budgets,
        endpoints: ProxyEndpoints,
        membership: Membership,
        road: Callable[[], SyncRoad],
        *,
        name: str = "",
    ) -> None:
        """`road` makes a new stream; `name` is the one the hub must know us by, "" for any."""
        self._writer = writer
        self._readers = readers
        self._clock = access.clock
        self._access = access
        self._prices = prices
        self._budgets = budgets
        self._endpoints = endpoints
        self._membership = membership
        self._make_road = road
        self._name = name
        self._road: SyncRoad | None = None
        #: Ids of the hub's keys in the whole state that is being told; None while it is not.
        self._ids: set[str] | None = None
        self._heard_stored_ms = 0
        #: What went wrong last, in words, and when (UTC milliseconds); "" while the hub is connected.
        self.trouble: tuple[str, int | None] = ("", None)
        with readers.snapshot() as connection:
            link = read_link(connection)
        self._heard_ms = None if link is None else link.heard_ms
        self._attempts = Attempts("costd-joined", self._clock, self._travel, self._broke)

    def start(self) -> None:
        """Begin; never waits for the hub."""
        self._attempts.start()

    def stop(self, timeout_s: float) -> None:
        """Stop."""
        self._attempts.end()
        if (road := self._road) is not None:
            road.close()
        self._attempts.join(timeout_s)

    def heard(self) -> int | None:
        """When the hub was last heard of, UTC milliseconds; None if never."""
        return self._heard_ms

    def _broke(self, broken: LinkBroken, pause_s: float) -> None:
        message = str(broken)
        _log.log(
            logging.DEBUG if message == self.trouble[0] else logging.WARNING,
            "keys, catalog and prices of the hub are as they were last heard: %s",
            message,
            extra={"hub": self._membership.address, "again_s": round(pause_s, 1)},
        )
        self.trouble = (message, self._clock.now_ms())

    def _travel(self) -> None:
        """Connect, and take what the hub tells until the road breaks."""
        self._road = road = self._make_road()
        self._ids = None
        telling = Telling(self._readers, self._clock, self._access, self._prices, road)
        try:
            if self._attempts.stopping.is_set():
                return
            for news in road.exchange(telling.messages()):
                self._check_name(news, telling.copy_of)
                telling.heard(news.time_ms - self._clock.now_ms())
                self._take(news)
                telling.answered(news.quarantine)
            raise LinkBroken("the hub has ended the stream")
        except LinkBroken as error:
            raise LinkBroken(telling.broken) if telling.broken else error from None
        finally:
            telling.close()
            road.close()
            self._road = None

    def _check_name(self, news: News, copy_of: str) -> None:
        if self._name and news.source != self._name:
            raise LinkBroken(
                f'the hub knows this key as the source "{news.source}", and this sidecar is to be "{self._name}"; '
                "check its hub.key or its hub.name",
                refused=True,
            )
        if copy_of not in {"", news.source}:
            # News for this source says nothing of what it lacks, which begins with the keys of other organizations.
            self._write(lambda commit: meet_hub(commit, news.source, news.organizations[0]))
            raise LinkBroken(f'this sidecar was "{copy_of}", and is "{news.source}" now', retry_after_s=0)

    # -- what the hub tells --------------------------------------------------------------------------------------------

    def _take(self, news: News) -> None:
        """Take over what the hub says: on disk first, then in memory."""
        self.trouble = ("", None)
        self._heard_ms = now_ms = self._clock.now_ms()
        if not news.is_empty:
            news = self._checked(news)
            self._note_keys(news)
            self._write(lambda commit: self._apply(commit, news), self._use)
            self._membership.join()
            if not news.more:
                self._ids = None
        elif now_ms - self._heard_stored_ms >= HEARD_EVERY_MS:
            self._write(lambda commit: synced.store_heard(commit, now_ms))
        else:
            return
        self._heard_stored_ms = now_ms

    def _write(self, apply: Callable[[Commit], Any], after: Callable[[Any], None] | None = None) -> None:
        self._writer.submit(Change(apply, after, bounded=False)).wait(_WRITE_TIMEOUT_S)

    def _note_keys(self, news: News) -> None:
        if news.all_keys:
            self._ids = {key.id for key in news.keys} | (self._ids or set())

    def _checked(self, news: News) -> News:
        """The news, without what this release cannot price by: a wrong price is worse than that of another list."""
        for reason in news.unread_budgets:
            _log.error("a budget of the hub's cannot be heeded here, and limits nothing here: %s", reason)
        if news.prices is None:
            return news
        sound: list[SyncedTable] = []
        for table in news.prices.tables:
            problem = check_synced(table)
            if problem:
                _log.warning("the hub's price %s is not used here: %s", table.kind, problem)
            else:
                sound.append(table)
        return news._replace(prices=SyncedPrices(news.prices.revision, news.prices.rules, sound))

    def _apply(self, commit: Commit, news: News) -> _Copied:
        orgs = synced.place_orgs(commit, news)
        keys = synced.store_keys(commit, news.keys, orgs)
        synced.store_items(commit, news.catalog, orgs)
        synced.store_outcomes(commit, news.quarantine)
        prices = None
        if news.prices is not None:
            store_prices(commit, news.prices, orgs, self._prices.installed)
            prices = self._prices.read_state(commit)
        copies = None if news.budgets is None else store_copies(commit, _placed(news, orgs))
        endpoints = None
        if news.endpoints is not None:
            endpoints = take_over_endpoints(commit, _endpoints_placed(news.endpoints, orgs))
        if not news.more:
            if news.all_keys:
                keys += synced.forget_other_keys(commit, self._ids or ())
            synced.store_versions(commit, news.hub_epoch, news.versions)
        return _Copied(keys, prices, copies, endpoints)

    def _use(self, copied: _Copied) -> None:
        for key in copied.keys:
            self._access.take_over(key)
        if copied.prices is not None:
            self._prices.use(copied.prices)
        if copied.budgets is not None:
            self._budgets.use(copied.budgets)
        if copied.endpoints is not None:
            self._endpoints.use(copied.endpoints)


def _endpoints_placed(told: Sequence[SyncedEndpoint], orgs: Mapping[str, int]) -> list[ProxyEndpoint]:
    """The hub's endpoints, with the numbers that their organizations have here."""
    return [
        each.endpoint._replace(org_id=orgs[each.organization], origin=FROM_HUB)
        for each in told
        if each.organization in orgs
    ]


def _placed(news: News, orgs: Mapping[str, int]) -> list[StoredBudget]:
    """The hub's budgets, with the numbers that their organizations have here."""
    return [
        StoredBudget(
            each.budget._replace(org_id=orgs[each.organization]), each.organization, each.created_ms, each.updated_ms
        )
        for each in news.budgets or ()
        if each.organization in orgs
    ]
