"""Rows of /metrics at its fullest: how long a scrape takes, and what records notice of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from statistics import median

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bench.doors import CONNECTIONS
from bench.load import Job
from bench.plan import Plan
from bench.processes import Daemon, daemon, drive
from bench.report import Line
from bench.tally import Load

#: The default of metrics.max_series: more label sets than these make no longer page.
LABEL_SETS = 2_000
GOAL_MS = 50
_SCRAPES = 10
#: Far oftener than any Prometheus asks.
_EVERY_S = 1.0
_BATCH = 500


def scrape(plan: Plan) -> list[Line]:
    """GET /metrics with 2,000 series in every metric."""
    with daemon(plan.folder / "scrape") as running:
        _fill(running)
        rounds = [_scrape_ms(running) for _ in range(plan.rounds * _SCRAPES)]
        page = _scraped(running)
        ours = median(rounds)
        theirs = _library_ms(page, plan.rounds)
        quiet, scraped = [], []
        for _ in range(plan.rounds):
            quiet.append(_records(plan, running))
            with _scraping(running):
                scraped.append(_records(plan, running))
    lines = len(page.splitlines())
    how = (
        f"the whole page from asking to its last byte ({len(page) / 1e6:.1f} MB, {lines:,} lines, "
        f"p99 {sorted(rounds)[len(rounds) * 99 // 100]:.0f} ms); yardstick: prometheus_client formatting the same page"
    )
    during = f"POST /v1/usage/record, {CONNECTIONS} connections, that page scraped every second"
    p99_ms, quiet_p99_ms = (median(load.p99_ms for load in loads) for loads in (scraped, quiet))
    return [
        Line("scrape", ours, "ms", theirs, f"≤ {GOAL_MS} ms", ours <= GOAL_MS, how),
        Line(
            "scrape-records",
            median(load.rate for load in scraped),
            "/s",
            median(load.rate for load in quiet),
            "",
            None,
            f"{during}; yardstick: without scrapes",
        ),
        Line("scrape-records-p99", p99_ms, "ms", quiet_p99_ms, "≤ 25 ms", p99_ms <= 25, "the same: the slowest of 100"),
    ]


def _fill(running: Daemon) -> None:
    records = [
        {
            "user_external_id": "u",
            "source_app": f"application-{number % 40}",
            "team": f"team-{number % 7}",
            "project_external_id": f"project-{number}",
            "model": "gpt-4o",
            "units": {"input_tokens": 900 + number, "output_tokens": 300, "cache_read_tokens": 100},
            "latency_ms": 100 + number * 17,
        }
        for number in range(LABEL_SETS + 100)
    ]
    headers = {"Authorization": f"Bearer {running.key}"}
    connection = HTTPConnection("127.0.0.1", running.http_port)
    for start in range(0, len(records), _BATCH):
        connection.request("POST", "/v1/usage/records", json.dumps(records[start : start + _BATCH]), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        answer.read()
    connection.close()


def _scraped(running: Daemon) -> bytes:
    connection = HTTPConnection("127.0.0.1", running.http_port)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read()
    connection.close()
    return page


def _scrape_ms(running: Daemon) -> float:
    started_s = time.perf_counter()
    _scraped(running)
    return (time.perf_counter() - started_s) * 1000


class _Held(Collector):
    """Hands out families that are made already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _library_ms(page: bytes, rounds: int) -> float:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Held(list(text_string_to_metric_families(page.decode()))))
    taken = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        generate_latest(registry)
        taken.append((time.perf_counter() - started_s) * 1000)
    return median(taken)


def _records(plan: Plan, running: Daemon) -> Load:
    return drive(Job("http-record", running.http_port, CONNECTIONS, 1, plan.seconds, running.key), running.process.pid)


@contextmanager
def _scraping(running: Daemon) -> Iterator[None]:
    done = threading.Event()

    def scrape_until_done() -> None:
        while not done.wait(_EVERY_S):
            _scraped(running)

    thread = threading.Thread(target=scrape_until_done)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
