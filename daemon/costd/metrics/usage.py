"""Usage by label set: what the ledger sums to, as exact integers, capped, and read without a lock.

Only the writer's thread adds. A scrape in another thread copies each list in one step of the interpreter (list.copy,
list(dict.values())), so it sees every label set as it was between two additions and holds up nobody.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter

from costd.domain.money import usd_text
from costd.domain.rollup import LATENCY_BOUNDS_MS, ROLLUP_AMOUNTS, LabelledLatencies, LabelledTotals, Sums
from costd.domain.series import Series
from costd.metrics.exposition import family, label_text

#: The value of every label of the series that label sets beyond the cap are summed up in.
OTHER = "other"

TOKEN_TYPES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}

COST = "costd_cost_usd_total"
TOKENS = "costd_tokens_total"
REQUESTS = "costd_requests_total"
UNPRICED = "costd_unpriced_requests_total"
UNRATED = "costd_unrated_requests_total"
LATENCY = "costd_request_latency_seconds"
OVERFLOW = "costd_metric_overflow_total"

_AT = {name: place for place, name in enumerate(ROLLUP_AMOUNTS)}
_REQUESTS, _COST, _UNPRICED = _AT["requests"], _AT["cost_nano"], _AT["unpriced"]
_UNRATED, _LATENCY = _AT["unrated"], _AT["latency_ms"]
_BUCKETS = (*(str(bound_ms / 1000) for bound_ms in LATENCY_BOUNDS_MS), "+Inf")

Shown = tuple[str, list[int]]


class _LabelSet:
    """The sums of one label set: ROLLUP_AMOUNTS, and how many latencies fell into each bucket."""

    __slots__ = ("amounts", "buckets", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.amounts = [0] * len(ROLLUP_AMOUNTS)
        self.buckets = [0] * len(_BUCKETS)

    def add(self, amounts: Sequence[int], latencies_ms: Sequence[int]) -> None:
        # A slice assigned from a map of a C function is one step for other threads: they see all of it or nothing.
        self.amounts[:] = map(int.__add__, self.amounts, amounts)
        if latencies_ms:
            buckets = self.buckets
            for latency_ms in latencies_ms:
                buckets[bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1


class UsageByLabels:
    """Cost, tokens, requests and latency by label set, at most `max_series` series a metric, `other` included.

    Label sets get series of their own in the order in which the ledger first saw them: by the lowest number among
    their series. load() brings back the same ones, so a restart moves nothing between a label set and `other`, which
    would look like a counter that went backwards.
    """

    def __init__(self, labels: Sequence[str], max_series: int) -> None:
        self._labels = tuple(labels)
        self._labels_of = _picker(self._labels)
        #: Label sets with series of their own; of metrics with one series each, and of tokens with one a type.
        self._max_sets = max(0, max_series - 1)
        self._max_token_sets = max(0, max_series // len(TOKEN_TYPES) - 1)
        other = (OTHER,) * len(self._labels)
        self._other = _LabelSet(label_text(self._labels, other))
        #: `other` comes first: a caller's own "other" goes there as well, without counting as overflow.
        self._sets = {other: self._other}
        self._overflow = 0

    # -- written ----------------------------------------------------------------------------------------------------

    def load(self, totals: Iterable[LabelledTotals], latencies: Iterable[LabelledLatencies]) -> None:
        """Continue from what the ledger holds, totals in the order they were first seen; before the first add()."""
        for total in totals:
            self._admit(total.labels, total.amounts[_REQUESTS]).add(total.amounts, ())
        for entry in latencies:
            self._sets.get(entry.labels, self._other).buckets[entry.bucket] += entry.events

    def add(self, sums: Iterable[Sums]) -> None:
        """Add what one transaction brought."""
        sets, labels_of = self._sets, self._labels_of
        unknown = []
        for entry in sums:
            held = sets.get(labels_of(entry.series))
            if held is None:
                unknown.append(entry)
            else:
                held.add(entry.amounts, entry.latencies_ms)
        unknown.sort(key=lambda entry: entry.series_id)
        for entry in unknown:
            held = self._admit(labels_of(entry.series), entry.amounts[_REQUESTS])
            held.add(entry.amounts, entry.latencies_ms)

    def _admit(self, labels: tuple[str, ...], requests: int) -> _LabelSet:
        held = self._sets.get(labels)
        if held is None:
            if len(self._sets) > self._max_sets:
                self._overflow += requests
                return self._other
            held = self._sets[labels] = _LabelSet(label_text(self._labels, labels))
        return held

    # -- shown ------------------------------------------------------------------------------------------------------

    def expose(self) -> Iterator[bytes]:
        """Every family in Prometheus' text format, in pieces."""
        other, *own = [(held.text, held.amounts.copy(), held.buckets.copy()) for held in list(self._sets.values())]
        overflow = self._overflow
        shown: list[Shown] = [(text, amounts) for text, amounts, _ in own]
        tail = shown[self._max_token_sets :]
        token_sets = shown[: self._max_token_sets]
        folded = [sum(column) for column in zip(other[1], *(amounts for _, amounts in tail), strict=True)]
        if folded[_REQUESTS]:
            token_sets.append((other[0], folded))
        if other[1][_REQUESTS]:
            own.append(other)
            shown.append(other[:2])
        yield from family(COST, "counter", "Cost of accepted records that have a price, in USD.", _costs(shown))
        yield from family(
            TOKENS,
            "counter",
            "Tokens of accepted records; input and output contain the other types.",
            _tokens(token_sets),
        )
        for name, text, at in _COUNTS:
            yield from family(name, "counter", text, _counts(name, shown, at))
        yield from family(LATENCY, "histogram", "Latency of calls, as their callers measured it.", _latencies(own))
        yield from self._overflows(overflow, overflow + sum(amounts[_REQUESTS] for _, amounts in tail))

    def _overflows(self, records: int, of_tokens: int) -> Iterator[bytes]:
        lines = [f'{OVERFLOW}{{metric="{name}"}} {records}\n' for name in (COST, REQUESTS, UNPRICED, UNRATED, LATENCY)]
        lines.append(f'{OVERFLOW}{{metric="{TOKENS}"}} {of_tokens}\n')
        text = 'Records that a metric counts in its series "other" because it has all the series it may have.'
        return family(OVERFLOW, "counter", text, lines)


