"""Attempts without end: what goes on for as long as the daemon runs, however often it breaks."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from costd.clock import Clock
from costd.domain.backoff import Backoff
from costd.domain.errors import CostdError
from costd.domain.link import LinkBroken

#: A connection that lasted this long was a good one: the next pauses are short again.
GOOD_S = 10.0

_log = logging.getLogger(__name__)


class Attempts:
    """Runs something again and again in a thread of its own, with a pause after each failure."""

    def __init__(
        self, name: str, clock: Clock, attempt: Callable[[], None], failed: Callable[[LinkBroken, float], None]
    ) -> None:
        """`attempt` returns to be run again at once, or raises; `failed` is told why, and of the pause in seconds."""
        self.stopping = threading.Event()
        self._hurried = threading.Event()
        self._clock = clock
        self._attempt = attempt
        self._failed = failed
        self._backoff = Backoff(random.Random())  # noqa: S311 - no secret
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Do not wait out a pause that nobody asked for."""
        self._hurried.set()

    def end(self) -> None:
        """Try no more; whoever calls this then ends the present attempt."""
        self.stopping.set()
        self._hurried.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to have ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self.stopping.is_set():
            began_s = self._clock.monotonic_s()
            try:
                self._attempt()
            except LinkBroken as broken:
                self._pause(broken, began_s)
            except Exception as error:
                # The storage refuses, or a mistake of ours: neither may end it for good.
                if not isinstance(error, CostdError):
                    _log.exception("an attempt met an unexpected error")
                self._pause(LinkBroken(str(error), reason="local"), began_s)

    def _pause(self, broken: LinkBroken, began_s: float) -> None:
        if self.stopping.is_set():
            return
        if self._clock.monotonic_s() - began_s > GOOD_S:
            self._backoff.reset()
        pause_s = self._backoff.next_s(broken.retry_after_s)
        self._failed(broken, pause_s)
        # What the other side asked for is respected by those in a hurry, too.
        (self._hurried if broken.retry_after_s is None else self.stopping).wait(pause_s)
        self._hurried.clear()
