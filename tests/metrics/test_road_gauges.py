"""Gauges of the road to the hub: nothing is made up, and a fleet of any size has a bounded page."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from costd.domain.link import AWAY, CONNECTED, FORGOTTEN, NEVER, LinkReport
from costd.metrics.road import MAX_SOURCES, SourceReading, link_gauges, source_gauges

LINK = LinkReport("hub:7432", CONNECTED, hub_version="0.2.0", clock_skew_ms=-1500, quarantined=3)


def shown(families: Iterable[Metric]) -> dict[str, dict[str, float]]:
    """{name: {label: value}} of every sample."""
    return {
        family.name: {"".join(sample.labels.values()): sample.value for sample in family.samples} for family in families
    }


def source(number: int, state: str = CONNECTED, seen_ms: int | None = 5_000) -> SourceReading:
    return SourceReading(number, f"s{number}", state, number, seen_ms, 250, quarantined=1, lost=10)


def test_without_a_hub_nothing_is_said_of_one() -> None:
    found = shown(link_gauges(None, []))
    assert found.pop("costd_quarantined_records") == {"": 0}
    assert set(map(len, found.values())) == {0}


def test_what_has_not_happened_is_absent() -> None:
    found = shown(link_gauges(LinkReport("hub:7432"), []))
    assert (found["costd_hub_connected"], found["costd_unforwarded_records"]) == ({"": 0}, {"": 0})
    assert found["costd_oldest_unforwarded_timestamp_seconds"] == {}
    assert found["costd_hub_clock_skew_seconds"] == {}, "it was never measured"
    found = shown(link_gauges(LINK._replace(oldest_unforwarded_ms=2_500, unforwarded_records=7), []))
    assert found["costd_oldest_unforwarded_timestamp_seconds"] == {"": 2.5}
    assert (found["costd_hub_connected"], found["costd_hub_clock_skew_seconds"]) == ({"": 1}, {"": -1.5})
    assert found["costd_quarantined_records"] == {"": 3}


def test_a_hub_shows_its_sources_but_not_what_it_cannot_know() -> None:
    sources = [source(1), source(2, AWAY), source(3, NEVER, None), source(4, FORGOTTEN)]
    found = shown(source_gauges(sources))
    assert found["costd_sources"] == {CONNECTED: 1, AWAY: 1, NEVER: 1, FORGOTTEN: 1}
    assert found["costd_source_lag_records"] == {"s1": 1}
    assert found["costd_source_last_seen_timestamp_seconds"] == {"s1": 5, "s2": 5}
    assert found["costd_source_clock_skew_seconds"] == {"s1": 0.25, "s2": 0.25}
    assert found["costd_hub_lost_sequence_numbers"] == {"": 40}
    assert shown(link_gauges(None, sources))["costd_quarantined_records"] == {"": 4}


def test_the_oldest_sources_have_series_and_the_rest_is_counted() -> None:
    fleet = [source(number) for number in range(MAX_SOURCES + 3, 0, -1)]
    found = shown(source_gauges(fleet))
    assert set(found["costd_source_lag_records"]) == {f"s{number}" for number in range(1, MAX_SOURCES + 1)}
    assert found["costd_source_overflow"] == {"": 3}