_COUNTS = (
    (REQUESTS, "Accepted records.", _REQUESTS),
    (UNPRICED, "Accepted records that no price matched.", _UNPRICED),
    (UNRATED, "Accepted records with a unit that their price has no rate for.", _UNRATED),
)


def _picker(labels: tuple[str, ...]) -> Callable[[Series], tuple[str, ...]]:
    """What takes the values of `labels` out of a series."""
    places = [Series._fields.index(name) for name in labels]
    if len(places) > 1:
        return itemgetter(*places)
    return lambda series: tuple(str(series[place]) for place in places)


def _costs(shown: Iterable[Shown]) -> Iterator[str]:
    for text, amounts in shown:
        # Nothing priced has no cost: not even one of 0.
        if amounts[_REQUESTS] > amounts[_UNPRICED]:
            yield f"{COST}{{{text}}} {usd_text(amounts[_COST])}\n"


def _tokens(shown: Iterable[Shown]) -> Iterator[str]:
    types = [(name, _AT[amount]) for name, amount in TOKEN_TYPES.items()]
    for text, amounts in shown:
        for name, at in types:
            yield f'{TOKENS}{{{text}type="{name}"}} {amounts[at]}\n'


def _counts(name: str, shown: Iterable[Shown], at: int) -> Iterator[str]:
    return (f"{name}{{{text}}} {amounts[at]}\n" for text, amounts in shown)


def _latencies(shown: Iterable[tuple[str, list[int], list[int]]]) -> Iterator[str]:
    for text, amounts, buckets in shown:
        count = sum(buckets)
        if not count:
            continue
        head = f'{LATENCY}_bucket{{{text}le="'
        lines = [f'{head}{bound}"}} {seen}\n' for bound, seen in zip(_BUCKETS, accumulate(buckets), strict=True)]
        lines.append(f"{LATENCY}_sum{{{text}}} {amounts[_LATENCY] / 1000}\n{LATENCY}_count{{{text}}} {count}\n")
        yield "".join(lines)
