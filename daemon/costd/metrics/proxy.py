"""What is counted about proxied calls, by upstream and endpoint; both are names out of small sets."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from costd.metrics.counters import Counter, LabelledHistogram

_LABELS = ("upstream", "endpoint")
#: Providers begin to answer within tenths of a second, and may answer for minutes.
_ANSWER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: What costd adds: parsing, budgets, the hand-over of the record.
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)


class ProxyMetrics:
    """Proxied calls. Safe to call from any thread; nothing here waits or raises."""

    def __init__(self) -> None:
        self.requests = Counter(
            "costd_proxy_requests",
            "Proxied calls that ended, by the status of their answer.",
            (*_LABELS, "status"),
        )
        self.first_byte = LabelledHistogram(
            "costd_proxy_first_byte_seconds",
            "Time from a call to the first byte of its answer's body.",
            _LABELS,
            _ANSWER_SECONDS,
        )
        self.total = LabelledHistogram(
            "costd_proxy_duration_seconds", "Time from a call to the end of its answer.", _LABELS, _ANSWER_SECONDS
        )
        self.overhead = LabelledHistogram(
            "costd_proxy_overhead_seconds",
            "Time that costd itself took of a call before it went upstream.",
            _LABELS,
            _OVERHEAD_SECONDS,
        )
        self.upstream_errors = Counter(
            "costd_proxy_upstream_errors",
            "Calls that failed on the way to the upstream or on the way back, by reason.",
            ("upstream", "reason"),
        )
        self.incomplete = Counter("costd_proxy_incomplete", "Answers that ended early, by who left.", (*_LABELS, "by"))
        self.unmetered = Counter("costd_proxy_unmetered", "Answers that may have cost and told no usage.", _LABELS)
        self.unrecorded = Counter(
            "costd_proxy_records_retried", "Records of proxied calls that the ledger could not take at once."
        )
        self.in_flight: dict[str, int] = {}
        #: Background responses and batches that nobody has fetched yet, by upstream and endpoint.
        self.awaited: dict[tuple[str, str], int] = {}

    def families(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        for held in vars(self).values():
            if isinstance(held, Counter | LabelledHistogram):
                yield held.family()
        gauge = GaugeMetricFamily("costd_proxy_in_flight", "Proxied calls under way.", labels=["upstream"])
        for upstream, count in sorted(self.in_flight.items()):
            gauge.add_metric((upstream,), count)
        yield gauge
        awaited = GaugeMetricFamily(
            "costd_proxy_results_awaited",
            "Background responses and batches ordered here whose result nobody has fetched by way of costd.",
            labels=_LABELS,
        )
        for labels, count in sorted(self.awaited.items()):
            awaited.add_metric(labels, count)
        yield awaited
