"""Usage by label set: exact sums, a cap that never moves anything, text that Prometheus reads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from costd.domain.rollup import LATENCY_BOUNDS_MS, LabelledLatencies, LabelledTotals, Sums
from costd.metrics.usage import OTHER, UsageByLabels
from ledger import series

NANO = 1_000_000_000
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def sums(number: int, *latencies_ms: int, cost_nano: int = 1, requests: int = 1, **dimensions: Any) -> Sums:
    """What a transaction brought of series `number`."""
    amounts = [requests, 0, 10, 5, 2, 0, 0, cost_nano, 0, 0, sum(latencies_ms), len(latencies_ms)]
    return Sums(number, series(**dimensions), amounts, list(latencies_ms))


def text_of(usage: UsageByLabels) -> str:
    return b"".join(usage.expose()).decode()


def samples(usage: UsageByLabels) -> Samples:
    """{(name, labels): value} of everything shown; fails where a series is shown twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(text_of(usage)):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is shown twice"
            found[key] = sample.value
    return found


def value(usage: UsageByLabels, name: str, **labels: str) -> float | None:
    return samples(usage).get((name, frozenset(labels.items())))


def series_of(usage: UsageByLabels, name: str) -> int:
    return sum(1 for shown, _ in samples(usage) if shown == name)


def test_a_cost_is_shown_to_the_nano_dollar_however_large() -> None:
    usage = UsageByLabels(["model"], 10)
    for cost_nano in (1, 10**18, 2):
        usage.add([sums(1, cost_nano=cost_nano)])
    line = next(line for line in text_of(usage).splitlines() if line.startswith("costd_cost_usd_total{"))
    assert line.split()[-1] == "1000000000.000000003"


def test_what_has_no_price_shows_no_cost_at_all() -> None:
    usage = UsageByLabels(["model"], 10)
    usage.add([Sums(1, series(model="mystery"), [2, 0, 10, 5, 0, 0, 0, 0, 2, 0, 0, 0], [])])
    assert value(usage, "costd_cost_usd_total", model="mystery") is None
    assert value(usage, "costd_unpriced_requests_total", model="mystery") == 2


def test_latencies_fall_into_cumulative_buckets() -> None:
    usage = UsageByLabels(["model"], 10)
    usage.add([sums(1, 0, 100, 101, 120_001)])
    name = "costd_request_latency_seconds"
    assert value(usage, f"{name}_bucket", model="gpt-4o", le="0.1") == 2
    assert value(usage, f"{name}_bucket", model="gpt-4o", le="0.25") == 3
    assert value(usage, f"{name}_bucket", model="gpt-4o", le="120.0") == 3
    assert value(usage, f"{name}_bucket", model="gpt-4o", le="+Inf") == 4
    assert value(usage, f"{name}_count", model="gpt-4o") == 4
    assert value(usage, f"{name}_sum", model="gpt-4o") == 120.202


def test_no_metric_has_more_series_than_the_cap_and_the_rest_is_in_other_and_counted() -> None:
    usage = UsageByLabels(["model", "team"], 10)
    usage.add([sums(n, 5, model=f"m{n}", team="t") for n in range(30)])
    for name in ("costd_cost_usd_total", "costd_requests_total", "costd_request_latency_seconds_count"):
        assert series_of(usage, name) == 10
        assert value(usage, name, model=OTHER, team=OTHER) == pytest.approx(21 if "cost_usd" not in name else 21 / NANO)
    assert series_of(usage, "costd_tokens_total") == 10
    assert value(usage, "costd_tokens_total", model=OTHER, team=OTHER, type="input") == 290
    overflow = {metric: value(usage, "costd_metric_overflow_total", metric=metric) for metric in METRICS}
    assert overflow == dict.fromkeys(METRICS, 21) | {"costd_tokens_total": 29}


METRICS = (
    "costd_cost_usd_total",
    "costd_tokens_total",
    "costd_requests_total",
    "costd_unpriced_requests_total",
    "costd_unrated_requests_total",
    "costd_request_latency_seconds",
)


def test_a_caller_who_says_other_joins_other_and_is_no_overflow() -> None:
    usage = UsageByLabels(["model"], 3)
    usage.add([sums(1, model=OTHER), sums(2, model="a"), sums(3, model="b"), sums(4, model="c")])
    assert value(usage, "costd_requests_total", model=OTHER) == 2
    assert value(usage, "costd_metric_overflow_total", metric="costd_requests_total") == 1


