"""Metrics as a whole: told by the writer and the services what happens, and read by Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from costd import __version__
from costd.domain.errors import CostdError
from costd.domain.link import LinkReport
from costd.domain.rollup import AdjustmentCounts, LabelledLatencies, LabelledTotals, Sums
from costd.metrics.budgets import (
    NO_BUDGETS,
    AlertReadings,
    BudgetMetrics,
    BudgetReadings,
    ReservationReadings,
    alert_gauges,
    expose,
    reservation_families,
)
from costd.metrics.counters import Counter, Histogram, MoneyCounter
from costd.metrics.forwarding import ForwardingMetrics, HubMetrics
from costd.metrics.gauges import Readings, gauges
from costd.metrics.proxy import ProxyMetrics
from costd.metrics.road import SourceReading, link_gauges, source_gauges
from costd.metrics.usage import UsageByLabels

#: A commit is one fsync: tenths of a millisecond on a good disk, seconds on one in trouble.
_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
#: The door of proxied calls, whose request ids are costd's or the provider's own.
_PROXY = "proxy"
_COMMIT_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


class Metrics(Collector):
    """Every metric of the daemon. Safe to call from any thread; nothing here waits or raises."""

    def __init__(self, labels: Sequence[str], max_series: int) -> None:
        self._readings: Callable[[], Readings] | None = None
        self._link: Callable[[], LinkReport | None] = _nothing
        self._sources: Callable[[], Sequence[SourceReading]] = tuple
        self._price_version: Callable[[], str] = str
        self._budgets: Callable[[], BudgetReadings] = _no_budgets
        self._reservations: Callable[[], ReservationReadings] = _no_reservations
        self._alerts: Callable[[], AlertReadings] = _no_alerts
        self._usage = UsageByLabels(labels, max_series)
        self._accepted = Counter("costd_records_accepted", "Records written, by door.", ("door",))
        self._duplicate = Counter("costd_records_duplicate", "Records that were already held, by door.", ("door",))
        self._rejected = Counter("costd_records_rejected", "Records refused.", ("door", "reason"))
        self._unmapped = Counter(
            "costd_unmapped_tiers", "Records with a service tier that no price knows, priced at standard."
        )
        self._adjustments = Counter("costd_adjustments", "Corrections of records, ever.", ("kind",))
        self._adjusted = MoneyCounter(
            "costd_adjusted_cost_usd",
            "By how much corrections raised and lowered costs, ever, in USD.",
            ("kind", "direction"),
        )
        self._failed = Counter("costd_commits_failed", "Transactions that the storage refused.")
        self._commit_seconds = Histogram(
            "costd_commit_duration_seconds", "Time of COMMIT with its fsync.", _COMMIT_SECONDS
        )
        self._commit_records = Histogram("costd_commit_records", "Records in a transaction.", _COMMIT_RECORDS)
        self.forwarding = ForwardingMetrics()
        self.hub = HubMetrics()
        self.budgets = BudgetMetrics()
        self.proxy = ProxyMetrics()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    @property
    def accepted(self) -> int:
        """Records and month entries written since the start."""
        return self._accepted.total()

    @property
    def duplicates(self) -> int:
        """Records since the start that were already held."""
        return self._duplicate.total()

    @property
    def rejections(self) -> int:
        """Records refused since the start."""
        return self._rejected.total()

    # -- told by the writer -----------------------------------------------------------------------------------------

    def load_usage(self, totals: Iterable[LabelledTotals], latencies: Iterable[LabelledLatencies]) -> None:
        """Let the usage counters continue from what the ledger holds; before the first record."""
        self._usage.load(totals, latencies)

    def committed(self, sums: Sequence[Sums], tally: Mapping[tuple[str, str], int], duration_s: float) -> None:
        """A transaction is durable; `tally` counts its records by (door, outcome)."""
        records = 0
        for (door, outcome), count in tally.items():
            if outcome == "accepted":
                records += count
                self._accepted.add((door,), count)
            elif outcome == "duplicate" or (door == _PROXY and outcome == "conflict"):
                # Whoever fetches a result again takes another time for it: nobody sent anything wrong.
                self.duplicate(door, count)
            else:
                self.rejected(door, outcome, count)
        if records:
            self._commit_records.observe(records)
        self._commit_seconds.observe(duration_s)
        self._usage.add(sums)

    def adjusted(self, adjustments: AdjustmentCounts) -> None:
        """Corrections are durable, or were when the daemon started."""
        for kind, count in adjustments.counts.items():
            self._adjustments.add((kind,), count)
            self._adjusted.add((kind, "up"), adjustments.up_nano[kind])
            self._adjusted.add((kind, "down"), adjustments.down_nano[kind])

    def commit_failed(self, doors: Sequence[str]) -> None:
        """A transaction was refused by the storage; `doors` are those of its records."""
        self._failed.add((), 1)
        for door in doors:
            self.rejected(door, "storage")

    # -- told by the services ---------------------------------------------------------------------------------------

    def entry(self, door: str, *, duplicate: bool) -> None:
        """A month entry was written, or recognised as already held."""
        if duplicate:
            self.duplicate(door)
        else:
            self._accepted.add((door,), 1)

    def duplicate(self, door: str, count: int = 1) -> None:
        """Records were recognised as already held."""
        self._duplicate.add((door,), count)

    def rejected(self, door: str, reason: str, count: int = 1) -> None:
        """Records were refused."""
        self._rejected.add((door, reason), count)

    def unmapped_tier(self) -> None:
        """A provider named a service tier that no price knows."""
        self._unmapped.add((), 1)

    # -- read by Prometheus -----------------------------------------------------------------------------------------

    def read_gauges_from(self, readings: Callable[[], Readings]) -> None:
        """Ask `readings` for the gauges at every scrape."""
        self._readings = readings

    def read_link_from(self, link: Callable[[], LinkReport | None]) -> None:
        """Ask `link` for the road to the hub at every scrape."""
        self._link = link

    def read_sources_from(self, sources: Callable[[], Sequence[SourceReading]]) -> None:
        """Ask `sources` for the sources of this hub at every scrape."""
        self._sources = sources

    def read_budgets_from(
        self,
        budgets: Callable[[], BudgetReadings],
        reservations: Callable[[], ReservationReadings],
    ) -> None:
        """Ask these for budgets and for what calls have reserved of them, at every scrape."""
        self._budgets, self._reservations = budgets, reservations

    def read_alerts_from(self, alerts: Callable[[], AlertReadings]) -> None:
        """Ask `alerts` for what waits to be delivered, at every scrape."""
        self._alerts = alerts

    def read_price_version_from(self, version: Callable[[], str]) -> None:
        """Ask `version` for the version of the price list at every scrape."""
        self._price_version = version

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        budgets = NO_BUDGETS
        with contextlib.suppress(CostdError):
            budgets = self._budgets()
        return b"".join([*self._usage.expose(), *expose(budgets), generate_latest(self._registry)])

    def collect(self) -> Iterable[Metric]:
        """The metrics of the process, as they are now."""
        for held in vars(self).values():
            if isinstance(held, Counter | Histogram):
                yield held.family()
        yield from self.forwarding.families()
        yield from self.hub.families()
        yield from self.budgets.families()
        yield from self.proxy.families()
        yield from reservation_families(self._reservations())
        build = GaugeMetricFamily("costd_build_info", "1, with what runs.", labels=("version", "prices"))
        build.add_metric((__version__, self._price_version()), 1)
        yield build
        if self._readings is not None:
            yield from gauges(self._readings())
        yield from self._road()
        alerts = _no_alerts()
        with contextlib.suppress(CostdError):
            alerts = self._alerts()
        yield from alert_gauges(alerts)

    def _road(self) -> Iterator[Metric]:
        link: LinkReport | None = None
        sources: Sequence[SourceReading] = ()
        # A ledger that cannot be read is told by other metrics, which must not go with these.
        with contextlib.suppress(CostdError):
            link, sources = self._link(), self._sources()
        yield from link_gauges(link, sources)
        yield from source_gauges(sources)


def _nothing() -> None:
    return None


def _no_budgets() -> BudgetReadings:
    return NO_BUDGETS


def _no_reservations() -> ReservationReadings:
    return ReservationReadings(0, 0, 0)


def _no_alerts() -> AlertReadings:
    return AlertReadings({}, None)
