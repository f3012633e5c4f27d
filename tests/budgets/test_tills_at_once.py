"""Tills under threads: calls, changes of budgets and of the catalog, and the turn of hours, all at the same time."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from budget_desk import NOON_MS, Desk, opened
from costd.clock import ManualClock
from costd.store.budget_rows import read_windows
from costd.store.catalog import ProjectRecord
from costd.store.integrity import check_ledger

_CALLERS = 8
_SECONDS = 3.0


def test_whatever_happens_at_once_memory_says_what_rows_say_and_nothing_stays_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows leave memory and come back, marks fall, budgets begin anew, hours end: the sums stay those of events."""
    monkeypatch.setattr("costd.services.tills.MANY_LIVES", 5)
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock, budgets__reservation_minutes="1") as desk:
        desk.set("all", 100_000, scope={"source_app": "tests"}, period="hour")
        desk.set("each", 3_000, scope={"source_app": "tests"}, each="user", period="hour")
        desk.set("team", 50_000, scope={"team": "video"})
        desk.set("tag", 5_000, scope={"source_app": "tests"}, each="tag", period="day")
        stop = threading.Event()
        workers: list[Callable[[], None]] = [_caller(desk, number, stop) for number in range(_CALLERS)]
        with ThreadPoolExecutor(_CALLERS + 2) as pool:
            done = [pool.submit(worker) for worker in (*workers, _changer(desk, stop), _hand(desk, stop))]
            stop.wait(_SECONDS)
            stop.set()
            for each in done:
                each.result()
        desk.beat(61)
        desk.beat()
        _check(desk)
    ledger = sqlite3.connect(tmp_path / "data" / "costd.db")
    report = check_ledger(ledger)
    ledger.close()
    assert report.events > 100
    assert report.findings == []


def _caller(desk: Desk, number: int, stop: threading.Event) -> Callable[[], None]:
    """Asks, and then records, releases or hangs up; sometimes records without having been allowed."""
    chance = random.Random(number)

    def run() -> None:
        while not stop.is_set():
            tags = ("a",) if chance.random() < 0.5 else ()
            fields: dict[str, Any] = {"project": f"p{chance.randrange(3)}", "tags": tags}
            fields["user"] = f"u{chance.randrange(12)}"
            answer, next_step = desk.ask(chance.randrange(30), **fields), chance.random()
            if answer.allow and next_step < 0.6:
                desk.record(chance.randrange(35), answer.request_id, **fields)
            elif answer.allow and next_step < 0.8:
                desk.release(answer.request_id)
            elif next_step < 0.3:
                desk.record(1, **fields)

    return run


def _changer(desk: Desk, stop: threading.Event) -> Callable[[], None]:
    """Changes amounts and scopes, assigns projects, and has windows and marks looked through."""
    chance = random.Random(100)

    def run() -> None:
        while not stop.wait(0.01):
            step, team = chance.random(), chance.choice(("video", "audio"))
            if step < 0.3:
                desk.set("all", chance.choice((50_000, 100_000, 200_000)))
            elif step < 0.4:
                desk.set("team", scope={"team": team})
            elif step < 0.7:
                project = ProjectRecord(f"p{chance.randrange(3)}", "tests", team_id=team)
                desk.services.catalog.upsert_project(desk.caller, project).wait(20)
            elif step < 0.85:
                desk.services.tills.sweep()
            else:
                desk.services.tills.lower_marks()

    return run


def _hand(desk: Desk, stop: threading.Event) -> Callable[[], None]:
    """Moves the clock, now and then by minutes."""
    chance = random.Random(200)

    def run() -> None:
        while not stop.wait(0.02):
            desk.clock.advance(chance.choice((1, 20, 300, 900)) if chance.random() < 0.1 else 0.3)
            desk.core.till_keeper.beat()

    return run


def _check(desk: Desk) -> None:
    tills = desk.services.tills
    assert tills.open_reservations == 0
    lives = tills.lives()
    assert lives
    with desk.core.readers.snapshot() as connection:
        rows = read_windows(connection, [live.key for live in lives])
    for live in lives:
        row = rows[live.key]
        assert (live.till.used_nano, live.till.reserved_nano) == (row.settled_nano, 0), live.key
