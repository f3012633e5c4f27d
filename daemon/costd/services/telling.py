"""What a sidecar tells its hub on one Sync stream: where it stands, then whatever is new here."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from costd.clock import Clock
from costd.domain.errors import Refused
from costd.domain.synced import Standing, Upward, Versions
from costd.services.access import Access
from costd.services.prices import Prices
from costd.store import synced
from costd.store.hub_link import read_link
from costd.store.reader import Readers

#: How often what is known here is looked through: first uses of keys, and orders, are at the hub that soon.
TELL_S = 1.0
#: A key in use is told of this often.
USES_EVERY_MS = 60_000
#: One message holds at most this many uses; what is left comes with the next.
MAX_USES = 5_000
#: A difference of the clocks that changed by less is not told again.
SKEW_STEP_MS = 1_000
#: The hub shows a sign of life every 20 s; after this long without one the road is taken for broken.
DEAF_S = 65.0


class Road(Protocol):
    """What is asked of the stream."""

    def is_outdated(self) -> bool:
        """Whether the files that it was opened with have changed since."""

    def close(self) -> None:
        """End it, from any thread."""


class Telling:
    """The messages of one stream. They are asked for in a thread of the stream's own."""

    def __init__(self, readers: Readers, clock: Clock, access: Access, prices: Prices, road: Road) -> None:
        self._readers = readers
        self._clock = clock
        self._access = access
        self._prices = prices
        self._road = road
        self._closed = threading.Event()
        self._heard_s = clock.monotonic_s()
        self._skew_ms = self._told_skew_ms = 0
        #: Why this end has broken the stream off, "" where it has not.
        self.broken = ""
        #: The source that this end's copy is of, "" where there is none.
        self.copy_of = ""
        #: When keys were last told to have been used, and when they were told of; what was told of the quarantine.
        self._told_uses: dict[str, tuple[int, int]] = {}
        self._told_orders: dict[str, tuple[str, int]] = {}
        #: How often the hub has answered an order: the same one may be given again.
        self._answers: Counter[str] = Counter()

    def close(self) -> None:
        """Say no more."""
        self._closed.set()

    def heard(self, clock_skew_ms: int) -> None:
        """The hub has said something, and its clock is this far ahead."""
        self._heard_s = self._clock.monotonic_s()
        self._skew_ms = clock_skew_ms

    def answered(self, quarantine_ids: Iterable[str]) -> None:
        """The hub's answers to orders are on disk."""
        self._answers.update(quarantine_ids)

    def messages(self) -> Iterator[Upward]:
        """Where this end stands, then what is new, until the stream is closed."""
        try:
            yield self._standing()
            while not self._closed.wait(TELL_S):
                if self._is_over():
                    break
                if not (news := self._news()).is_empty:
                    yield news
        except Refused as refusal:
            self.broken = f"the ledger cannot be read: {refusal.message}"
        if not self._closed.is_set():
            self._road.close()

    def _is_over(self) -> bool:
        """Whether the stream is to be left for another."""
        if self._road.is_outdated():
            self.broken = "the key or a certificate has changed"
        elif self._clock.monotonic_s() - self._heard_s > DEAF_S:
            self.broken = f"the hub has said nothing for {DEAF_S:.0f} s"
        return bool(self.broken)

    def _standing(self) -> Upward:
        """Where this end stands, and what it knows of revoked keys: a hub that went back in time does not."""
        with self._readers.snapshot() as connection:
            link = read_link(connection)
            revocations = synced.known_revocations(connection)
        price_list = self._prices.state.list.digest
        if link is None:
            return Upward(Standing(b"", Versions(), price_list))
        self.copy_of = link.source if link.sync_epoch else ""
        versions = Versions(
            link.keys_version,
            link.catalog_version,
            link.prices_version,
            link.quarantine_version,
            link.budgets_version,
        )
        return Upward(Standing(link.sync_epoch, versions, price_list), revocations=revocations)

    def _news(self) -> Upward:
        skew_ms = 0
        if abs(self._skew_ms - self._told_skew_ms) >= SKEW_STEP_MS:
            skew_ms = self._told_skew_ms = self._skew_ms
        return Upward(uses=self._new_uses(), clock_skew_ms=skew_ms, orders=self._new_orders())

    def _new_uses(self) -> dict[str, int]:
        """Uses of keys that were not told of before, or not for a while."""
        now_ms = self._clock.now_ms()
        found: dict[str, int] = {}
        for key_id, used_ms in self._access.hub_key_uses().items():
            told_used_ms, told_ms = self._told_uses.get(key_id, (0, 0))
            if used_ms > told_used_ms and abs(now_ms - told_ms) >= USES_EVERY_MS and len(found) < MAX_USES:
                found[key_id] = used_ms
                self._told_uses[key_id] = (used_ms, now_ms)
        return found

    def _new_orders(self) -> dict[str, str]:
        answers = self._answers.copy()  # before the orders: one that is given again after its answer is news
        with self._readers.snapshot() as connection:
            pending = synced.pending_orders(connection)
        marks = {id_: (order, answers[id_]) for id_, order in pending.items()}
        found = {id_: order for id_, order in pending.items() if self._told_orders.get(id_) != marks[id_]}
        self._told_orders = marks
        return found
