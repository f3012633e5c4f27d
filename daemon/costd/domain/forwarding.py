"""What a sidecar hands its hub: ranges of its sequence, the seals that chain them, and where both ends stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

from costd.domain.series import Series

EPOCH_BYTES = 16
SEAL_BYTES = 16
#: The form of content that this release writes; it reads every form up to it.
FORMAT = 1
#: A clock further off than this makes budgets and reports of the two ends differ noticeably.
MAX_SKEW_MS = 5_000

#: In place of a range's last number where its content alone says it.
ANY_END = 0

#: The seal before the first of an epoch.
NO_SEAL = b""


def seal_of(previous: bytes, epoch: bytes, first: int, last: int, form: int, content: bytes) -> bytes:
    """The seal of a range: a digest of its content and, through the seal before, of everything before it."""
    digest = blake2b(digest_size=SEAL_BYTES)
    digest.update(previous.rjust(SEAL_BYTES, b"\0"))
    digest.update(epoch)
    digest.update(first.to_bytes(8, "big") + last.to_bytes(8, "big") + form.to_bytes(4, "big"))
    digest.update(content)
    return digest.digest()


class PriceSource(NamedTuple):
    """Where costs come from; `digest` of the table behind it, b"" where there is none."""

    kind: str
    version: str
    digest: bytes


class CommitSpan(NamedTuple):
    """A commit of a source's: its first number, its id, how many numbers it took, when it was received."""

    first: int
    id: int
    items: int
    at_ms: int

    @property
    def last(self) -> int:
        """Its last number."""
        return self.first + self.items - 1


class Request(NamedTuple):
    """A request id that an item took: text, or the 16 bytes of a UUID."""

    seq: int
    org: int
    request_id: bytes | str
    fingerprint: bytes


class Events(NamedTuple):
    """Records by columns, all equally long; `seq` ascends.

    `series` are positions in the range's series, `source` positions in its price sources plus one (0: none).
    `charged_ms` is empty where no record has one, else 0 where one has none. A cost or latency of -1 is not known.
    `extra` is JSON, by position. `taken_back` are positions of records that are duplicates of another source's.
    """

    seq: Sequence[int]
    at_ms: Sequence[int]
    charged_ms: Sequence[int]
    series: Sequence[int]
    counts: tuple[Sequence[int], ...]
    cost_nano: Sequence[int]
    source: Sequence[int]
    latency_ms: Sequence[int]
    extra: Mapping[int, str]
    taken_back: frozenset[int]


class RecordBatch(NamedTuple):
    """A batch with an id; the `added` records it made have the numbers after its own. `answer` is JSON or ""."""

    seq: int
    org: int
    batch_id: bytes | str
    fingerprint: bytes
    records: int
    answer: str
    added: int


class Entry(NamedTuple):
    """A month entry; `values` are all its columns from key_id on, as the table of month entries has them."""

    seq: int
    id: bytes
    org: int
    values: tuple[object, ...]


class Adjustment(NamedTuple):
    """A correction of the record with this public id: what it adds to each of ROLLUP_AMOUNTS and to other units."""

    seq: int
    event_id: bytes
    at_ms: int
    series: int
    kind: str
    amounts: Sequence[int]
    units: Sequence[tuple[str, Decimal]]
    source: int
    reason: str
    actor: str


class CatalogSaid(NamedTuple):
    """What was said of one thing of the catalog; None takes a value away."""

    seq: int
    org: int
    kind: str
    source_app: str
    id: str
    values: Mapping[str, str | None]
    registers: bool
    at_ms: int


class Range(NamedTuple):
    """What a stretch of a source's sequence holds: whole commits, and what of the catalog and entries is older.

    Organizations are named: `org` of an item, and of a series, is a position in `organizations`.
    """

    first: int
    last: int
    organizations: Sequence[str]
    series: Sequence[Series]
    sources: Sequence[PriceSource]
    commits: Sequence[CommitSpan]
    events: Events
    requests: Sequence[Request]
    batches: Sequence[RecordBatch]
    entries: Sequence[Entry]
    adjustments: Sequence[Adjustment]
    catalog: Sequence[CatalogSaid]

    @property
    def records(self) -> int:
        """How many records."""
        return len(self.events.seq)


