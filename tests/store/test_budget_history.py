"""A budget begins with what was recorded in its windows before it was made, however that came and wherever it lies."""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from charging import Charging, dimensions_of, keep
from costd.clock import ManualClock
from costd.domain.budget import Budget
from costd.domain.budget_index import BudgetIndex
from costd.domain.money import MAX_RECORD_NANO, MOST_NANO
from costd.domain.series import Series
from costd.domain.window import PERIODS
from costd.store.budget_history import Before, read_before, settle_before
from costd.store.commit import Change, Commit
from costd.store.corrections import void_event
from costd.store.reader import Readers
from costd.store.totals import fold_rollups
from costd.store.writer import Writer
from ledger import DAY_MS, HOUR_MS, NOW_MS, draft, record, series, writing

ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia")


def look(writer: Writer, budget: Budget) -> Before:
    """Look back as of now."""
    readers = Readers(writer.path, ManualClock(NOW_MS))
    try:
        with readers.snapshot() as connection:
            return read_before(connection, budget, NOW_MS)
    finally:
        readers.close()


def make(writer: Writer, budget: Budget, before: Before) -> None:
    """Make a budget that begins with this."""
    keep(writer, budget, then=lambda commit: settle_before(commit, before))


def held(writer: Writer) -> dict[tuple[str, str, int], int]:
    """{(budget, value, start): net nano-USD} of windows that anything was spent in."""
    with closing(sqlite3.connect(writer.path)) as connection:
        rows = connection.execute(
            "SELECT budget_id, value, start_ms, settled_nano - credited_nano FROM budget_window"
        ).fetchall()
    return {(budget, value, start): net for budget, value, start, net in rows if net}


def expected(writer: Writer, budget: Budget, from_ms: int = NOW_MS) -> dict[tuple[str, str, int], int]:
    """The same by adding up every event, in the simplest way, from the window of a moment on."""
    windows, index = budget.windows(), BudgetIndex([budget])
    found: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    with closing(sqlite3.connect(writer.path)) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(f's.{name}' for name in Series._fields)}, coalesce(e.charged_ms, e.at_ms), "
            "coalesce(e.cost_nano, 0) + coalesce((SELECT sum(cost_nano) FROM adjustment WHERE event_seq = e.seq), 0) "
            "FROM event e JOIN series s ON s.id = e.series_id"
        ).fetchall()
    for *dimensions, at_ms, cost in rows:
        window = windows.at(at_ms)
        if window.start_ms >= windows.at(from_ms).start_ms:
            for match in index.matching(1, dimensions_of(Series(*dimensions))):
                found[budget.id, match.value, window.start_ms] += cost
    return {key: cost for key, cost in found.items() if cost}


