"""A slice at the source that holds it: what must be on disk before money is used, and before it is given back.

Every transition returns the slice to persist. The order is the caller's duty, and the same each time:

    a grant          persist the slice, then let the till use it
    a return         take the money out of the till, persist the slice, then send `returned_nano` and the last sequence
                     number of the ledger at that moment (which is durable, as the ledger is)
    a start          use the slice only once the hub has confirmed the succession (last confirmed incarnation, new one),
                     and `confirm` it with what the hub says
    a new epoch      persist all slices `closed`, then the new epoch; a closed slice admits nothing
"""

from __future__ import annotations

from typing import NamedTuple


class HeldSlice(NamedTuple):
    """What a source holds of a window in an epoch of its own, in nano-USD.

    `granted_nano` and `returned_nano` only grow.
    """

    epoch: bytes
    granted_nano: int = 0
    returned_nano: int = 0
    is_closed: bool = False

    @property
    def bound_nano(self) -> int:
        """What may be spent in all: nothing of a slice that is closed."""
        return 0 if self.is_closed else self.granted_nano - self.returned_nano

    def give_back(self, amount_nano: int) -> HeldSlice:
        """Give back money that the till has let go of (Till.withdraw)."""
        assert 0 <= amount_nano <= self.granted_nano - self.returned_nano
        return self._replace(returned_nano=self.returned_nano + amount_nano)

    def confirm(self, granted_nano: int, returned_nano: int) -> HeldSlice:
        """The hub said how it stands: the larger counts, as its word may come late, or this copy be an older one."""
        granted = max(self.granted_nano, granted_nano)
        return self._replace(granted_nano=granted, returned_nano=max(self.returned_nano, returned_nano))

    def close(self) -> HeldSlice:
        """The epoch is over: nothing more is admitted against this slice."""
        return self._replace(is_closed=True)

    def empty(self) -> HeldSlice:
        """Give back all of a closed slice against which nothing is reserved any more.

        What was spent of it is forwarded, and so settled, in later epochs. Only for a source whose ledger is its own
        continuation (its hub went back in time): one that was restored cannot know what was spent in the meantime.
        """
        assert self.is_closed
        return self._replace(returned_nano=self.granted_nano)
