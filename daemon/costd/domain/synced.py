"""What hub and source tell each other on a Sync stream: the hub's keys, catalog and prices, and what the source knows.

Times are UTC milliseconds. Organizations go by their names: their numbers are each ledger's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from costd.domain.budget import Budget
from costd.domain.price_rule import PriceRule
from costd.domain.proxy_endpoint import ProxyEndpoint


class Versions(NamedTuple):
    """How new a copy is: counters of the hub's, which mean nothing in another epoch of it."""

    keys: int = 0
    catalog: int = 0
    prices: int = 0
    quarantine: int = 0
    budgets: int = 0


class Standing(NamedTuple):
    """What a source has: of which epoch of the hub (b"": nothing), how new, and the digest of its price list."""

    hub_epoch: bytes
    versions: Versions
    price_list: bytes


class SyncedKey(NamedTuple):
    """A key without its secret: `digest` is that one's SHA-256. `revoked_ms` is None while it is in force.

    `renamed_ms` is None while it has the name that it was made with.
    """

    id: str
    organization: str
    name: str
    digest: bytes
    key_prefix: str
    roles: tuple[str, ...]
    team: str
    project: str
    source_app: str
    description: str
    created_ms: int
    revoked_ms: int | None
    renamed_ms: int | None = None


class SyncedItem(NamedTuple):
    """One thing of the catalog, whole; `values` by the names in its kind's columns, None where there is none."""

    kind: str
    organization: str
    source_app: str
    id: str
    values: Mapping[str, str | None]
    is_registered: bool
    created_ms: int
    updated_ms: int


class SyncedRule(NamedTuple):
    """A price rule; `organization` is None for everybody's. The rule's own `org_id` says nothing."""

    organization: str | None
    rule: PriceRule


class SyncedTable(NamedTuple):
    """A compiled price table in force; `body` is b"" where the source has it."""

    kind: str
    version: str
    name: str
    digest: bytes
    body: bytes


class SyncedPrices(NamedTuple):
    """All prices in force for a source; rules come oldest first."""

    revision: int
    rules: Sequence[SyncedRule]
    tables: Sequence[SyncedTable]


class SyncedBudget(NamedTuple):
    """A budget of the hub's. The budget's own `org_id` says nothing."""

    organization: str
    budget: Budget
    created_ms: int
    updated_ms: int


class SyncedEndpoint(NamedTuple):
    """A proxy endpoint of the hub's. The endpoint's own `org_id` says nothing."""

    organization: str
    endpoint: ProxyEndpoint


class Outcome(NamedTuple):
    """What became of records that were set aside: "held", "applied" or "dropped".

    `uncounted` are the numbers of them, as (first, last), that the hub does not count, once that is settled.
    """

    state: str
    uncounted: Sequence[tuple[int, int]] = ()


class News(NamedTuple):
    """What a hub tells a source. With `more` it goes on in the next message, and the versions do not count yet.

    With `all_keys` the keys of this message and of those it goes on in are all there are. `quarantine` is what became
    of records that were set aside, by the hub's ids of them. `budgets` are all there are, None where they are as
    before; `unread_budgets` says of others why they cannot be used here. `endpoints` are all proxy endpoints in force,
    None where they are as before.
    """

    hub_epoch: bytes
    time_ms: int
    source: str
    organizations: Sequence[str]
    versions: Versions
    hub_version: str = ""
    all_keys: bool = False
    keys: Sequence[SyncedKey] = ()
    catalog: Sequence[SyncedItem] = ()
    prices: SyncedPrices | None = None
    quarantine: Mapping[str, Outcome] = {}
    budgets: Sequence[SyncedBudget] | None = None
    unread_budgets: Sequence[str] = ()
    endpoints: Sequence[SyncedEndpoint] | None = None
    more: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing but that the hub is there."""
        said = self.all_keys or self.keys or self.catalog or self.prices or self.quarantine or self.more
        return not said and self.budgets is None and self.endpoints is None


class Upward(NamedTuple):
    """What a source tells its hub. The first message has a `standing`; None in those after it.

    `uses` and `revocations` are moments by key ids; `clock_skew_ms` is how far the source's clock is behind the hub's,
    0 where it says nothing of it; `orders` are "retry" or "drop" by the hub's ids of what was set aside.
    """

    standing: Standing | None = None
    uses: Mapping[str, int] = {}
    revocations: Mapping[str, int] = {}
    clock_skew_ms: int = 0
    orders: Mapping[str, str] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self == _NOTHING


_NOTHING = Upward()