class Sealed(NamedTuple):
    """A range as it travels; the same bytes however often it is sent."""

    first: int
    last: int
    previous: bytes
    seal: bytes
    form: int
    content: bytes
    records: int


class Lost(NamedTuple):
    """Numbers of a source's sequence that its hub will never get."""

    first: int
    last: int


class SetAside(NamedTuple):
    """Records that the hub did not count: duplicates of another source's, or (with an id) kept apart for a reason."""

    first: int
    last: int
    quarantine_id: str = ""
    reason: str = ""
    records: int = 0
    cost_nano: int = 0

    @property
    def is_duplicate(self) -> bool:
        """Whether another source had brought them."""
        return not self.quarantine_id


class Stand(NamedTuple):
    """Where a source stands: its epoch, the epoch's first number, what it knows to be at the hub, and at which."""

    epoch: bytes
    epoch_first: int
    acknowledged: int
    hub_epoch: bytes


class Waiting(NamedTuple):
    """What waits at a source: how many records, when the oldest was received, and up to when everything is at the hub.

    Times in UTC milliseconds of the source's clock; None where nothing waits, or nothing was ever forwarded.
    """

    records: int = 0
    oldest_ms: int | None = None
    forwarded_ms: int | None = None


class Hello(NamedTuple):
    """What a source says first: who it is and where it stands. `name` is "" where it does not care.

    `incarnation` is random for each start of its process; `reconnects` where this process was connected before.
    """

    version: str
    form: int
    host: str
    name: str
    time_ms: int
    stand: Stand
    incarnation: bytes
    reconnects: bool
    waiting: Waiting


class Welcome(NamedTuple):
    """Where the hub stands with a source; `seal` is of the range that ends at `watermark`."""

    version: str
    form: int
    time_ms: int
    hub_epoch: bytes
    source: str
    organization: str
    is_known: bool
    watermark: int
    seal: bytes
    new_epoch: str
    set_aside: Sequence[SetAside]


class Resume(NamedTuple):
    """How a source goes on: after `after`, in its epoch, or (with a reason) in a new one that begins there.

    `hub_went_back` where the hub has less than it had acknowledged: what is behind `after` is no word of its own then.
    """

    after: int
    new_epoch: str = ""
    lost: Lost | None = None
    hub_went_back: bool = False


def resume(stand: Stand, welcome: Welcome, own_seal: bytes | None, oldest: int) -> Resume:
    """Where to go on from, given the source's own seal at the hub's watermark (None: it has no seal there).

    `oldest` is the first number of which the source still has everything. A source that does not have exactly the
    hub's seal was restored or cloned, a hub that has less than it acknowledged was restored: both begin a new epoch,
    which may send again what the hub has, since records are known by their ids.
    """
    if welcome.is_known and own_seal == welcome.seal and welcome.watermark >= stand.acknowledged:
        return Resume(welcome.watermark if not welcome.new_epoch else stand.acknowledged, welcome.new_epoch)
    if _hub_went_back(stand, welcome):
        is_ours = welcome.is_known and own_seal == welcome.seal
        known = welcome.watermark if welcome.is_known else stand.epoch_first - 1
        lost = Lost(known + 1, oldest - 1) if oldest - 1 > known else None
        after = max(known if is_ours else 0, oldest - 1)
        reason = "the hub has less than was acknowledged: it was restored, or is another one"
        return Resume(after, reason, lost, hub_went_back=True)
    if welcome.is_known and welcome.watermark:
        reason = "the hub holds another history of this epoch: this ledger was restored from a backup or cloned"
        return Resume(stand.acknowledged, welcome.new_epoch or reason)
    return Resume(stand.acknowledged, welcome.new_epoch)


def _hub_went_back(stand: Stand, welcome: Welcome) -> bool:
    if welcome.is_known:
        return welcome.watermark < stand.acknowledged
    is_other = bool(stand.hub_epoch) and stand.hub_epoch != welcome.hub_epoch
    return stand.acknowledged >= stand.epoch_first or (is_other and stand.acknowledged > 0)
