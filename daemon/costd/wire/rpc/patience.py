"""Ends calls whose message does not come: each would keep a thread that others need."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

#: A message comes with its call, or a round trip later. A caller that takes longer than this is stuck or hostile.
MESSAGE_S = 10.0
_LOOK_EVERY_S = 1.0


class Cancellable(Protocol):
    """A call, as far as this is concerned."""

    def cancel(self) -> object:
        """End it."""


class Patience:
    """Watches the calls that wait for their message; a thread looks at them every second."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """`now_s` are seconds that never step back."""
        self._now_s = now_s
        self._waiting: dict[int, tuple[float, Cancellable]] = {}
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._look, name="grpc-patience", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._closed.set()

    def began(self, call: Cancellable) -> float:
        """A call waits for its message from now on; returns the time."""
        now_s = self._now_s()
        self._waiting[id(call)] = (now_s, call)
        return now_s

    def ended(self, call: Cancellable) -> float:
        """The message is there, or never will be; returns the time."""
        self._waiting.pop(id(call), None)
        return self._now_s()

    def _look(self) -> None:
        while not self._closed.wait(_LOOK_EVERY_S):
            oldest_s = self._now_s() - MESSAGE_S
            for began_s, call in list(self._waiting.values()):
                if began_s < oldest_s:
                    call.cancel()