def some_records(seed: int, many: int) -> list[Any]:
    """Records of the last weeks and the next minutes, some reserved before; with some dimensions."""
    rng = random.Random(seed)
    drafts = []
    for number in range(many):
        at_ms = NOW_MS - rng.randrange(rng.choice((HOUR_MS // 4, DAY_MS, 40 * DAY_MS)))
        if rng.random() < 0.1:
            at_ms = NOW_MS + rng.randrange(rng.choice((HOUR_MS // 12, 30 * HOUR_MS)))
        charged_ms = at_ms - rng.randrange(HOUR_MS // 4) if rng.random() < 0.3 else None
        if rng.random() < 0.1:
            charged_ms = NOW_MS - rng.randrange(DAY_MS)
        one = series(
            user=rng.choice(("", "ada", "bob")),
            model=rng.choice(("gpt-4o", "o3")),
            tags=rng.choice(("", "a", "a,b", "ab", "b,c")),
            team=rng.choice(("", "video")),
            key_id=rng.choice(("", "k1")),
        )
        cost = rng.choice((None, 0, rng.randrange(1, 1_000)))
        drafts.append(draft(series=one, at_ms=at_ms, charged_ms=charged_ms, cost_nano=cost, request_id=f"r{number}"))
    return drafts


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_sum_of_the_events_for_every_period_scope_and_each(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        record(writer, *some_records(seed, 400))
        for number in range(0, 400, 9):
            _void(writer, f"r{number}")
        writer.submit(Change(fold_rollups)).wait(20)
        scopes = ({"org": "default"}, {"model": "o3"}, {"tag": "a"}, {"team": "video", "tag": "b"}, {"key": "k1"})
        budgets = [
            Budget(
                f"{period}-{place}",
                1,
                f"{period}-{place}",
                tuple(scope.items()),
                1_000,
                period=period,
                timezone=rng.choice(ZONES),
                each=rng.choice(("", "user", "tag", "org")) if "org" not in scope else rng.choice(("", "user", "tag")),
                since_ms=NOW_MS,
            )
            for period in PERIODS
            for place, scope in enumerate(scopes)
        ]
        before = [look(writer, budget) for budget in budgets]
        # What comes between the look and the making counts too, and so does what is in the same commit.
        record(writer, *[one._replace(request_id="") for one in some_records(seed + 100, 50)])
        _void(writer, "r1")
        writer.budgeting = books = Charging()
        for budget, each in zip(budgets, before, strict=True):
            make(writer, budget, each)
        wanted: dict[tuple[str, str, int], int] = {}
        for budget in budgets:
            wanted |= expected(writer, budget)
        assert held(writer) == wanted
        told = {(key.budget_id, key.value, key.start_ms): net for (_, key), (net, _) in books.held.items() if net}
        assert told == wanted
        books.budgets = budgets
        record(writer, *[one._replace(request_id="") for one in some_records(seed + 200, 50)])
        for budget in budgets:
            wanted |= expected(writer, budget)
        assert held(writer).items() >= wanted.items()


def test_the_records_of_its_own_commit_count_in_it_once(tmp_path: Path) -> None:
    everything = Budget("b", 1, "everything", (("org", "default"),), 1_000, period="day")
    with writing(tmp_path, started=False) as writer:
        before = Before(everything, 0, everything.windows().at(NOW_MS).start_ms, {})
        books = writer.budgeting = Charging()
        tickets = [writer.submit_event(draft(cost_nano=5), lambda stored: stored)]

        def apply(commit: Commit) -> None:
            settle_before(commit, before)
            books.budgets.append(everything)

        keep_first = Change(lambda commit: _insert(commit, everything, apply))
        tickets.append(writer.submit(keep_first))
        tickets.append(writer.submit(Change(lambda commit: commit.ledger.write(commit, [draft(cost_nano=7)]))))  # type: ignore[attr-defined]
        writer.start()
        for ticket in tickets:
            ticket.wait(20)
        assert list(held(writer).values()) == [12]
        record(writer, draft(cost_nano=100))
        assert list(held(writer).values()) == [112]
        assert [settled for settled, _ in books.held.values()] == [112]


def _insert(commit: Commit, budget: Budget, then: Any) -> None:
    commit.connection.execute(
        "INSERT INTO budget (id, org_id, name, scope, each, amount_nano, period, timezone, anchor_day, thresholds, "
        "hard, on_unpriced, on_hub_down, revision, since_ms, known_seq, created_ms, updated_ms, origin) "
        "VALUES (?, 1, ?, '[]', '', 1, 'day', 'UTC', 1, '[]', 1, 'allow', 'deny', 1, 0, 0, 0, 0, '')",
        (budget.id, budget.name),
    )
    then(commit)


def test_huge_amounts_end_where_sums_do(tmp_path: Path) -> None:
    everything = Budget("b", 1, "everything", (("org", "default"),), 1_000, period="total", each="user")
    with writing(tmp_path, max_records=100_000, max_bytes=1 << 30) as writer:
        many = [draft(cost_nano=MAX_RECORD_NANO) for _ in range(9_500)]
        record(writer, *many)
        before = look(writer, everything)
        assert list(before.spent.values()) == [9_500 * MAX_RECORD_NANO]
        record(writer, *many)
        make(writer, everything, before)
        assert list(held(writer).values()) == [MOST_NANO]


def test_what_was_moved_is_found_by_its_index(tmp_path: Path) -> None:
    with writing(tmp_path) as writer, closing(sqlite3.connect(writer.path)) as connection:
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        read_before(connection, Budget("b", 1, "b", (("user", "ada"),), 1, period="month"), NOW_MS)
        connection.set_trace_callback(None)
        moved = next(sql for sql in asked if "AS here" in sql)
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + moved)]
        assert any("event_moved" in step for step in plan), plan
        assert not any(step == "SCAN e" for step in plan), plan


def _void(writer: Writer, wanted: str) -> None:
    writer.submit(Change(lambda commit: void_event(commit, 1, wanted, "wrong", "tester"))).wait(20)
