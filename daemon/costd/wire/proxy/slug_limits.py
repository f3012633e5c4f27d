"""How often a proxy endpoint may be called: so many calls in any minute, each slug by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import ceil

from costd.clock import Clock
from costd.domain.errors import RateLimited

WINDOW_S = 60.0
#: Slugs exist, so they are few; the bound is for those of many years.
_MAX_SLUGS = 10_000


class CalledTooOften(RateLimited):
    """A slug has no call left in this minute; `told` are the headers that say when it has."""

    def __init__(self, limit: int, wait_s: float, told: Mapping[str, str]) -> None:
        super().__init__(f"this proxy endpoint may be called {limit} times a minute", retry_after_s=wait_s)
        self.told = told


class SlugLimits:
    """Counts calls in a sliding window."""

    def __init__(self, clock: Clock, requests: int, counts: int) -> None:
        self._clock = clock
        self._limits = {False: requests, True: counts}
        self._seen: dict[tuple[str, bool], deque[float]] = {}

    def take(self, slug: str, *, is_count: bool) -> dict[str, str]:
        """Count a call; the headers that tell of it. Raises CalledTooOften."""
        limit, now_s = self._limits[is_count], self._clock.monotonic_s()
        if len(self._seen) > _MAX_SLUGS:
            self._seen.clear()
        seen = self._seen.setdefault((slug, is_count), deque())
        while seen and seen[0] <= now_s - WINDOW_S:
            seen.popleft()
        is_refused = len(seen) >= limit
        if not is_refused:
            seen.append(now_s)
        wait_s = seen[0] + WINDOW_S - now_s
        told = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - len(seen)),
            "X-RateLimit-Reset": str(self._clock.now_ms() // 1000 + ceil(wait_s)),
        }
        if is_refused:
            raise CalledTooOften(limit, wait_s, told)
        return told
