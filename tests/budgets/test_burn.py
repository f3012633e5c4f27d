"""The present burn: what was spent of late says how fast a window is being spent, and fades."""

from __future__ import annotations

import pytest

from budget_calls import CENT_NANO, GrpcDoor, Spend, set_budget, standing
from costd.clock import ManualClock
from costd.domain.window_key import WindowKey
from costd.services.burn import FADES_IN_S, MAX_WINDOWS, Burn
from costd.store.charges import Place, WindowCharge
from harness import Daemon

USD = 10**9


def charge(value: str, nano: int) -> WindowCharge:
    place = Place(WindowKey("b", 1, value, 0), 10**15, USD)
    return WindowCharge(place, None, nano, 0, nano, 0)


def test_a_steady_burn_is_known_within_minutes_and_fades_when_it_ends() -> None:
    clock = ManualClock(0)
    burn = Burn(clock)
    for _ in range(600):
        burn.note([charge("", USD)])
        clock.advance(3)
    pace = burn.of(WindowKey("b", 1, "", 0))
    assert pace is not None
    assert pace.spent_nano / pace.over_ms == pytest.approx(USD / 3_000, rel=0.02)
    clock.advance(FADES_IN_S)
    faded = burn.of(WindowKey("b", 1, "", 0))
    assert faded is not None
    assert faded.spent_nano == pytest.approx(pace.spent_nano / 2.71828, rel=0.01)
    clock.advance(100 * FADES_IN_S)
    assert burn.of(WindowKey("b", 1, "", 0)) is None


def test_credits_are_no_burn_and_memory_is_bounded() -> None:
    burn = Burn(ManualClock(0))
    burn.note([charge("", 0)])
    assert burn.of(WindowKey("b", 1, "", 0)) is None
    for number in range(MAX_WINDOWS + 10):
        burn.note([charge(str(number), USD)])
    assert burn.of(WindowKey("b", 1, "9", 0)) is None
    assert burn.of(WindowKey("b", 1, "10", 0)) is not None


def test_a_runaway_caller_shows_in_how_long_the_budget_lasts(daemon: Daemon) -> None:
    """Half of a month's money in a moment: at that rate the rest lasts for minutes, whatever the month was like."""
    set_budget(daemon, "runaway", 1_000, scope={"user": "mad"}, period="year")
    before = standing(daemon, "runaway")
    assert not before.HasField("exhausted_in_s")
    door = GrpcDoor(daemon)
    for number in range(5):
        assert door.record(Spend(100, request_id=f"run{number}", user="mad")) == "kept"
    door.close()
    after = standing(daemon, "runaway")
    assert after.settled_nano_usd == 500 * CENT_NANO
    assert 200 < after.exhausted_in_s < 600
    assert after.forecast_nano_usd >= after.settled_nano_usd
