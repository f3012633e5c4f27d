"""Gauges of the road between sidecar and hub, at each of its ends, read when Prometheus asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from costd.domain.link import AWAY, CONNECTED, FORGOTTEN, NEVER, LinkReport

#: Sources with series of their own: the oldest, so that none ever changes over. A fleet past this has several hubs.
MAX_SOURCES = 2_000


class SourceReading(NamedTuple):
    """A source as its hub sees it; `seen_ms` is UTC milliseconds, None where it never came."""

    number: int
    name: str
    state: str
    lag_records: int
    seen_ms: int | None
    clock_skew_ms: int
    quarantined: int
    lost: int


def link_gauges(link: LinkReport | None, sources: Sequence[SourceReading]) -> Iterator[Metric]:
    """A sidecar's; without a hub they have no series. What was set aside is counted at both ends, by the same name."""
    quarantined = link.quarantined if link is not None else sum(source.quarantined for source in sources)
    for name, text, value in (
        ("costd_hub_connected", "1 while the hub is connected, else 0.", link and int(link.state == CONNECTED)),
        ("costd_unforwarded_records", "Records that wait for the hub.", link and link.unforwarded_records),
        (
            "costd_oldest_unforwarded_timestamp_seconds",
            "When the oldest record that waits for the hub was received; absent while none waits.",
            _seconds(link and link.oldest_unforwarded_ms),
        ),
        (
            "costd_sealed_bytes",
            "Bytes of sealed batches that are not acknowledged.",
            link and link.sealed_bytes,
        ),
        (
            "costd_hub_clock_skew_seconds",
            "How far this clock is behind the hub's, since it first connected.",
            _seconds(link.clock_skew_ms) if link is not None and link.hub_version else None,
        ),
        ("costd_quarantined_records", "Records that a hub could not take and keeps apart.", quarantined),
        ("costd_lost_sequence_numbers", "Numbers of this ledger's that the hub will never get.", link and link.lost),
    ):
        family = GaugeMetricFamily(name, text)
        if value is not None:
            family.add_metric((), value)
        yield family


def source_gauges(sources: Sequence[SourceReading]) -> Iterator[Metric]:
    """A hub's; elsewhere those of single sources have no series."""
    counted = Counter(source.state for source in sources)
    by_state = GaugeMetricFamily("costd_sources", "Sources of this hub, by state.", labels=("state",))
    for state in (CONNECTED, AWAY, NEVER, FORGOTTEN):
        by_state.add_metric((state,), counted[state])
    yield by_state
    living = sorted(source for source in sources if source.state != FORGOTTEN)
    shown = living[:MAX_SOURCES]
    yield _by_source(
        "costd_source_lag_records",
        "Records that a source still holds, as it said; absent while it is not connected.",
        [(source.name, source.lag_records) for source in shown if source.state == CONNECTED],
    )
    yield _by_source(
        "costd_source_last_seen_timestamp_seconds",
        "When a source was last heard of; absent before the first time.",
        [(source.name, _seconds(source.seen_ms)) for source in shown],
    )
    yield _by_source(
        "costd_source_clock_skew_seconds",
        "How far a source's clock is behind this one.",
        [(source.name, _seconds(source.clock_skew_ms)) for source in shown if source.seen_ms is not None],
    )
    beyond, lost = len(living) - len(shown), sum(source.lost for source in sources)
    yield GaugeMetricFamily("costd_source_overflow", "Sources that have no series of their own.", value=beyond)
    yield GaugeMetricFamily(
        "costd_hub_lost_sequence_numbers", "Numbers of sources' sequences that this hub will never get.", value=lost
    )


def _by_source(name: str, text: str, values: Sequence[tuple[str, float | None]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("source",))
    for source, value in values:
        if value is not None:
            family.add_metric((source,), value)
    return family


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
