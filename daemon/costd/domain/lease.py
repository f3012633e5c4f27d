"""What a source and its hub tell each other of slices. Amounts are nano-USD and cumulative within an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.window_key import WindowKey

#: What one message holds at most of each kind.
MAX_ITEMS = 1_000
#: Of how many processes that were not confirmed, as far as is known, a source keeps the names.
MAX_PENDING = 64


class Want(NamedTuple):
    """A wish for money: what `granted` must come to for the call that waits (0: none does), and should come to."""

    window: WindowKey
    needed_nano: int
    wanted_nano: int


class Return(NamedTuple):
    """All that was ever given back of a window in an epoch; counts once everything up to `last_seq` is at the hub."""

    window: WindowKey
    epoch: bytes
    returned_nano: int
    last_seq: int


class Report(NamedTuple):
    """What a source knows of a slice of any epoch of its own."""

    window: WindowKey
    epoch: bytes
    granted_nano: int
    returned_nano: int


class LeaseRequest(NamedTuple):
    """What a source wants, gives back and knows; see proto/costd/v1/lease.proto."""

    epoch: bytes
    incarnation: bytes
    confirmed: bytes
    pending: Sequence[bytes]
    hub_epoch: bytes
    last_seq: int
    acknowledged: int = 0
    wants: Sequence[Want] = ()
    returns: Sequence[Return] = ()
    report: Sequence[Report] | None = None


class Slice(NamedTuple):
    """A window as the hub has it for a source and epoch; `settled_nano` is as of the answer's watermark."""

    window: WindowKey
    granted_nano: int = 0
    returned_nano: int = 0
    settled_nano: int = 0
    available_nano: int = 0
    limit_nano: int = 0
    spent_nano: int = 0
    recall: bool = False
    unknown: bool = False


class LeaseAnswer(NamedTuple):
    """What a hub answers; `use_ms` is how long slices may be used from when the request was sent."""

    hub_epoch: bytes
    confirmed: bool = False
    new_epoch: bool = False
    report_wanted: bool = False
    awaiting: bool = False
    use_ms: int = 0
    watermark: int = 0
    slices: Sequence[Slice] = ()
