"""What Prometheus sees: exact counters fed as things happen, gauges read when it asks."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from costd import __version__
from costd.domain.rollup import Sums

#: What the series beyond the cap are summed up under.
OTHER = "other"

#: A commit is one fsync: tenths of a millisecond on a good disk, seconds on one in trouble.
_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_COMMIT_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
_NANO_PER_USD = 1_000_000_000
#: Every pair of provider and model makes up to this many series in the widest metric (five kinds of tokens).
_SERIES_OF_A_MODEL = 5


class Readings(NamedTuple):
    """The gauges, as they are now; times in UTC milliseconds, None where it has not happened."""

    queued_records: int
    queued_bytes: int
    queue_max_records: int
    queue_max_bytes: int
    database_bytes: int
    wal_bytes: int
    last_commit_ms: int | None
    newest_ms: Mapping[str, int]  # by provider
    ready: bool


class _Counter:
    """A counter with labels, held as integers of a `unit`-th of what it shows."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), unit: int = 1) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._unit = unit
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        self._lock = threading.Lock()

    def add(self, labels: tuple[str, ...], amount: int) -> None:
        """Count `amount` more."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            values = list(self._values.items())
        for labels, value in values:
            family.add_metric(labels, value if self._unit == 1 else value / self._unit)
        return family


class _Histogram:
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

    def family(self) -> Metric:
        """As Prometheus wants it: cumulative buckets."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        buckets, seen = [], 0
        for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
            seen += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(seen)))
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric((), buckets, total)
        return family


