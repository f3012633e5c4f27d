"""`costd check` proves that windows of budgets hold what their events come to, and says where one does not."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from charging import Charging, keep
from costd.clock import ManualClock
from costd.domain.budget import Budget
from costd.domain.window import PERIODS
from costd.store.budget_history import read_before, settle_before
from costd.store.commit import Change
from costd.store.connection import DATABASE_NAME
from costd.store.corrections import void_event
from costd.store.integrity import check_ledger
from costd.store.retention import RetentionLimits, retain
from costd.store.writer import Writer
from ledger import DAY_MS, HOUR_MS, NOW_MS, draft, record, series, writing

LIMITS = RetentionLimits(45 * DAY_MS, 400 * DAY_MS, 5 * 60_000)
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/London")
EVERYTHING = Budget("b", 1, "everything", (("org", "default"),), 1_000_000, period="day", since_ms=NOW_MS)


def findings(folder: Path) -> list[str]:
    """What the check finds."""
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        return check_ledger(connection).findings


def change(writer: Writer, sql: str) -> None:
    """Change the database as only a fault would."""
    writer.submit(Change(lambda commit: commit.connection.execute(sql).rowcount)).wait(20)


def make(writer: Writer, books: Charging, *budgets: Budget) -> None:
    """Make budgets as a daemon does: with what was recorded before."""
    for budget in budgets:
        with closing(sqlite3.connect(writer.path)) as connection:
            before = read_before(connection, budget, budget.since_ms)
        keep(writer, budget, then=lambda commit, before=before: settle_before(commit, before))  # type: ignore[misc]
        books.budgets.append(budget)


def live(writer: Writer, clock: ManualClock, rng: random.Random, prefix: str) -> None:
    """A day of records, reserved and late ones among them, and of corrections of open and closed windows."""
    for number in range(30):
        now_ms = clock.now_ms()
        at_ms = now_ms - rng.randrange(rng.choice((60_000, 3 * HOUR_MS, 20 * DAY_MS)))
        charged_ms = now_ms - rng.randrange(20 * 60_000) if rng.random() < 0.4 else None
        one = series(user=rng.choice(("", "ada", "bob")), tags=rng.choice(("", "a", "a,b")))
        cost = rng.choice((None, rng.randrange(1, 1_000)))
        named = f"{prefix}{number}"
        record(writer, draft(series=one, at_ms=at_ms, charged_ms=charged_ms, cost_nano=cost, request_id=named))
        if rng.random() < 0.3:
            wrong = f"{prefix}{rng.randrange(number + 1)}"
            writer.submit(Change(lambda c, wrong=wrong: void_event(c, 1, wrong, "wrong", "tester"))).wait(20)
        clock.advance(rng.randrange(2 * HOUR_MS) / 1000)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_where_everything_was_charged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        books = writer.budgeting = Charging()
        live(writer, clock, rng, "before")
        scopes = ({"org": "default"}, {"tag": "a"}, {"user": "ada"})
        make(
            writer,
            books,
            *(
                EVERYTHING._replace(
                    id=f"{period}-{place}",
                    name=f"{period}-{place}",
                    scope=tuple(scope.items()),
                    period=period,
                    timezone=rng.choice(ZONES),
                    each=rng.choice(("", "tag", "model")),
                    since_ms=clock.now_ms(),
                )
                for period in PERIODS
                for place, scope in enumerate(scopes)
            ),
        )
        for day in range(3):
            live(writer, clock, rng, f"day{day}-")
        assert findings(tmp_path) == []
        clock.advance(60 * 86_400)
        live(writer, clock, rng, "later")
        while not writer.submit(Change(lambda commit: retain(commit, LIMITS))).wait(20).done:
            pass
        live(writer, clock, rng, "after")
        assert findings(tmp_path) == []
        with closing(sqlite3.connect(writer.path)) as connection:
            assert connection.execute("SELECT min(seq) FROM event").fetchone()[0] > 100


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kathmandu"])
def test_a_window_that_differs_is_named(tmp_path: Path, timezone: str) -> None:
    with writing(tmp_path, ManualClock(NOW_MS)) as writer:
        books = writer.budgeting = Charging()
        make(writer, books, EVERYTHING._replace(timezone=timezone, each="user"))
        record(writer, draft(cost_nano=5, series=series(user="ada")), draft(cost_nano=7))
        assert findings(tmp_path) == []
        change(writer, "UPDATE budget_window SET settled_nano = 6 WHERE value = 'ada'")
        change(writer, "DELETE FROM budget_window WHERE value = ''")
        found = findings(tmp_path)
        assert [each.split(" since ")[0] for each in found] == [
            "budget \"everything\": its window of ''",
            "budget \"everything\": its window of 'ada'",
        ]
        assert found[1].endswith("holds 0.000000006 USD, and its events come to 0.000000005")


def test_a_copy_of_a_hubs_budget_holds_what_came_after_it(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        books = writer.budgeting = Charging()
        record(writer, draft(cost_nano=5, request_id="early"), draft(cost_nano=6, at_ms=NOW_MS + DAY_MS))
        keep(writer, EVERYTHING)
        change(writer, "UPDATE budget SET origin = 'hub'")
        books.budgets.append(EVERYTHING)
        record(writer, draft(cost_nano=7), draft(cost_nano=11, charged_ms=NOW_MS - HOUR_MS))
        writer.submit(Change(lambda commit: void_event(commit, 1, "early", "wrong", "tester"))).wait(20)
        clock.advance(86_400)
        record(writer, draft(cost_nano=7, at_ms=clock.now_ms()), draft(cost_nano=11, charged_ms=clock.now_ms()))
        assert findings(tmp_path) == []
        change(writer, "UPDATE budget_window SET settled_nano = settled_nano + 1")
        assert len(findings(tmp_path)) == 1


def test_windows_go_with_the_rollups_and_with_their_budget(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock) as writer:
        books = writer.budgeting = Charging()
        ever = EVERYTHING._replace(id="ever", name="ever", period="total")
        make(writer, books, EVERYTHING, ever)
        record(writer, draft(cost_nano=5))
        change(writer, "INSERT INTO budget_account SELECT budget_id, revision, value, start_ms, 7, x'', 0, 0, 0 "
               "FROM budget_window")  # fmt: skip
        change(writer, "INSERT INTO budget_alert SELECT 1, 'a', 1, budget_id, revision, '', value, start_ms, end_ms, "
               "'1', 'settled', 0, 0, 0, NULL FROM budget_window WHERE budget_id = 'b'")  # fmt: skip
        change(writer, "INSERT INTO alert_delivery VALUES (1, 'email', 0, 5, NULL, '')")

        def held() -> list[int]:
            tables = ("budget_window", "budget_account", "budget_alert", "alert_delivery")
            with closing(sqlite3.connect(writer.path)) as connection:
                return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]

        def retain_all() -> None:
            while not writer.submit(Change(lambda commit: retain(commit, LIMITS))).wait(20).done:
                pass

        clock.advance(399 * 86_400)
        retain_all()
        assert held() == [2, 2, 1, 1]
        clock.advance(2 * 86_400)
        retain_all()
        assert held() == [1, 1, 0, 0]
        change(writer, f"UPDATE budget SET removed_ms = {clock.now_ms()}")
        retain_all()
        assert held() == [1, 1, 0, 0]
        clock.advance(401 * 86_400)
        retain_all()
        assert held() == [0, 0, 0, 0]
