"""Alerts are found once for each window, threshold and kind, at the daemon that decides, whatever happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import budget_desk
from alert_receivers import Answer, receiving
from budget_desk import CENT_NANO, HOUR_MS, NOON_MS, Desk
from costd.clock import ManualClock
from costd.config import HUB
from costd.domain.alerting import FORECAST, SETTLED
from costd.domain.money import MOST_NANO
from costd.store.alerts import Listed
from harness import until

THRESHOLDS = (Decimal("0.5"), Decimal("0.8"), Decimal("1.00"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON_MS)


@pytest.fixture
def desk(tmp_path: Path, clock: ManualClock) -> Iterator[Desk]:
    with budget_desk.opened(tmp_path / "data", clock) as opened:
        yield opened


def alerts(desk: Desk, name: str = "") -> list[Listed]:
    """All there are, oldest first."""
    return [*reversed(desk.services.alerts.page(desk.caller, name, "", 0).alerts)]


def told(desk: Desk, name: str = "") -> list[tuple[str, str]]:
    return [(listed.alert.threshold, listed.alert.kind) for listed in alerts(desk, name)]


def look(desk: Desk, seconds: float = 1) -> None:
    """Let time pass, and look."""
    desk.beat(seconds)
    desk.services.alerts.beat()


def test_each_threshold_is_told_once_when_it_is_reached_and_not_before(desk: Desk) -> None:
    desk.set("video", 100, scope={"team": "video"}, period="total", thresholds=THRESHOLDS)
    look(desk)
    desk.record(49, team="video")
    look(desk)
    assert told(desk) == []
    desk.record(1, team="video")
    look(desk)
    assert told(desk) == [("0.5", SETTLED)]
    for _ in range(3):
        look(desk, 61)
    desk.record(70, team="video")
    look(desk)
    look(desk, 61)
    assert told(desk) == [("0.5", SETTLED), ("0.8", SETTLED), ("1", SETTLED)]
    last = alerts(desk)[-1].alert
    assert (last.budget, last.settled_nano, last.limit_nano) == ("video", 120 * CENT_NANO, 100 * CENT_NANO)
    assert last.organization == "default"
    assert last.at_ms == desk.clock.now_ms() - 61_000


def test_what_is_reserved_is_not_spent_yet(desk: Desk) -> None:
    desk.set("video", 100, scope={"team": "video"}, period="total", thresholds=THRESHOLDS)
    assert desk.ask(90, "r", team="video").allow
    look(desk)
    assert told(desk) == []
    desk.record(60, "r", team="video")
    look(desk)
    assert told(desk) == [("0.5", SETTLED)]


def test_soft_budgets_tell_as_well(desk: Desk) -> None:
    desk.set("soft", 10, scope={"org": "default"}, hard=False, period="total", thresholds=(Decimal(1),))
    desk.record(10)
    look(desk)
    assert told(desk) == [("1", SETTLED)]


def test_each_value_and_each_window_has_alerts_of_its_own(desk: Desk, clock: ManualClock) -> None:
    desk.set("users", 10, scope={"org": "default"}, each="user", period="hour", thresholds=(Decimal("0.5"),))
    clock.advance(1800)
    desk.record(6, user="ada")
    desk.record(5, user="bob")
    desk.record(4, user="eve")
    look(desk)
    assert sorted((listed.alert.value, listed.alert.kind) for listed in alerts(desk)) == [
        ("ada", SETTLED),
        ("bob", SETTLED),
        ("eve", FORECAST),
    ]
    assert {listed.alert.each for listed in alerts(desk)} == {"user"}
    look(desk, 3600)
    desk.record(6, user="ada")
    look(desk)
    found = [listed.alert for listed in alerts(desk) if listed.alert.value == "ada"]
    assert [alert.kind for alert in found] == [SETTLED, SETTLED]
    assert found[1].window.start_ms - found[0].window.start_ms == HOUR_MS


def test_a_new_budget_tells_of_what_was_spent_before_it(desk: Desk) -> None:
    desk.record(60, team="video")
    look(desk)
    desk.set("video", 100, scope={"team": "video"}, period="month", thresholds=THRESHOLDS)
    look(desk)
    assert ("0.5", SETTLED) in told(desk)


def test_another_amount_tells_of_what_it_makes_reached_and_repeats_nothing(desk: Desk) -> None:
    desk.set("video", 100, scope={"team": "video"}, period="total", thresholds=(Decimal("0.5"), Decimal(1)))
    desk.record(60, team="video")
    look(desk)
    desk.set("video", 60)
    look(desk)
    desk.set("video", 1000)
    look(desk)
    desk.set("video", 100)
    look(desk)
    assert told(desk) == [("0.5", SETTLED), ("1", SETTLED)]


def test_the_same_threshold_in_another_form_is_the_same(desk: Desk) -> None:
    desk.set("video", 10, scope={"team": "video"}, period="total", thresholds=(Decimal("1.0"),))
    desk.record(10, team="video")
    look(desk)
    desk.set("video", thresholds=(Decimal(1),))
    look(desk)
    desk.set("video", thresholds=(Decimal("1.00"),))
    look(desk)
    assert told(desk) == [("1", SETTLED)]


def test_a_forecast_is_told_once_unless_it_has_happened(desk: Desk, clock: ManualClock) -> None:
    desk.set("daily", 100, scope={"team": "video"}, period="day", thresholds=(Decimal("0.5"), Decimal(1)))
    look(desk)
    # Noon: half of the day is over, and 40 of 100 cents are spent. At that pace it will be 80.
    desk.record(40, team="video")
    look(desk, 61)
    assert told(desk) == [("0.5", FORECAST)]
    (listed,) = alerts(desk)
    assert listed.alert.forecast_nano is not None
    assert 79 * CENT_NANO < listed.alert.forecast_nano < 81 * CENT_NANO
    look(desk, 61)
    desk.record(15, team="video")
    look(desk, 61)
    assert told(desk) == [("0.5", FORECAST), ("0.5", SETTLED), ("1", FORECAST)]
    look(desk, 61)
    assert len(told(desk)) == 3


def test_the_first_calls_of_a_first_window_say_nothing_of_it(desk: Desk, clock: ManualClock) -> None:
    desk.set("monthly", 100, scope={"team": "video"}, period="hour", thresholds=(Decimal(1),))
    look(desk, 30)
    desk.record(20, team="video")
    look(desk, 61)
    assert told(desk) == [], "a minute and a half of an hour have passed"
    look(desk, 61)
    assert told(desk) == [("1", FORECAST)]


def test_a_forecast_goes_by_the_window_before_and_ends_with_the_window(desk: Desk, clock: ManualClock) -> None:
    desk.set("hourly", 100, scope={"team": "video"}, period="hour", thresholds=(Decimal(1),))
    desk.record(90, team="video")
    look(desk, 61)
    look(desk, 1800)
    found = len(told(desk))
    look(desk, 1800)
    look(desk, 100)
    desk.record(11, team="video")
    look(desk, 61)
    after = [listed.alert for listed in alerts(desk)][found:]
    assert [alert.kind for alert in after] == [FORECAST]
    assert after[0].forecast_nano is not None
    assert after[0].forecast_nano < 110 * CENT_NANO, "the hour before was 90, not 11 in a minute"


def test_a_correction_that_takes_money_back_takes_no_alert_back_and_tells_none_anew(desk: Desk) -> None:
    desk.set("video", 100, scope={"team": "video"}, period="total", thresholds=(Decimal(1),))
    receipt = desk.record(100, "wrong", team="video")
    look(desk)
    assert receipt is not None
    desk.services.repricing.void(desk.caller, "wrong", "a test")
    look(desk, 61)
    desk.record(100, team="video")
    look(desk, 61)
    assert told(desk) == [("1", SETTLED)]


def test_across_restarts_nothing_is_told_twice_and_nothing_is_lost(tmp_path: Path, clock: ManualClock) -> None:
    with budget_desk.opened(tmp_path / "data", clock, is_killed=True) as desk:
        desk.set("video", 100, scope={"team": "video"}, period="hour", thresholds=(Decimal("0.5"), Decimal(1)))
        desk.record(50, team="video")
        look(desk)
        assert told(desk) == [("0.5", SETTLED)]
        # Charged, and gone before anybody looked.
        desk.record(50, team="video")
    # The window is over when the daemon is back.
    clock.advance(3600)
    for _ in range(2):
        with budget_desk.opened(tmp_path / "data", clock, is_killed=True) as desk:
            look(desk)
            look(desk, 61)
            assert told(desk) == [("0.5", SETTLED), ("1", SETTLED)], "nor is the hour before told of as a forecast"


def test_thresholds_that_are_set_after_a_window_say_nothing_of_it(tmp_path: Path, clock: ManualClock) -> None:
    with budget_desk.opened(tmp_path / "data", clock) as desk:
        desk.set("video", 100, scope={"team": "video"}, period="hour", thresholds=(Decimal(1),))
        desk.record(60, team="video")
        look(desk, 3600)
        desk.set("video", thresholds=(Decimal("0.5"),))
    with budget_desk.opened(tmp_path / "data", clock) as desk:
        look(desk, 61)
        assert [kind for _, kind in told(desk) if kind == SETTLED] == []


def test_a_late_record_tells_of_the_window_that_it_belongs_to(desk: Desk, clock: ManualClock) -> None:
    desk.set("video", 100, scope={"team": "video"}, period="hour", thresholds=(Decimal(1),))
    look(desk, 3540)
    assert desk.ask(60, "late", team="video").allow
    desk.record(60, team="video")
    look(desk, 120)
    desk.record(60, "late", team="video")
    look(desk)
    (listed,) = [listed for listed in alerts(desk) if listed.alert.kind == SETTLED]
    assert listed.alert.window.start_ms == NOON_MS


def test_a_hub_finds_alerts_and_a_sidecar_that_has_one_leaves_it_to_it(tmp_path: Path, clock: ManualClock) -> None:
    with budget_desk.opened(tmp_path / "hub", clock, mode=HUB) as desk:
        desk.set("video", 10, scope={"team": "video"}, period="total", thresholds=(Decimal(1),))
        desk.record(10, team="video")
        look(desk)
        assert told(desk) == [("1", SETTLED)]
    with budget_desk.opened(tmp_path / "data", clock) as desk:
        desk.set("video", 10, scope={"team": "video"}, period="total", thresholds=(Decimal(1),))
    settings = {"hub__address": "localhost:1", "hub__key": "ct_live_x"}
    with budget_desk.opened(tmp_path / "data", clock, **settings) as desk:
        desk.record(10, team="video")
        look(desk, 61)
        assert told(desk) == []


def test_a_full_disk_puts_off_an_alert_and_loses_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from costd.domain.errors import OutOfSpace

    desk.set("video", 10, scope={"team": "video"}, period="total", thresholds=(Decimal(1),))
    desk.record(10, team="video")
    writer = desk.core.writer
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OutOfSpace

        patch.setattr(writer, "submit", full)
        with pytest.raises(OutOfSpace):
            desk.services.alerts.beat()
    look(desk)
    assert told(desk) == [("1", SETTLED)]


def test_pages_of_alerts_follow_each_other_and_go_by_budget(desk: Desk) -> None:
    shares = tuple(Decimal(tenth) / 10 for tenth in range(1, 11))
    first = desk.set("video", 100, scope={"team": "video"}, period="total", thresholds=shares)
    desk.set("audio", 100, scope={"team": "audio"}, period="total", thresholds=shares)
    desk.record(100, team="video")
    desk.record(100, team="audio")
    look(desk)
    service = desk.services.alerts
    seen: list[str] = []
    cursor = ""
    while True:
        page = service.page(desk.caller, "", cursor, 3)
        seen += [listed.alert.id for listed in page.alerts]
        cursor = page.next_cursor
        if not cursor:
            break
        assert len(page.alerts) == 3
    assert len(seen) == len(set(seen)) == 20
    assert {listed.alert.budget for listed in service.page(desk.caller, "video", "", 0).alerts} == {"video"}
    assert len(service.page(desk.caller, first.budget.id, "", 0).alerts) == 10
    assert service.page(desk.caller, "nothing", "", 0).alerts == []
    stranger = desk.caller._replace(org_id=2)
    assert service.page(stranger, "", "", 0).alerts == []


def test_a_clock_that_is_set_back_puts_no_delivery_off(tmp_path: Path, clock: ManualClock) -> None:
    with receiving(Answer(500)) as receiver:
        settings = {"alerts__webhook_url": receiver.url, "alerts__webhook_secret": "a secret of sixteen or more"}
        with budget_desk.opened(tmp_path / "data", clock, **settings) as desk:
            outbox = desk.services.alerts.outbox
            outbox.start()
            desk.set("video", 10, scope={"team": "video"}, period="total", thresholds=(Decimal(1),))
            desk.record(10, team="video")
            look(desk)
            until(lambda: [each.error for each in alerts(desk)[0].deliveries] == ["it answered 500"], "a failure")
            # The clock was a day ahead when it said when to try again.
            clock.advance(-86_400)
            outbox.wake()
            until(lambda: alerts(desk)[0].deliveries[0].delivered_ms, "the delivery")
            assert len(receiver.posts) == 2


def test_amounts_past_64_bits_keep_no_other_alert_back(desk: Desk, clock: ManualClock) -> None:
    desk.set("huge", 10, scope={"team": "huge"}, hard=False, period="hour", thresholds=(Decimal(1),))
    desk.set("other", 10, scope={"team": "other"}, hard=False, period="total", thresholds=(Decimal(1),))
    clock.advance(200)
    for _ in range(520):
        desk.record(100_000_000, team="huge")  # the most that one record may cost
    desk.record(20, team="other")
    look(desk)
    assert {listed.alert.budget for listed in alerts(desk)} == {"huge", "other"}
    assert {listed.alert.forecast_nano for listed in alerts(desk, "huge")} == {MOST_NANO}
