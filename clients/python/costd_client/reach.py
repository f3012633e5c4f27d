"""Whether costd can be reached: while it cannot, calls do not wait for it; somebody else finds out when it is back."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Reach:
    """A circuit breaker. Open from the first call that got no answer until anything has been answered again."""

    def __init__(self, look: Callable[[], None]) -> None:
        """`look` is called when costd was lost: from then on, let answered() be called once it answers."""
        self._look = look
        self.is_lost = False
        self.is_unknown = False
        self._known = threading.Event()

    def lost(self) -> None:
        """A call got no answer."""
        if not self.is_lost:
            self.is_lost = True
            self._look()

    def answered(self) -> None:
        """A call got one, whatever it says."""
        self.is_lost = self.is_unknown = False
        self._known.set()

    def wait_until_known(self, timeout_s: float) -> None:
        """In a process that is new: wait until the first look at costd has been answered, but not longer than that."""
        self._look()
        self._known.wait(timeout_s)
        self.is_unknown = False

    def after_fork_in_child(self) -> None:
        """A forked gRPC may not work, and a call that hangs could not be ended: another thread has to try it first."""
        self.is_lost = self.is_unknown = True
        self._known = threading.Event()
