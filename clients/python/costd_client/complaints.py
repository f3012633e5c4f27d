"""What the client has to say to people: warnings in the log, each kind at most once a minute, never with contents."""

from __future__ import annotations

import logging
import threading
import time

_EVERY_S = 60.0

_log = logging.getLogger("costd_client")


class Complaints:
    """Logs warnings; remembers which kinds it has logged lately."""

    def __init__(self) -> None:
        self._said_s: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}
        # Reentrant: a destructor may complain while this thread is complaining.
        self._lock = threading.RLock()

    def say(self, kind: str, message: str, *values: object, once: bool = False) -> None:
        """Log a warning, unless one of its kind was logged within the last minute, or (`once`) ever."""
        now_s = time.monotonic()
        with self._lock:
            last_s = self._said_s.get(kind)
            if last_s is not None and (once or now_s - last_s < _EVERY_S):
                self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
                return
            self._said_s[kind] = now_s
            kept_back = self._kept_back.pop(kind, 0)
        more = f" (and {kept_back} times before)" if kept_back else ""
        _log.warning(f"{message}%s", *values, more)

    def after_fork_in_child(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
