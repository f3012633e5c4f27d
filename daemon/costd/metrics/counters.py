"""Counters and histograms of the process itself: few series, exact, safe to call from any thread."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from costd.domain.money import NANO_PER_USD


class Counter:
    """A counter with labels whose values are few and ours (doors, reasons)."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        self._lock = threading.Lock()

    def add(self, labels: tuple[str, ...], amount: int) -> None:
        """Count `amount` more."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def total(self) -> int:
        """The sum over all labels."""
        return sum(list(self._values.values()))

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        return family


class MoneyCounter(Counter):
    """Counts nano-USD, and shows USD."""

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, nano in list(self._values.items()):
            family.add_metric(labels, nano / NANO_PER_USD)
        return family


class Histogram:
    """A histogram over fixed bounds."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count one observation."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative buckets, and the sum."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        buckets, seen = [], 0
        for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
            seen += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(seen)))
        return buckets, total

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric((), *self.buckets())
        return family


class LabelledHistogram:
    """Histograms over the same bounds, by labels whose values are few and ours."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._bounds = bounds
        self._held: dict[tuple[str, ...], Histogram] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Count one observation."""
        held = self._held.get(labels)
        if held is None:
            held = self._held.setdefault(labels, Histogram(self._name, self._text, self._bounds))
        held.observe(value)

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, held in list(self._held.items()):
            family.add_metric(labels, *held.buckets())
        return family
