"""Reserve, then settle: what a daemon's tills let through, hold back and count, as time passes and things change."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from budget_desk import HOUR_MS, NOON_MS, Desk, Standing, opened, usage
from costd.clock import ManualClock
from costd.domain.batch import Batch
from costd.domain.errors import Conflict, Overloaded
from costd.services.row_build import Rows
from costd.store.catalog import ProjectRecord
from costd.store.catalog_kinds import TEAM, USER


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path / "data", ManualClock(NOON_MS)) as found:
        yield found


# -- all or none -------------------------------------------------------------------------------------------------------


def test_a_call_reserves_in_all_its_windows_or_in_none(desk: Desk) -> None:
    """Three budgets have room for the call and one has not: nothing is reserved in any, and that one is named."""
    for name, cents, scope in (
        ("app", 1000, {"source_app": "tests"}),
        ("model", 1000, {"model": "gpt-4o"}),
        ("narrow", 30, {"team": "video"}),
        ("org", 1000, {"org": "default"}),
    ):
        desk.set(name, cents, scope=scope)
    refused = desk.ask(40, team="video")
    assert (refused.allow, refused.deny_reason) == (False, "budget_exceeded")
    assert refused.budget is not None
    assert (refused.budget.name, refused.budget.scope_type, desk.left(refused)) == ("narrow", "team", 30)
    assert {desk.stands(name).reserved for name in ("app", "model", "narrow", "org")} == {0}
    allowed = desk.ask(30, team="video")
    assert allowed.allow
    assert (allowed.budget and allowed.budget.name, desk.left(allowed)) == ("narrow", 0)
    assert {desk.stands(name).reserved for name in ("app", "model", "narrow", "org")} == {30}
    assert desk.ask(40, team="audio").allow
    assert [desk.stands(name).reserved for name in ("app", "model", "narrow", "org")] == [70, 70, 30, 70]


def test_callers_at_once_never_pass_any_of_their_budgets(desk: Desk) -> None:
    """Sixteen threads over three budgets that meet: each is filled to the cent, and none is passed."""
    desk.set("all", 300, scope={"source_app": "tests"})
    desk.set("video", 120, scope={"team": "video"})
    desk.set("users", 25, scope={"source_app": "tests"}, each="user")

    def spend(number: int) -> int:
        fields = {"team": ("video", "audio")[number % 2], "user": f"user-{number % 16}"}
        answer = desk.ask(1, **fields)
        if answer.allow and number % 5:
            desk.record(1, answer.request_id, **fields)
        return int(answer.allow)

    with ThreadPoolExecutor(16) as pool:
        made = sum(pool.map(spend, range(1600)))
    assert made == 300
    stands = desk.stands("all")
    assert (stands.available, stands.overshoot, stands.settled + stands.reserved) == (0, 0, 300)
    assert desk.stands("video").overshoot == 0
    for number in range(16):
        assert desk.stands("users", f"user-{number}").overshoot == 0


def test_a_call_without_anything_to_reserve_is_made_while_there_is_money(desk: Desk) -> None:
    desk.set("app", 10, scope={"source_app": "tests"})
    assert desk.ask(0).allow
    assert desk.ask(0).allow
    desk.record(10)
    assert desk.ask(0).deny_reason == "budget_exceeded"


def test_a_soft_budget_is_charged_and_never_denies(desk: Desk) -> None:
    desk.set("soft", 10, scope={"source_app": "tests"}, hard=False)
    answer = desk.ask(50)
    assert answer.allow
    assert (answer.budget and answer.budget.name, desk.left(answer)) == ("soft", 10)
    desk.record(50, answer.request_id)
    assert desk.stands("soft") == Standing(50, 0, 0, overshoot=40)
    assert desk.ask(50).allow


def test_a_model_without_a_price_is_blocked_only_where_a_hard_budget_says_so(desk: Desk) -> None:
    desk.set("lenient", 10, scope={"source_app": "tests"})
    desk.set("soft", 10, scope={"source_app": "tests"}, hard=False, on_unpriced="deny")
    answer = desk.ask(50, model="nobody-knows")
    assert (answer.allow, answer.estimated_cost_nano) == (True, None)
    assert answer.warnings
    assert desk.stands("lenient").reserved == 0
    desk.set("strict", 10, scope={"team": "video"}, on_unpriced="deny")
    answer = desk.ask(50, model="nobody-knows", team="video")
    assert (answer.allow, answer.deny_reason) == (False, "model_blocked")
    assert answer.budget is not None
    assert answer.budget.name == "strict"


# -- settling ----------------------------------------------------------------------------------------------------------


def test_a_record_settles_what_it_cost_even_past_what_was_reserved(desk: Desk) -> None:
    """Less frees the rest; more is charged in full and shows as overshoot, which counts against what follows."""
    desk.set("app", 100, scope={"source_app": "tests"})
    answer = desk.ask(60)
    desk.record(20, answer.request_id)
    assert desk.stands("app") == Standing(20, 0, 80)
    answer = desk.ask(80)
    desk.record(100, answer.request_id)
    assert desk.stands("app") == Standing(120, 0, 0, overshoot=20)
    assert desk.ask(1).deny_reason == "budget_exceeded"
    desk.set("app", 130)
    assert desk.ask(10).allow
    assert not desk.ask(1).allow


def test_every_way_of_recording_settles(desk: Desk) -> None:
    """Single records, rows, columns and repetitions of any of them let go of what was reserved under their ids."""
    desk.set("app", 1000, scope={"source_app": "tests"})
    ids = [desk.ask(10).request_id for _ in range(4)]
    assert desk.stands("app").reserved == 40
    desk.record(10, ids[0])
    rows = Rows("", b"", [usage(10, ids[1], {}), usage(10, "unknown", {})])
    desk.services.batching.record_rows(desk.caller, rows, "test").wait(20)
    columns = Batch(
        batch_id="",
        fingerprint=b"",
        series=[usage(0, "", {})._replace(units=())],
        place=[0],
        at_ms=None,
        counts=([40_000], None, None, None, None),
        latency_ms=None,
        cost_nano=None,
        request_ids=[ids[2]],
        jobs=None,
        other_units={},
    )
    desk.services.batching.record(desk.caller, columns, "test").wait(20)
    assert desk.stands("app") == Standing(40, 10, 950)
    # A call that was recorded already asks again, as after an answer that was lost; its record is a duplicate.
    assert desk.ask(10, ids[0]).allow
    assert desk.stands("app").reserved == 20
    assert desk.record(10, ids[0]).duplicate
    assert desk.stands("app") == Standing(40, 10, 950)


def test_a_failed_call_without_units_lets_go(desk: Desk) -> None:
    desk.set("app", 100, scope={"source_app": "tests"})
    answer = desk.ask(60)
    desk.record(0, answer.request_id, status="error")
    assert desk.stands("app") == Standing(0, 0, 100)


def test_usage_that_was_never_reserved_counts(desk: Desk) -> None:
    desk.set("app", 100, scope={"source_app": "tests"})
    desk.record(70)
    assert desk.ask(40).deny_reason == "budget_exceeded"
    assert desk.ask(30).allow


def test_released_once(desk: Desk) -> None:
    desk.set("app", 100, scope={"source_app": "tests"})
    answer = desk.ask(60)
    assert desk.release(answer.request_id)
    assert not desk.release(answer.request_id)
    assert desk.stands("app") == Standing(0, 0, 100)


def test_a_repeated_preflight_gets_its_first_answer(desk: Desk) -> None:
    """The same again reserves nothing more; other content is a conflict, until the reservation is gone."""
    desk.set("app", 100, scope={"source_app": "tests"})
    first = desk.ask(60, "mine")
    assert desk.ask(60, "mine") == first
    assert desk.stands("app").reserved == 60
    with pytest.raises(Conflict):
        desk.ask(61, "mine")
    issued = desk.ask(10)
    assert desk.ask(10, issued.request_id) == issued
    desk.release("mine")
    assert desk.ask(61, "mine").allow


def test_no_more_calls_than_allowed_hold_money(tmp_path: Path) -> None:
    with opened(tmp_path / "data", ManualClock(NOON_MS), budgets__max_reservations="2") as desk:
        desk.set("app", 100, scope={"source_app": "tests"})
        first = desk.ask(1)
        assert desk.ask(1).allow
        with pytest.raises(Overloaded, match="max_reservations"):
            desk.ask(1)
        desk.release(first.request_id)
        assert desk.ask(1).allow


# -- time --------------------------------------------------------------------------------------------------------------


def test_windows_roll_over_at_their_boundary(tmp_path: Path) -> None:
    """An hour's money is there anew with the hour, at once; what was reserved before settles into its own window."""
    with opened(tmp_path / "data", ManualClock(NOON_MS), budgets__reservation_minutes="90") as desk:
        _roll_over(desk)


