"""Gauges: what the daemon looks like at the moment Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

#: There are some fifty providers; callers' inventions past that many are not shown.
MAX_PROVIDERS = 200


class Readings(NamedTuple):
    """The gauges, as they are now; times in UTC milliseconds, None where it has not happened."""

    queued_records: int
    queued_bytes: int
    queue_max_records: int
    queue_max_bytes: int
    database_bytes: int
    database_max_bytes: int
    wal_bytes: int
    wal_max_bytes: int
    last_commit_ms: int | None
    newest_ms: Mapping[str, int]  # by provider
    ready: bool


def gauges(now: Readings) -> Iterator[Metric]:
    """Every gauge that is read at a scrape."""
    for name, text, value in (
        ("costd_queue_records", "Records waiting to be written.", now.queued_records),
        ("costd_queue_bytes", "Bytes of records waiting to be written.", now.queued_bytes),
        ("costd_queue_capacity_records", "Records that may wait.", now.queue_max_records),
        ("costd_queue_capacity_bytes", "Bytes of records that may wait.", now.queue_max_bytes),
        ("costd_database_bytes", "Size of the database file.", now.database_bytes),
        ("costd_database_capacity_bytes", "Size the database can grow to on its disk.", now.database_max_bytes),
        ("costd_wal_bytes", "Size of the write-ahead log.", now.wal_bytes),
        ("costd_wal_capacity_bytes", "Size of the log past which the writer waits for readers.", now.wal_max_bytes),
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
    for provider, newest_ms in sorted(now.newest_ms.items(), key=lambda item: -item[1])[:MAX_PROVIDERS]:
        newest.add_metric((provider,), newest_ms / 1000)
    yield newest
