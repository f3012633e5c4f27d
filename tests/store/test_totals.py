"""Totals: what the ledger has ever held stays exact through folding, late records, retention and restarts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from costd.clock import ManualClock
from costd.domain.rollup import LATENCY_BOUNDS_MS
from costd.store import connection as database
from costd.store.commit import Change
from costd.store.integrity import check_ledger
from costd.store.ledger import EventDraft
from costd.store.retention import RetentionLimits, retain
from costd.store.totals import count_latencies, fold_rollups, load_latencies, load_totals, store_latencies
from costd.store.writer import Writer
from ledger import DAY_MS, HOUR_MS, NOW_MS, draft, record, series, writing

LABELS = ("team", "model")
LIMITS = RetentionLimits(45 * DAY_MS, 60 * DAY_MS, 300_000)

Held = dict[tuple[str, ...], tuple[list[int], dict[int, int]]]


class Expected:
    """Everything ever recorded, added up the plain way."""

    def __init__(self) -> None:
        self.held: Held = {}

    def add(self, one: EventDraft) -> None:
        amounts, latencies = self.held.setdefault((one.series.team, one.series.model), ([0] * 12, {}))
        cost, latency_ms = one.cost_nano, one.latency_ms
        more = [1, one.series.status == "error", one.input_tokens, one.output_tokens, 0, 0, 0]
        more += [cost or 0, cost is None, one.unrated, latency_ms or 0, latency_ms is not None]
        amounts[:] = [a + int(b) for a, b in zip(amounts, more, strict=True)]
        if latency_ms is not None:
            bucket = sum(1 for bound_ms in LATENCY_BOUNDS_MS if bound_ms < latency_ms)
            latencies[bucket] = latencies.get(bucket, 0) + 1


def loaded(path: Path) -> Held:
    connection = database.connect(path)
    try:
        held: Held = {entry.labels: (list(entry.amounts), {}) for entry in load_totals(connection, LABELS)}
        for entry in load_latencies(connection, LABELS):
            held[entry.labels][1][entry.bucket] = entry.events
    finally:
        connection.close()
    return held


def checked(path: Path) -> list[str]:
    connection = database.connect(path)
    try:
        return check_ledger(connection).findings
    finally:
        connection.close()


def change(writer: Writer, apply: Any) -> Any:
    return writer.submit(Change(apply)).wait(20)


def fold_latencies(writer: Writer) -> None:
    connection = database.connect(writer.path)
    counts = count_latencies(connection)
    connection.close()
    change(writer, lambda commit: store_latencies(commit, counts))
    # Told twice, as by an upkeep that was interrupted: it counts once.
    change(writer, lambda commit: store_latencies(commit, counts))


def some_draft(rng: random.Random, now_ms: int) -> EventDraft:
    unrated = rng.random() < 0.2
    age_ms = rng.choice((0, 0, rng.randrange(4 * HOUR_MS), rng.randrange(35 * DAY_MS)))
    return draft(
        series=series(
            team=f"t{rng.randrange(3)}",
            model=f"m{rng.randrange(4)}",
            user=f"u{rng.randrange(9)}",
            status=rng.choice(("success", "error")),
        ),
        at_ms=now_ms - age_ms,
        input_tokens=rng.randrange(10**9),
        cost_nano=rng.choice((None, 0, 999_999_999, rng.randrange(10**15))),
        latency_ms=rng.choice((None, 0, 100, 101, rng.randrange(200_000))),
        unrated=unrated,
        extra='{"unrated":["images"]}' if unrated else None,
    )


@pytest.mark.parametrize("seed", range(6))
def test_totals_stay_exact_through_folding_late_records_retention_and_restarts(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    clock = ManualClock(NOW_MS)
    expected = Expected()
    removed = 0
    for _ in range(4):  # restarts
        with writing(tmp_path, clock) as writer:
            for _ in range(12):
                drafts = [some_draft(rng, clock.now_ms()) for _ in range(rng.randrange(20))]
                record(writer, *drafts)
                for one in drafts:
                    expected.add(one)
                clock.advance(rng.choice((10, 1_800, 6 * 86_400)))
                if rng.random() < 0.5:
                    change(writer, fold_rollups)
                if rng.random() < 0.5:
                    fold_latencies(writer)
                if rng.random() < 0.3:
                    step = change(writer, lambda commit: retain(commit, LIMITS))
                    removed += step.rollups + step.events
                assert loaded(writer.path) == expected.held
                assert checked(writer.path) == []
    assert removed


def test_retention_first_folds_what_it_deletes(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        record(writer, *(draft(at_ms=NOW_MS - n * HOUR_MS, latency_ms=n) for n in range(50)))
        before = loaded(writer.path)
        clock.advance(100 * 86_400)
        record(writer, draft(at_ms=clock.now_ms(), series=series(team="another")))
        while not change(writer, lambda commit: retain(commit, LIMITS)).done:
            pass
        connection = database.connect(writer.path)
        assert connection.execute("SELECT count(*) FROM rollup").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (1,)
        connection.close()
        after = loaded(writer.path)
        assert {labels: after[labels] for labels in before} == before


def test_a_record_and_the_folding_of_its_hour_may_share_a_transaction(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock, started=False) as writer:
        expected = Expected()
        for one in (draft(at_ms=NOW_MS - 9 * HOUR_MS), draft(at_ms=NOW_MS - 8 * HOUR_MS)):
            expected.add(one)
            writer.submit_event(one, lambda stored: stored)
        tickets = [writer.submit(Change(fold_rollups)) for _ in range(2)]
        writer.start()
        for ticket in tickets:
            ticket.wait(20)
        late = draft(at_ms=NOW_MS - 9 * HOUR_MS)
        expected.add(late)
        assert change(writer, fold_rollups) == 2
        stored = writer.submit_event(late, lambda stored: stored)
        change(writer, fold_rollups)
        stored.wait(20)
        assert loaded(writer.path) == expected.held


def test_label_sets_come_in_the_order_in_which_they_were_first_seen(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    models = [f"m{number}" for number in (7, 3, 9, 1)]
    with writing(tmp_path, clock) as writer:
        for model in models:
            record(writer, draft(series=series(model=model)))
        clock.advance(86_400)
        change(writer, fold_rollups)
        for model in sorted(models):
            record(writer, draft(series=series(model=model, user="later"), at_ms=clock.now_ms()))
        connection = database.connect(writer.path)
        assert [entry.labels for entry in load_totals(connection, ["model"])] == [(model,) for model in models]
        connection.close()


@pytest.mark.parametrize("damage", ["DELETE FROM series_total", "UPDATE series_total SET requests = requests - 1"])
def test_the_check_finds_totals_that_fall_short(damage: str, tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        record(writer, draft(at_ms=NOW_MS - 9 * HOUR_MS))
        change(writer, fold_rollups)
        change(writer, lambda commit: commit.connection.execute(damage).rowcount)
        assert checked(writer.path) == ["the total of series 1 is less than its rollups"]


def test_an_empty_ledger_has_no_totals(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        connection = database.connect(writer.path)
        assert list(load_totals(connection, [])) == []
        assert list(load_totals(connection, LABELS)) == []
        connection.close()
