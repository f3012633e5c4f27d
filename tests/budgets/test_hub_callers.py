"""What a hub's own callers have reserved is not lent to anybody, nor reserved again by those after a crash."""

from __future__ import annotations

from pathlib import Path

from budgets.slice_fleet import LIMITS, HubDesk, Road, SidecarDesk
from costd.clock import ManualClock
from ledger import NOW_MS


def test_what_the_hub_s_own_callers_reserved_is_not_lent(tmp_path: Path) -> None:
    hub, road = HubDesk(tmp_path / "hub", ManualClock(NOW_MS)), Road()
    node = SidecarDesk(tmp_path / "a", ManualClock(NOW_MS), "a")
    node.sync(hub)
    node.forward(hub)
    node.lease(hub, road)
    left = min(LIMITS.values())
    assert hub.reserve("own", "ada", left - 10)
    assert node.reserve("too large", "ada", 11, lambda: node.lease(hub, road)) is None
    assert node.reserve("it fits", "ada", 10, lambda: node.lease(hub, road))
    hub.settle("own", "ada", left - 10)
    node.settle("it fits", "ada", 10)
    node.forward(hub)
    for live in hub.tills.lives():
        assert live.books.settled_nano == left
        assert live.books.overshoot_nano(live.till.reserved_nano) == 0
    node.close()
    hub.close()


def test_what_was_reserved_before_a_crash_counts_though_the_amount_was_lower_meanwhile(tmp_path: Path) -> None:
    hub = HubDesk(tmp_path / "hub", ManualClock(NOW_MS))
    limit = min(LIMITS.values())
    assert hub.reserve("before", "ada", limit - 50)
    for name in LIMITS:
        hub.change_limit(name, 0)
    hub.close()
    hub._open()
    for name, amount in LIMITS.items():
        hub.change_limit(name, amount)
    assert hub.reserve("after", "ada", 51) is None
    hub.settle("before", "ada", limit - 50)
    assert max(live.books.overshoot_nano() for live in hub.tills.lives()) == 0
    hub.close()