@pytest.mark.parametrize("labels", [(), ("model",), ("model", "team", "user")])
def test_any_number_of_labels_will_do(labels: Sequence[str]) -> None:
    usage = UsageByLabels(labels, 10)
    usage.add([sums(1, 5, cost_nano=NANO)])
    assert sum(v for (name, _), v in samples(usage).items() if name == "costd_cost_usd_total") == 1


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20, unique=True))
def test_labels_of_any_text_are_read_back_as_they_were(models: list[str]) -> None:
    sound = {model.encode("utf-8", "replace").decode() for model in models}
    usage = UsageByLabels(["model"], 100)
    usage.add([sums(n, model=model) for n, model in enumerate(sorted(sound))])
    # The parser takes characters like \x1c for line ends of its own; Prometheus knows only \n.
    shown = [line for line in text_of(usage).split("\n") if line.startswith("costd_requests_total{")]
    read = {line.split('model="', 1)[1].rsplit('",}', 1)[0] for line in shown}
    assert {
        text.replace("\\\\", "\0").replace("\\n", "\n").replace('\\"', '"').replace("\0", "\\") for text in read
    } == {model.replace("\0", "\\") for model in sound}


def test_a_lone_surrogate_does_not_take_the_page_with_it() -> None:
    usage = UsageByLabels(["model"], 10)
    usage.add([sums(1, model="a\ud800b")])
    assert value(usage, "costd_requests_total", model="a?b") == 1


class Ledger:
    """What a ledger would answer: sums by series, in order of their numbers."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self.sums: dict[int, Sums] = {}

    def add(self, entry: Sums) -> None:
        held = self.sums.get(entry.series_id, Sums(entry.series_id, entry.series, [0] * 12, []))
        amounts = [a + b for a, b in zip(held.amounts, entry.amounts, strict=True)]
        self.sums[entry.series_id] = held._replace(amounts=amounts, latencies_ms=held.latencies_ms + entry.latencies_ms)

    def _values(self, entry: Sums) -> tuple[str, ...]:
        return tuple(getattr(entry.series, name) for name in self._labels)

    def totals(self) -> Iterable[LabelledTotals]:
        by_labels: dict[tuple[str, ...], list[int]] = {}
        for _, entry in sorted(self.sums.items()):
            held = by_labels.setdefault(self._values(entry), [0] * 12)
            held[:] = [a + b for a, b in zip(held, entry.amounts, strict=True)]
        return [LabelledTotals(*item) for item in by_labels.items()]

    def latencies(self) -> Iterable[LabelledLatencies]:
        for entry in self.sums.values():
            for latency_ms in entry.latencies_ms:
                bucket = sum(1 for bound_ms in LATENCY_BOUNDS_MS if bound_ms < latency_ms)
                yield LabelledLatencies(self._values(entry), bucket, 1)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 200_000)), max_size=6), max_size=12),
    st.integers(1, 25),
)
def test_a_restart_at_any_moment_changes_nothing(commits: list[list[tuple[int, int]]], cap: int) -> None:
    """Whichever series came in whichever order, what is loaded shows exactly what was shown before."""
    labels = ["model", "team"]
    running, ledger = UsageByLabels(labels, cap), Ledger(labels)
    numbers: dict[int, int] = {}
    for commit in commits:
        brought = []
        for shape, latency_ms in commit:
            number = numbers.setdefault(shape, len(numbers) + 1)
            brought.append(sums(number, latency_ms, model=f"m{shape % 7}", team=f"t{shape % 3}", user=f"u{shape}"))
        for entry in brought:
            ledger.add(entry)
        running.add(reversed(brought))  # the order within a commit must not matter
        restarted = UsageByLabels(labels, cap)
        restarted.load(ledger.totals(), ledger.latencies())
        assert text_of(restarted) == text_of(running)


def test_the_sum_over_all_series_is_the_ledgers_whatever_the_cap() -> None:
    usage = UsageByLabels(["model"], 7)
    for n in range(100):
        usage.add([sums(n, model=f"m{n % 40}", cost_nano=10**9 + n)])
    shown = [line.split()[-1] for line in text_of(usage).splitlines() if line.startswith("costd_cost_usd_total{")]
    assert sum(map(Decimal, shown)) * NANO == sum(10**9 + n for n in range(100))


def test_a_scrape_beside_the_writer_sees_every_label_set_between_two_additions_and_never_less() -> None:
    usage = UsageByLabels(["model"], 100)
    done = threading.Event()

    def write() -> None:
        brought = [sums(n, 5, model=f"m{n}") for n in range(40)]
        while not done.is_set():
            usage.add(brought)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        before: Samples = {}
        for _ in range(30):
            now = samples(usage)
            for (name, labels), shown in now.items():
                assert shown >= before.get((name, labels), 0)
                if name == "costd_requests_total":
                    of_type = {kind: labels | {("type", kind)} for kind in ("input", "output")}
                    tokens = {kind: now.get(("costd_tokens_total", held)) for kind, held in of_type.items()}
                    assert tokens in ({"input": 10 * shown, "output": 5 * shown}, {"input": None, "output": None})
            before = now
    finally:
        done.set()
        thread.join()
