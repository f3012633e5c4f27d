"""What a hub's own callers have reserved is not lent to anybody."""

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
