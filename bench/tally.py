"""What came of a load: answers counted, their times, and the sums of both."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Load:
    """What came of it: good answers a second, and their latencies in milliseconds; `answers` count the warm-up too.

    `cpu_us` is the server's processor time for each answer, filled in by whoever knows its process.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    answers: int
    cpu_us: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)


class Tally:
    """Counts answers and their times."""

    def __init__(self) -> None:
        self.counting = False
        self.over = False
        self.answers = 0
        self.latencies_s: list[float] = []
        self.failures: Counter[str] = Counter()

    def answered(self, sent_s: float, failure: str) -> None:
        """One answer is complete; `failure` is "" or what was wrong with it."""
        self.answers += 1
        if failure:
            self.failures[failure] += 1
        elif self.counting:
            self.latencies_s.append(time.perf_counter() - sent_s)

    def load(self, seconds: float) -> Load:
        """The sums."""
        ordered = sorted(self.latencies_s) or [0.0]
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 for share in (0.5, 0.99, 1.0)]
        return Load(len(self.latencies_s) / seconds, *at, answers=self.answers, failures=dict(self.failures))
