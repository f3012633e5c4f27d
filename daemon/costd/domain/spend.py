"""Spend: what a set of records adds up to, and how its cost is shown where some of it has no price."""

from __future__ import annotations

from typing import NamedTuple

#: What "" is called where people read it: a provider, a prompt, a team, a key or a tag that nobody named.
UNKNOWN = "unknown"


class Spend(NamedTuple):
    """Sums over records; the cost in nano-USD, of those that have one. Tokens in and out contain the cached ones."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nano: int = 0
    unpriced: int = 0

    def plus(self, other: Spend) -> Spend:
        """Both together."""
        return Spend(*map(int.__add__, self, other))

    def minus(self, other: Spend) -> Spend:
        """What is left of this without the other."""
        return Spend(*map(int.__sub__, self, other))

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens

    @property
    def shown_cost_nano(self) -> int | None:
        """The cost to show: None where there are records and none of them has a price, for that is not $0."""
        return None if self.requests and self.unpriced == self.requests else self.cost_nano


def cost_with_entries(usage: Spend, entries: int, entries_nano: int) -> int | None:
    """The cost of records and of `entries` month entries together; None where all there is has no price."""
    if entries:
        return usage.cost_nano + entries_nano
    return usage.shown_cost_nano
