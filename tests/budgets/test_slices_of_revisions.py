"""A sidecar forgets what it held of a budget's windows once the budget has another revision."""

from __future__ import annotations

from pathlib import Path

from budgets.slice_fleet import ADMIN, HubDesk, Road, SidecarDesk
from costd.clock import ManualClock
from costd.domain.budget_change import BudgetChange
from ledger import NOW_MS


def test_slices_of_former_revisions_are_forgotten(tmp_path: Path) -> None:
    hub, road = HubDesk(tmp_path / "hub", ManualClock(NOW_MS)), Road()
    node = SidecarDesk(tmp_path / "a", ManualClock(NOW_MS), "a")
    node.sync(hub)
    node.forward(hub)
    node.lease(hub, road)
    for number in range(6):
        assert node.reserve(f"call {number}", "ada", 1, lambda: node.lease(hub, road))
        hub.budgets.set(ADMIN, BudgetChange("users", period="day" if number % 2 else "week"))
        node.sync(hub)
        node.lease(hub, road)
    assert set(node.slices._held) <= {live.key for live in node.tills.lives()}
    node.close()
    hub.close()
