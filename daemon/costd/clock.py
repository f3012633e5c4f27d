"""The one place that reads time: everything else is handed a Clock."""

from __future__ import annotations

import time


class Clock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970 (UTC)."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps back; for durations only."""
        return time.monotonic()


class ManualClock(Clock):
    """A clock that moves only when told to; for tests and simulations."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0

    def now_ms(self) -> int:
        """The wall time it was set to."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """The seconds it was advanced by."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now_ms += round(seconds * 1000)
        self._monotonic_s += seconds
