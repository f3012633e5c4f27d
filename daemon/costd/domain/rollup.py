"""Rollups: what is summed for every series and hour."""

from __future__ import annotations

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


class Sums(NamedTuple):
    """What one transaction added to one series in one hour: an integer for each of ROLLUP_AMOUNTS."""

    series: Series
    amounts: list[int]