def _roll_over(desk: Desk) -> None:
    desk.set("hour", 100, scope={"source_app": "tests"}, period="hour")
    late = desk.ask(60)
    desk.clock.advance(3597)
    desk.beat()
    assert desk.ask(50).deny_reason == "budget_exceeded"
    desk.beat(2.999)
    assert desk.ask(50).deny_reason == "budget_exceeded"
    desk.clock.advance(0.001)
    fresh = desk.ask(90)
    assert fresh.allow
    assert fresh.budget is not None
    assert fresh.budget.resets_ms == NOON_MS + 2 * HOUR_MS
    desk.record(70, late.request_id)
    assert desk.stands("hour") == Standing(0, 90, 10)
    past = desk.services.budget_status.history(desk.caller, "hour").windows
    assert [(window.window.start_ms, window.settled_nano // 10_000_000) for window in past] == [(NOON_MS, 70)]


def test_next_windows_come_into_memory_ahead_of_their_time_and_ended_ones_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those users who asked in this hour, a few at a time; nobody who asks in the next one waits for the disk."""
    monkeypatch.setattr("costd.services.tills._AT_ONCE", 2)
    desk.set("users", 100, scope={"source_app": "tests"}, each="user", period="hour")
    for number in range(5):
        assert desk.ask(60, user=f"user-{number}").allow

    def hours() -> list[tuple[str, int]]:
        keys = [live.key for live in desk.services.tills.lives()]
        return sorted((key.value, (key.start_ms - NOON_MS) // HOUR_MS) for key in keys)

    users = [f"user-{number}" for number in range(5)]
    desk.beat(3600 - 31)
    assert hours() == [(user, 0) for user in users]
    desk.beat(2)
    assert len(hours()) == 7
    desk.beat()
    desk.beat()
    assert hours() == [(user, hour) for user in users for hour in (0, 1)]
    desk.beat(29)
    assert hours() == [(user, 1) for user in users]
    assert desk.ask(100, user="user-0").allow
    desk.beat(3600 - 1)
    desk.beat(1)
    assert hours() == [("user-0", 2)]


def test_days_turn_by_the_clock_of_their_zone(tmp_path: Path) -> None:
    """The night in which London loses an hour: that day is 23 hours long, and its money is for 23 hours."""
    start = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)  # still GMT
    clock = ManualClock(int(start.timestamp() * 1000))
    with opened(tmp_path / "data", clock) as desk:
        desk.set("day", 10, scope={"source_app": "tests"}, period="day", timezone="Europe/London")
        answer = desk.ask(10)
        assert answer.budget is not None
        assert answer.budget.resets_ms == clock.now_ms() + 23 * HOUR_MS
        desk.record(10, answer.request_id)
        desk.beat(23 * 3600 - 1)
        assert not desk.ask(1).allow
        desk.beat(1)
        answer = desk.ask(10)
        assert answer.allow
        assert answer.budget is not None
        assert answer.budget.resets_ms == clock.now_ms() + 24 * HOUR_MS


def test_what_is_never_settled_goes_back(desk: Desk) -> None:
    """After fifteen minutes and not before; a late record still counts."""
    desk.set("app", 100, scope={"source_app": "tests"})
    answer = desk.ask(60)
    desk.beat(15 * 60 - 1)
    assert desk.stands("app").reserved == 60
    desk.beat(1)
    assert desk.stands("app") == Standing(0, 0, 100)
    assert desk.services.tills.expired == 1
    desk.record(60, answer.request_id)
    assert desk.stands("app") == Standing(60, 0, 40)


# -- changes -----------------------------------------------------------------------------------------------------------


def test_another_amount_takes_effect_at_once_and_keeps_what_is_spent(desk: Desk) -> None:
    desk.set("app", 100, scope={"source_app": "tests"})
    desk.record(60)
    reserved = desk.ask(30)
    desk.set("app", 50)
    assert desk.stands("app") == Standing(60, 30, 0, overshoot=40)
    assert not desk.ask(1).allow
    desk.set("app", 200)
    assert desk.ask(110).allow
    desk.record(30, reserved.request_id)
    assert desk.stands("app") == Standing(90, 110, 0)


def test_a_new_revision_has_windows_of_its_own_and_a_removed_budget_none(desk: Desk) -> None:
    desk.set("app", 100, scope={"source_app": "tests"})
    desk.ask(60)
    desk.set("app", scope={"source_app": "tests"}, each="user")
    assert desk.ask(100).allow
    assert not desk.ask(1).allow
    desk.services.budgets.remove(desk.caller, "app")
    answer = desk.ask(10_000)
    assert (answer.allow, answer.budget) == (True, None)


@pytest.mark.parametrize("many", [0, 1_000])
def test_the_catalog_says_whose_budget_it_is(desk: Desk, monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    """A project that is given to a team is charged to the team from then on, and to its workspace."""
    monkeypatch.setattr("costd.services.charging._MANY_SAID", many)
    catalog = desk.services.catalog
    desk.set("team", 100, scope={"team": "video"})
    desk.set("floor", 1000, scope={"workspace": "second"})
    assert desk.ask(200, project="film").allow
    project = ProjectRecord("film", "tests", "Film", team_id="video")
    catalog.upsert_project(desk.caller, project).wait(20)
    assert desk.ask(200, project="film").deny_reason == "budget_exceeded"
    desk.record(70, project="film")
    catalog.set(desk.caller, TEAM, "video", None, {"workspace": "second"})
    desk.record(20, project="film")
    assert (desk.stands("team").settled, desk.stands("floor").settled) == (90, 20)
    catalog.set(desk.caller, USER, "ada", "tests", {"team": "video"})
    assert desk.ask(11).deny_reason == "budget_exceeded"
    catalog.upsert_project(desk.caller, ProjectRecord("film", "tests", team_id="audio")).wait(20)
    assert desk.ask(200, project="film").allow


# -- ends and beginnings -----------------------------------------------------------------------------------------------


def test_a_killed_daemon_still_counts_what_was_reserved_until_its_time_to_live(tmp_path: Path) -> None:
    """No more than the limit is let through in two lives together, and after the time to live all is there again."""
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock, is_killed=True) as desk:
        desk.set("app", 100, scope={"source_app": "tests"})
        desk.record(20)
        lost = [desk.ask(10) for _ in range(3)]
    with opened(tmp_path / "data", clock, is_killed=True) as desk:
        assert desk.ask(51).deny_reason == "budget_exceeded"
        desk.record(10, lost[0].request_id)
        desk.beat(15 * 60)
        assert desk.stands("app") == Standing(30, 0, 70)
        assert desk.ask(70).allow


def test_a_stopped_daemon_hands_on_exactly_what_is_reserved(tmp_path: Path) -> None:
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock) as desk:
        desk.set("app", 100, scope={"source_app": "tests"})
        desk.ask(10)
        desk.release(desk.ask(50).request_id)
    with opened(tmp_path / "data", clock) as desk:
        assert desk.ask(91).deny_reason == "budget_exceeded"
        assert desk.ask(90).allow
    with opened(tmp_path / "data", clock) as desk:
        assert not desk.ask(1).allow
        desk.beat(15 * 60)
        assert desk.ask(100).allow


def test_marks_fall_when_nothing_is_reserved_any_more(tmp_path: Path) -> None:
    """A daemon that is killed long after its callers were done owes nothing to nobody."""
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock, is_killed=True) as desk:
        desk.set("app", 100, scope={"source_app": "tests"})
        desk.release(desk.ask(50).request_id)
        for _ in range(3):
            desk.services.tills.lower_marks()
            desk.beat()
    with opened(tmp_path / "data", clock) as desk:
        assert desk.ask(100).allow


def test_windows_of_very_many_values_leave_memory_when_nobody_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("costd.services.tills.MANY_LIVES", 10)
    desk.set("users", 100, scope={"source_app": "tests"}, each="user")
    for number in range(20):
        answer = desk.ask(60, user=f"user-{number}")
        desk.record(60, answer.request_id, user=f"user-{number}")
    tills = desk.services.tills
    tills.sweep()
    assert len(tills.lives()) == 20
    assert not desk.ask(60, user="user-3").allow
    tills.sweep()
    assert [live.key.value for live in tills.lives()] == ["user-3"]
    assert not desk.ask(60, user="user-4").allow
    assert desk.ask(40, user="user-4").allow
