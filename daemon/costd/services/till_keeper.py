"""The thread that keeps the tills in order as time passes: expiry, the turn of windows, marks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from costd.services.tills import Tills

#: Windows roll over and reservations expire within this.
BEAT_S = 0.25
_SLOW_EVERY = 120

_log = logging.getLogger(__name__)


class TillKeeper:
    """Calls beat() until it is stopped."""

    def __init__(self, tills: Tills) -> None:
        self._tills = tills
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="costd-tills", daemon=True)
        self._beats = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def beat(self) -> None:
        """Do what is due; quick."""
        self._tills.expire()
        self._tills.roll_over()
        self._beats += 1
        if self._beats % _SLOW_EVERY == 0:
            self._tills.lower_marks()
            self._tills.sweep()

    def stop(self, timeout_s: float) -> None:
        """Stop, and write down what is reserved; before the writer stops, after the doors are shut."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            self._tills.close()

    def _run(self) -> None:
        self._do(self._tills.open_present)
        while not self._stop.wait(BEAT_S):
            self._do(self.beat)

    def _do(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            # Full queue, full disk: the next beat tries again, and whoever waits for a window asks for it as well.
            _log.warning("budgets could not be kept up: %s", error)
