"""What was ordered by way of costd and has not been fetched yet: background responses and batches, in memory."""

from __future__ import annotations

from typing import NamedTuple

from costd.domain.access import Caller

#: Orders that are remembered; beyond it the oldest are not.
MAX_ORDERS = 10_000


class Place(NamedTuple):
    """Where the result of an order is: the organization that ordered, the upstream, and the provider's id for it."""

    org_id: int
    upstream: str
    ident: str


class Order(NamedTuple):
    """Who ordered, by which endpoint, and the request ids under which it has money reserved."""

    caller: Caller
    endpoint: str
    request_ids: tuple[str, ...]


class Awaited:
    """Orders by the place of their result. Forgotten with the process, as reservations are."""

    def __init__(self, counts: dict[tuple[str, str], int]) -> None:
        """`counts` is kept up by (upstream, endpoint), for a metric."""
        self._orders: dict[Place, Order] = {}
        self._counts = counts

    def add(self, place: Place, order: Order) -> None:
        """It was ordered."""
        if len(self._orders) >= MAX_ORDERS:
            self.take(next(iter(self._orders)))
        self.take(place)
        self._orders[place] = order
        self._count(place, order, 1)

    def move(self, place: Place, ident: str) -> None:
        """The result of what is awaited is elsewhere: OpenAI's batches end in a file."""
        order = self.take(place)
        if order is not None:
            self.add(place._replace(ident=ident), order)

    def take(self, place: Place) -> Order | None:
        """It was fetched, or will never be: what was ordered, if it was here."""
        order = self._orders.pop(place, None)
        if order is not None:
            self._count(place, order, -1)
        return order

    def _count(self, place: Place, order: Order, added: int) -> None:
        at = place.upstream, order.endpoint
        self._counts[at] = self._counts.get(at, 0) + added
