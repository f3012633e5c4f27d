"""The one place that reads time: everything else is handed a Clock."""

from __future__ import annotations

import time

#: macOS's monotonic clock goes on while it sleeps; Linux's does not, and has another that does.
_LASTING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970 (UTC)."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps back; for durations only."""
        return time.monotonic()

    def elapsed_ms(self) -> int:
        """Milliseconds on a clock that never steps back and goes on while the machine sleeps; for times to live."""
        return time.clock_gettime_ns(_LASTING) // 1_000_000


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

    def elapsed_ms(self) -> int:
        """The milliseconds it was advanced by."""
        return round(self._monotonic_s * 1000)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now_ms += round(seconds * 1000)
        self._monotonic_s += seconds
