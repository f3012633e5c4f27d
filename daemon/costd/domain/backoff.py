"""How long to wait before trying again: exponential with full jitter, without end.

Full jitter (a uniform share of a bound that doubles) spreads a fleet's attempts best; see "Exponential Backoff And
Jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
"""

from __future__ import annotations

import random

MIN_S = 0.2
MAX_S = 30.0


class Backoff:
    """Pauses between attempts, in seconds: each between MIN_S and a bound that doubles up to MAX_S."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bound_s = MIN_S

    def next_s(self, retry_after_s: float | None = None) -> float:
        """The next pause; not shorter than what the other side asked for."""
        self._bound_s = min(MAX_S, self._bound_s * 2)
        pause_s = self._rng.uniform(MIN_S, self._bound_s)
        return pause_s if retry_after_s is None else max(pause_s, min(retry_after_s, MAX_S))

    def reset(self) -> None:
        """It worked: begin anew with short pauses."""
        self._bound_s = MIN_S
