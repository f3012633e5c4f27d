"""Money of slices on its way back to the hub: taken out, written down, said until the hub has heard of it.

Everything is done under the lock of the tills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from costd.domain.held_slice import HeldSlice
from costd.domain.lease import MAX_ITEMS, Return
from costd.domain.window_key import WindowKey

#: A return is said again at least so often, as the hub may not hear it.
_SAY_AGAIN = 3

#: A window, and the epoch of its slice.
Place = tuple[WindowKey, bytes]
#: (granted, returned) of slices.
Persisted = dict[Place, tuple[int, int]]


class Returning(NamedTuple):
    """Money on its way back; `tries` counts how often it was said."""

    returned_nano: int
    last_seq: int
    tries: int = 0


class Closed(NamedTuple):
    """A slice of an epoch that is over, against which there may still be reservations."""

    held: HeldSlice
    since_ms: int


class Returns:
    """What goes back, and slices of former epochs that will."""

    def __init__(self, last_seq: Callable[[], int]) -> None:
        """`last_seq` is the last number of the ledger: the hub takes nothing back before it has everything up to it."""
        self._last_seq = last_seq
        #: What was taken out of the tills, and is not on disk yet.
        self._unwritten: Persisted = {}
        self._returning: dict[Place, Returning] = {}
        self._closed: dict[Place, Closed] = {}

    @property
    def unwritten(self) -> Persisted:
        """What is to be written before the hub hears of it."""
        return dict(self._unwritten)

    def written(self, slices: Persisted) -> None:
        """These are on disk."""
        for at, pair in slices.items():
            if self._unwritten.get(at) == pair:
                del self._unwritten[at]

    def add(self, key: WindowKey, held: HeldSlice) -> None:
        """Money was taken out of a slice."""
        self._unwritten[key, held.epoch] = held.granted_nano, held.returned_nano
        self._say(key, held)

    def close(self, key: WindowKey, held: HeldSlice, now_ms: int) -> None:
        """The epoch of a slice is over; it goes back whole once nothing is reserved against it."""
        self._closed[key, held.epoch] = Closed(held.close(), now_ms)

    def reopen(self, epoch: bytes) -> None:
        """The epoch goes on after all."""
        for at in [at for at in self._closed if at[1] == epoch]:
            del self._closed[at]

    def empty_closed(self, is_idle: Callable[[WindowKey], bool], before_ms: int) -> None:
        """Let slices go back that were closed and have nothing reserved against them, or were closed before this."""
        for (key, epoch), closed in list(self._closed.items()):
            if is_idle(key) or closed.since_ms < before_ms:
                del self._closed[key, epoch]
                self.add(key, closed.held.empty())

    def to_say(self, acknowledged: int) -> list[Return]:
        """What is on its way back, of which the hub has everything that was recorded before."""
        found = []
        for (key, epoch), each in list(self._returning.items())[:MAX_ITEMS]:
            if each.last_seq <= acknowledged:
                self._returning[key, epoch] = each._replace(tries=each.tries + 1)
                found.append(Return(key, epoch, each.returned_nano, each.last_seq))
        return found

    def heard(self, key: WindowKey, held: HeldSlice, returned_nano: int) -> None:
        """So much of a slice the hub has back."""
        at = key, held.epoch
        if held.returned_nano <= returned_nano:
            self._returning.pop(at, None)
        elif at not in self._returning:  # of a process before this one, or said and not heard
            self._say(key, held)

    def forget_said(self) -> None:
        """What was said often enough is said again once it turns out that it was not heard."""
        for at in [at for at, each in self._returning.items() if each.tries >= _SAY_AGAIN]:
            del self._returning[at]

    def _say(self, key: WindowKey, held: HeldSlice) -> None:
        self._returning[key, held.epoch] = Returning(held.returned_nano, self._last_seq())
