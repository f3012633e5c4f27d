"""A window's slice at a sidecar: how fast it is used, and what its hub is to be asked for."""

from __future__ import annotations

from collections.abc import Sequence

from costd.domain.held_slice import HeldSlice
from costd.domain.lease import Slice, Want
from costd.domain.reservation import NEVER_MS
from costd.services.live_window import LiveWindow

#: A slice is to last so long at the present burn.
AHEAD_MS = 30_000
#: Where nothing is known of the burn it is to last for so many calls like the one that asks.
AHEAD_CALLS = 4
#: More is asked for once less than this part of that is left.
LOW_SHARE = 3
#: The burn is looked at so often at most.
_LOOK_MS = 500
#: More than any amount: nothing was refused.
NONE_NANO = 2**63 - 1


class HeldWindow:
    """A window's slice, in the present epoch, and what the hub said last of it."""

    __slots__ = (
        "active_ms",
        "answered_ms",
        "burn_nano",
        "held",
        "refused_nano",
        "seen",
        "told",
        "waiting",
        "watermark",
    )

    def __init__(self, held: HeldSlice, now_ms: int) -> None:
        self.held = held
        self.told: Slice | None = None
        self.answered_ms = -NEVER_MS
        #: Everything up to this number is in `told`.
        self.watermark = -1
        #: Amounts that callers wait for.
        self.waiting: list[int] = []
        #: The least that `granted` was to come to and the hub refused, as of its last answer.
        self.refused_nano = NONE_NANO
        #: nano-USD in a second, over the last half minute or so; (elapsed ms, used) when it was looked at last.
        self.burn_nano = 0
        self.seen = (now_ms, 0)
        self.active_ms = now_ms

    def look(self, live: LiveWindow, now_ms: int) -> bool:
        """See how fast money goes; whether any was used or reserved since."""
        before_ms, before_nano = self.seen
        spent_nano = live.till.used_nano + live.till.reserved_nano
        is_active = spent_nano != before_nano or bool(live.till.reserved_nano)
        if is_active:
            self.active_ms = now_ms
        if (passed_ms := now_ms - before_ms) >= _LOOK_MS:
            rate = max(0, spent_nano - before_nano) * 1_000 // passed_ms
            share = min(1_000, passed_ms * 1_000 // AHEAD_MS)
            self.burn_nano = (self.burn_nano * (1_000 - share) + rate * share) // 1_000
            self.seen = now_ms, spent_nano
        return is_active

    def needs(self, live: LiveWindow, waiting: Sequence[int]) -> list[Want]:
        """The largest call that waits, and the smallest where that is all that is left for."""
        free_nano, granted = self.free_nano(live), self.held.granted_nano
        wanted = granted + max(0, sum(waiting) + max(self._ahead_nano, AHEAD_CALLS * max(waiting)) - free_nano)
        amounts = sorted({max(waiting), min(waiting)}, reverse=True)
        return [Want(live.key, granted + max(0, amount - free_nano), wanted) for amount in amounts]

    def ahead(self, live: LiveWindow) -> Want:
        """What is wanted before anybody waits for it; no more than there is where that is enough, or asked back."""
        granted = self.held.granted_nano
        if self.is_recalled or not self.is_low(live):
            return Want(live.key, 0, granted)
        return Want(live.key, 0, granted + max(0, self._ahead_nano - self.free_nano(live)))

    def is_low(self, live: LiveWindow) -> bool:
        """Whether more is wanted soon."""
        return self.free_nano(live) * LOW_SHARE < self._ahead_nano

    @property
    def is_recalled(self) -> bool:
        """Whether the hub wants back what is not in use."""
        return self.told is not None and self.told.recall

    @property
    def _ahead_nano(self) -> int:
        return self.burn_nano * (AHEAD_MS // 1_000)

    def free_nano(self, live: LiveWindow) -> int:
        """What is neither used nor reserved; below zero where more is used than there was."""
        return self.held.bound_nano - live.till.used_nano - live.till.reserved_nano
