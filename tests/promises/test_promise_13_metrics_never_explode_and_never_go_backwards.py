"""Promise 13: metrics never explode and never go backwards."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import Daemon, until
from scraping import Page

NANO = 1_000_000_000
#: Records with five labels each that no other has; by half of them the caches are full.
RECORDS = 60_000
A_REQUEST = 1_000

#: What callers' inventions may cost beyond the caches, which are full by then. One label set takes about a kilobyte:
#: 30,000 of them would be 30 MB.
GROWTH_MB = 12.0


def body(rng: random.Random, number: int) -> dict[str, Any]:
    """A record with labels of its own."""
    odd = f"{rng.getrandbits(64):x}"
    return {
        "user_external_id": "u",
        "source_app": f"app-{odd}",
        "team": f'team "{odd}"',
        "project_external_id": f"p\\{odd}",
        "model": f"model-{odd}",
        "provider": f"provider-{odd}",
        "units": {"input_tokens": 3, "output_tokens": 2},
        "latency_ms": number % 7_000,
        "cost_usd": 0.000000001,
    }


def send(daemon: Daemon, records: list[dict[str, Any]]) -> None:
    answer = daemon.client.post("/v1/usage/records", content="\n".join(map(json.dumps, records)).encode())
    assert answer.status_code == 200, answer.text


def resident_mb(daemon: Daemon) -> float:
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS:"))


def test_hundreds_of_thousands_of_random_labels_stay_within_the_cap_and_within_memory(
    launch: Callable[..., Daemon],
) -> None:
    daemon = launch()
    rng = random.Random(13)
    sent, resident = 0, {}
    while sent < RECORDS:
        send(daemon, [body(rng, sent + n) for n in range(A_REQUEST)])
        sent += A_REQUEST
        if sent in {RECORDS // 2, RECORDS}:
            Page.of(daemon)
            resident[sent] = resident_mb(daemon)
    page = Page.of(daemon)
    for name in ("costd_cost_usd_total", "costd_requests_total", "costd_tokens_total"):
        assert len(page.series(name)) <= 2_000, name
        assert any('model="other"' in labels for labels in page.series(name)), name
    assert len(page.series("costd_request_latency_seconds_count")) == 2_000
    assert len(page.series("costd_newest_record_timestamp_seconds")) <= 200
    assert page.total("costd_requests_total") == RECORDS
    assert page.total("costd_cost_usd_total") * NANO == RECORDS
    assert page.total("costd_tokens_total") == 5 * RECORDS
    assert page.value("costd_metric_overflow_total", metric="costd_requests_total") == RECORDS - 1_999
    assert page.value("costd_metric_overflow_total", metric="costd_tokens_total") == RECORDS - 399
    assert resident[RECORDS] - resident[RECORDS // 2] < GROWTH_MB, resident


def ledger_totals(daemon: Daemon) -> dict[str, Decimal]:
    """What the events sum to, read straight from the database."""
    row = daemon.query(
        "SELECT count(*), coalesce(sum(cost_nano), 0), sum(cost_nano IS NULL), sum(latency_ms IS NOT NULL), "
        "sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens + reasoning_tokens) FROM event"
    )[0]
    requests, cost_nano, unpriced, timed, tokens = (Decimal(value or 0) for value in row)
    return {
        "costd_requests_total": requests,
        "costd_cost_usd_total": cost_nano / NANO,
        "costd_unpriced_requests_total": unpriced,
        "costd_request_latency_seconds_count": timed,
        "costd_tokens_total": tokens,
    }


def shown_totals(page: Page) -> dict[str, Decimal]:
    names = ("costd_requests_total", "costd_cost_usd_total", "costd_unpriced_requests_total")
    return {name: page.total(name) for name in (*names, "costd_request_latency_seconds_count", "costd_tokens_total")}


@pytest.fixture(params=["stop", "kill"])
def end(request: pytest.FixtureRequest) -> Callable[[Daemon], object]:
    """How a daemon ends: by SIGTERM or by SIGKILL."""
    return Daemon.stop if request.param == "stop" else Daemon.kill


def test_every_usage_counter_is_the_same_after_a_restart_and_the_ledgers_own(
    launch: Callable[..., Daemon], end: Callable[[Daemon], object]
) -> None:
    """Beyond the cap, too: nothing moves between a label set's own series and `other`."""
    flags = ("--metrics-max-series", "60")
    rng = random.Random(4)
    before: list[str] = []
    for _ in range(4):
        daemon = launch(*flags)
        page = Page.of(daemon)
        assert page.usage() == before or not before
        records = [body(random.Random(rng.randrange(120)), n) for n in range(200)]
        for record in records[::3]:
            del record["cost_usd"]  # unpriced
        for record in records[::5]:
            del record["latency_ms"]
        send(daemon, records)
        page = Page.of(daemon)
        assert shown_totals(page) == ledger_totals(daemon)
        before = page.usage()
        end(daemon)


def test_counters_never_go_backwards_over_a_kill_under_load(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--metrics-max-series", "60")
    seen: dict[str, Decimal] = {}
    for _ in range(3):
        with under_load(daemon):
            wait_for_records(daemon, 400)
            page = Page.of(daemon)
            check_forward(seen, page)
            daemon.kill()
        daemon = launch("--metrics-max-series", "60")
        page = Page.of(daemon)
        check_forward(seen, page)
        assert shown_totals(page) == ledger_totals(daemon)


def wait_for_records(daemon: Daemon, count: int) -> None:
    start = shown_totals(Page.of(daemon))["costd_requests_total"]
    until(lambda: shown_totals(Page.of(daemon))["costd_requests_total"] >= start + count, f"{count} records")


def check_forward(seen: dict[str, Decimal], page: Page) -> None:
    """No series is below what it was at an earlier scrape, and none is gone."""
    now = {line.rpartition(" ")[0]: Decimal(line.rpartition(" ")[2]) for line in page.usage()}
    assert {name for name, value in seen.items() if now.get(name, Decimal(-1)) < value} == set()
    seen |= now


class under_load:  # noqa: N801 - reads as what it is
    """Sends records to a daemon until the end of a `with` or of the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> under_load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)

    def _send(self) -> None:
        rng = random.Random()
        while not self._done.is_set():
            try:
                send(self._daemon, [body(random.Random(rng.randrange(120)), n) for n in range(50)])
            except (httpx.HTTPError, RuntimeError):
                return
