"""Rollups: what is summed for every series and hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.series import Series

#: What a rollup sums, in the order of Sums.amounts and of the table's columns (where the cost is in two).
ROLLUP_AMOUNTS = (
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano",
    "unpriced",
    "unrated",
    "latency_ms",
    "timed",
)

#: Upper bounds of the histogram of latencies: from a short embedding to a long stream. The ledger keeps counts by
#: these bounds (series_latency.bucket is an index into them): a change needs a migration.
LATENCY_BOUNDS_MS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000)


class Sums(NamedTuple):
    """What one transaction added to one series in one hour: an integer for each of ROLLUP_AMOUNTS, and latencies."""

    series_id: int
    series: Series
    amounts: list[int]
    latencies_ms: list[int]


class AdjustmentCounts:
    """How many corrections there were, by kind, and by how many nano-USD they raised and lowered costs."""

    __slots__ = ("counts", "down_nano", "up_nano")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.up_nano: dict[str, int] = {}
        self.down_nano: dict[str, int] = {}

    def add(self, kind: str, adjustments: int, up_nano: int, down_nano: int) -> None:
        """Count `adjustments` more of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + adjustments
        self.up_nano[kind] = self.up_nano.get(kind, 0) + up_nano
        self.down_nano[kind] = self.down_nano.get(kind, 0) + down_nano


class LabelledTotals(NamedTuple):
    """What the ledger has ever held of one label set: an integer for each of ROLLUP_AMOUNTS."""

    labels: tuple[str, ...]
    amounts: Sequence[int]


class LabelledLatencies(NamedTuple):
    """How many latencies of one label set fell into one bucket: up to LATENCY_BOUNDS_MS[bucket], or beyond all."""

    labels: tuple[str, ...]
    bucket: int
    events: int
