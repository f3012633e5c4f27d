"""Marks: how much may be reserved at one time of a budget's value, as it is on disk; and what a former process left.

Reservations live in memory. The mark is raised on disk before more is reserved than it says, in steps, so that few
calls wait for it; after a crash so much is taken to be reserved until the reservations' time to live has passed.
"""

from __future__ import annotations

from collections.abc import Mapping

from costd.domain.reservation import Till
from costd.domain.window import Window
from costd.domain.window_key import WindowKey

#: (budget id, value of its `each`)
MarkKey = tuple[str, str]

#: A mark is raised to so many times what is reserved once that is more than half of it.
RAISE_TO = 3
#: It is lowered once it is more than so many times what is reserved, at two looks.
LOWER_ABOVE = 8


class Marks:
    """The marks on disk. One thread's at a time."""

    def __init__(self, persisted: Mapping[MarkKey, int], started_ms: int, ghosts_until_ms: int) -> None:
        """`started_ms` is wall time, `ghosts_until_ms` elapsed time: until then the marks found count as reserved."""
        self._marks = dict(persisted)
        self._ghosts = {key: mark for key, mark in persisted.items() if mark > 0}
        self._started_ms = started_ms
        self._ghosts_until_ms = ghosts_until_ms

    def open_till(self, key: WindowKey, window: Window) -> Till:
        """A till for a window that comes into memory; with what a former process may have reserved in it."""
        at = key.budget_id, key.value
        ghost = self._ghosts.get(at, 0) if window.holds(self._started_ms) else 0
        return Till(mark_nano=self._marks.get(at, 0), ghost_nano=ghost)

    def persisted(self, at: MarkKey) -> int:
        """The mark of a value."""
        return self._marks.get(at, 0)

    def note(self, at: MarkKey, mark_nano: int) -> None:
        """A mark is on disk, or is about to be where it is lower than before."""
        if mark_nano:
            self._marks[at] = mark_nano
        else:
            self._marks.pop(at, None)

    def known(self) -> Mapping[MarkKey, int]:
        """All marks above zero."""
        return self._marks

    @property
    def has_ghosts(self) -> bool:
        """Whether what a former process reserved still counts."""
        return bool(self._ghosts)

    def ghosts_are_over(self, elapsed_ms: int) -> bool:
        """Whether the time to live of what a former process reserved passes now; true once."""
        if not self._ghosts or elapsed_ms < self._ghosts_until_ms:
            return False
        self._ghosts = {}
        return True


def wanted_mark(till: Till, amount_nano: int) -> int:
    """The mark to persist so that this much more can be reserved, and some calls after it.

    At most half of what is left beyond that: a crash leaves the other half to whoever comes after it.
    """
    needed_nano = till.reserved_nano + amount_nano
    beyond_nano = till.bound_nano - till.used_nano - needed_nano
    return min(RAISE_TO * needed_nano, needed_nano + max(0, beyond_nano) // 2)
