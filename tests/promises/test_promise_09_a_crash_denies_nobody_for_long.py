"""Promise 9: a crash, of a daemon or a caller, never denies others for long, nor frees what may have been spent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from budget_calls import CENT_NANO, DOORS, Cents, GrpcDoor, Spend, cents, set_budget, standing
from budget_desk import NOON_MS, Standing, opened
from costd.clock import ManualClock
from costd.domain.errors import Refused
from harness import Daemon, until

_STORM = 10_000
_TTL_S = 15 * 60


def test_promise_09_a_storm_of_calls_that_nobody_settles_holds_money_for_its_time_to_live_alone(
    tmp_path: Path,
) -> None:
    """10,000 preflights, none of them recorded: all of their money is held, then none, and none is wrongly denied."""
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock) as desk:
        desk.set("app", _STORM, scope={"source_app": "tests"})
        desk.set("users", 100, scope={"source_app": "tests"}, each="user")
        for number in range(_STORM):
            assert desk.ask(1, user=f"user-{number % 100}").allow
        assert not desk.ask(1, user="somebody else").allow
        assert desk.stands("app") == Standing(0, _STORM, 0)
        desk.beat(_TTL_S - 1)
        assert not desk.ask(1, user="somebody else").allow
        desk.beat(1)
        assert desk.stands("app") == Standing(0, 0, _STORM)
        assert desk.services.tills.expired == _STORM
        for number in range(100):
            assert desk.ask(100, user=f"user-{number}").allow
        assert desk.stands("app") == Standing(0, _STORM, 0)


def test_promise_09_a_killed_daemon_frees_nothing_that_may_have_been_spent(launch: Callable[..., Daemon]) -> None:
    """Kill -9 amid calls: what they reserved counts in the next life until its time to live, and then no longer."""
    ttl = ("--budgets-reservation-minutes", "0.1")
    first = launch(*ttl)
    set_budget(first, "video", 1_000, scope={"team": "video"})
    made = _storm(first, 400)
    assert made == 400
    first.kill()
    second = launch(*ttl)
    door = GrpcDoor(second)
    for number in range(100):  # of those under way, these come back: what they cost was counted already
        assert door.record(Spend(1, f"call-{number}", team="video")) == "kept"
    assert not door.ask(Spend(600, team="video")).allow
    assert standing(second, "video").settled_nano_usd == 100 * CENT_NANO
    until(lambda: door.ask(Spend(900, team="video")).allow, "the former life's reservations to go", 20)
    assert cents(second, "video") == Cents(1_000, settled=100, reserved=900, held=900, available=0, overshoot=0)
    door.close()


@pytest.mark.parametrize("kind", sorted(DOORS))
def test_promise_09_a_caller_that_hangs_up_while_it_asks_leaves_nothing_for_long(
    launch: Callable[..., Daemon], kind: str
) -> None:
    running = launch("--budgets-reservation-minutes", "0.02")
    set_budget(running, "video", 10, scope={"team": "video"})
    door = DOORS[kind](running)
    door.ask(Spend(10, team="video"))
    door.close()
    again = DOORS[kind](running)
    until(lambda: again.ask(Spend(10, team="video")).allow, "the money of the caller that is gone", 10)
    again.close()


def test_promise_09_a_commit_that_fails_keeps_what_was_reserved(tmp_path: Path) -> None:
    """The record was refused, so its call may come back with it: the money is not anybody else's meanwhile."""
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock) as desk:
        desk.set("app", 100, scope={"source_app": "tests"})
        answer = desk.ask(60)
        spoiler = sqlite3.connect(tmp_path / "data" / "costd.db")
        spoiler.execute(
            "CREATE TRIGGER spoilt BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'spoilt for the test'); END"
        )
        with pytest.raises((Refused, sqlite3.Error)):
            desk.record(60, answer.request_id)
        assert desk.stands("app") == Standing(0, 60, 40)
        assert not desk.ask(50).allow
        spoiler.execute("DROP TRIGGER spoilt")
        spoiler.close()
        desk.record(60, answer.request_id)
        assert desk.stands("app") == Standing(60, 0, 40)


def _storm(daemon: Daemon, calls: int) -> int:
    """So many calls of a cent each, from a few callers at once; how many were allowed."""
    doors = [GrpcDoor(daemon) for _ in range(4)]

    def ask(number: int) -> bool:
        return doors[number % 4].ask(Spend(1, f"call-{number}", team="video")).allow

    with ThreadPoolExecutor(4) as pool:
        made = sum(pool.map(ask, range(calls)))
    for door in doors:
        door.close()
    return made