class Metrics(Collector):
    """Every metric of the daemon. Safe to call from any thread; nothing here waits or raises."""

    def __init__(self, max_series: int, price_version: str = "") -> None:
        self.accepted = 0
        self.duplicates = 0
        self.rejections = 0
        self._max_models = max(1, max_series // _SERIES_OF_A_MODEL)
        self._models: set[tuple[str, str]] = set()
        self._models_lock = threading.Lock()
        self._readings: Callable[[], Readings] | None = None
        self._price_version = price_version
        model = ("provider", "model")
        self._cost = _Counter(
            "costd_cost_usd", "Cost of accepted records that have a price, in USD.", model, _NANO_PER_USD
        )
        self._tokens = _Counter(
            "costd_tokens", "Tokens of accepted records; input and output contain the other types.", (*model, "type")
        )
        self._requests = _Counter("costd_requests", "Accepted records.", (*model, "status"))
        self._unpriced = _Counter("costd_unpriced_requests", "Accepted records that no price matched.", model)
        self._unrated = _Counter(
            "costd_unrated_requests", "Accepted records with a unit that their price has no rate for.", model
        )
        self._overflow = _Counter("costd_metric_overflow", 'Records counted under the model "other" for want of room.')
        self._accepted = _Counter("costd_records_accepted", "Records written, by door.", ("door",))
        self._duplicate = _Counter("costd_records_duplicate", "Records that were already held, by door.", ("door",))
        self._rejected = _Counter("costd_records_rejected", "Records refused.", ("door", "reason"))
        self._preflights = _Counter("costd_preflights", "Preflights answered.", ("decision",))
        self._unmapped = _Counter(
            "costd_unmapped_tiers", "Records with a service tier that no price knows, priced at standard."
        )
        self._failed = _Counter("costd_commits_failed", "Transactions that the storage refused.")
        self._commit_seconds = _Histogram(
            "costd_commit_duration_seconds", "Time of COMMIT with its fsync.", _COMMIT_SECONDS
        )
        self._commit_records = _Histogram("costd_commit_records", "Records in a transaction.", _COMMIT_RECORDS)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    # -- told by the writer -----------------------------------------------------------------------------------------

    def committed(self, sums: Sequence[Sums], tally: Mapping[tuple[str, str], int], duration_s: float) -> None:
        """A transaction is durable; `tally` counts its records by (door, outcome)."""
        records = 0
        for (door, outcome), count in tally.items():
            if outcome == "accepted":
                records += count
                self._accepted.add((door,), count)
            elif outcome == "duplicate":
                self.duplicate(door, count)
            else:
                self.rejected(door, outcome, count)
        self.accepted += records
        if records:
            self._commit_records.observe(records)
        self._commit_seconds.observe(duration_s)
        for entry in sums:
            self._add(entry)

    def commit_failed(self, doors: Sequence[str]) -> None:
        """A transaction was refused by the storage; `doors` are those of its records."""
        self._failed.add((), 1)
        for door in doors:
            self.rejected(door, "storage")

    def _add(self, entry: Sums) -> None:
        requests, _, input_, output, read, write, reasoning, cost_nano, unpriced, unrated, _, _ = entry.amounts
        model = self._capped(entry.series.provider, entry.series.model, requests)
        self._requests.add((*model, entry.series.status), requests)
        tokens = (("input", input_), ("output", output), ("cache_read", read), ("cache_write", write))
        for kind, count in (*tokens, ("reasoning", reasoning)):
            if count:
                self._tokens.add((*model, kind), count)
        for counter, amount in ((self._cost, cost_nano), (self._unpriced, unpriced), (self._unrated, unrated)):
            if amount:
                counter.add(model, amount)

    def _capped(self, provider: str, model: str, requests: int) -> tuple[str, str]:
        """The labels to count under: the model's own while there is room."""
        labels = (provider, model)
        if labels in self._models:
            return labels
        with self._models_lock:
            if len(self._models) < self._max_models:
                self._models.add(labels)
                return labels
        self._overflow.add((), requests)
        return OTHER, OTHER

    # -- told by the services ---------------------------------------------------------------------------------------

    def entry(self, door: str, *, duplicate: bool) -> None:
        """A month entry was written, or recognised as already held."""
        if duplicate:
            self.duplicate(door)
        else:
            self.accepted += 1
            self._accepted.add((door,), 1)

    def duplicate(self, door: str, count: int = 1) -> None:
        """Records were recognised as already held."""
        self.duplicates += count
        self._duplicate.add((door,), count)

    def rejected(self, door: str, reason: str, count: int = 1) -> None:
        """Records were refused."""
        self.rejections += count
        self._rejected.add((door, reason), count)

    def preflight(self, decision: str) -> None:
        """A preflight was answered: "allow" or the reason it was denied for."""
        self._preflights.add((decision,), 1)

    def unmapped_tier(self) -> None:
        """A provider named a service tier that no price knows."""
        self._unmapped.add((), 1)

    # -- read by Prometheus -----------------------------------------------------------------------------------------

    def read_gauges_from(self, readings: Callable[[], Readings]) -> None:
        """Ask `readings` for the gauges at every scrape."""
        self._readings = readings

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """All metrics as they are now."""
        for held in vars(self).values():
            if isinstance(held, _Counter | _Histogram):
                yield held.family()
        build = GaugeMetricFamily("costd_build_info", "1, with what runs.", labels=("version", "prices"))
        build.add_metric((__version__, self._price_version), 1)
        yield build
        if self._readings is not None:
            yield from _gauges(self._readings())


def _gauges(now: Readings) -> Iterable[Metric]:
    for name, text, value in (
        ("costd_queue_records", "Records waiting to be written.", now.queued_records),
        ("costd_queue_bytes", "Bytes of records waiting to be written.", now.queued_bytes),
        ("costd_queue_capacity_records", "Records that may wait.", now.queue_max_records),
        ("costd_queue_capacity_bytes", "Bytes of records that may wait.", now.queue_max_bytes),
        ("costd_database_bytes", "Size of the database file.", now.database_bytes),
        ("costd_wal_bytes", "Size of the write-ahead log.", now.wal_bytes),
        ("costd_ready", "1 while records are taken, else 0.", int(now.ready)),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    last = GaugeMetricFamily("costd_last_commit_timestamp_seconds", "When the last transaction became durable.")
    if now.last_commit_ms is not None:
        last.add_metric((), now.last_commit_ms / 1000)
    yield last
    newest = GaugeMetricFamily(
        "costd_newest_record_timestamp_seconds", "When the newest record of a provider was made.", labels=("provider",)
    )
    for provider, newest_ms in sorted(now.newest_ms.items(), key=lambda item: -item[1])[:_MAX_PROVIDERS]:
        newest.add_metric((provider,), newest_ms / 1000)
    yield newest


#: There are some fifty providers; callers' inventions past that many are not shown.
_MAX_PROVIDERS = 200
