"""As time passes: windows that ended are in the history as they were, and say where the next one is going."""

from __future__ import annotations

from pathlib import Path

from budget_desk import CENT_NANO, HOUR_MS, NOON_MS, opened
from costd.clock import ManualClock
from costd.services.budget_status import BudgetHistory

DAY_S = 86_400


def test_windows_that_ended_stay_as_they_were(tmp_path: Path) -> None:
    """By revision and value, newest first, with the highest limit they have had; a clock change makes a short day."""
    clock = ManualClock(NOON_MS)
    with opened(tmp_path / "data", clock) as desk:
        desk.set("days", 100, scope={"team": "video"}, period="day", timezone="Europe/London")
        desk.record(30, team="video")
        desk.beat(DAY_S)
        desk.record(150, team="video")
        desk.set("days", 80)
        desk.beat(DAY_S)
        desk.set("days", each="user")
        desk.record(5, team="video")
        found = desk.services.budget_status.history(desk.caller, "days")
        assert settled_of(found) == [("", 1, 100, 150), ("", 1, 100, 30)]
        sunday, saturday = found.windows
        assert (sunday.overshoot_nano, saturday.available_nano) == (50 * CENT_NANO, 70 * CENT_NANO)
        assert (sunday.window.end_ms - sunday.window.start_ms) // HOUR_MS == 23
        assert sunday.window.start_ms == saturday.window.end_ms
        assert [change.action for change in found.changes] == ["changed", "changed", "created"]
        desk.beat(DAY_S)
        found = desk.services.budget_status.history(desk.caller, "days", 1)
        assert settled_of(found) == [("ada", 2, 80, 5)]
        assert len(found.changes) == 1


def settled_of(found: BudgetHistory) -> list[tuple[str, int, int, int]]:
    return [
        (each.key.value, each.key.revision, each.limit_nano // CENT_NANO, each.settled_nano // CENT_NANO)
        for each in found.windows
    ]


def test_a_new_day_is_expected_to_be_like_the_last(tmp_path: Path) -> None:
    """And speaks for itself as it goes on."""
    clock = ManualClock(NOON_MS - 12 * HOUR_MS)
    with opened(tmp_path / "data", clock) as desk:
        desk.set("days", 1_000, scope={"team": "video"}, period="day")

        def forecast() -> float:
            (window,) = desk.services.budget_status.standing(desk.caller, "days").windows
            assert window.forecast_nano is not None
            return window.forecast_nano / CENT_NANO

        desk.beat(DAY_S / 2)
        desk.record(100, team="video")
        assert forecast() == 200
        desk.beat(DAY_S / 2)
        assert forecast() == 100
        desk.beat(DAY_S / 2)
        assert forecast() == 25
        desk.record(200, team="video")
        assert forecast() == 325
