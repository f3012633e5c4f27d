"""A process that the hub confirmed without being heard, and that is killed then, leaves no money behind."""

from __future__ import annotations

from pathlib import Path

from budgets.slice_fleet import TTL_S, HubDesk, Road, SidecarDesk
from costd.clock import ManualClock
from ledger import NOW_MS


def _started_anew(node: SidecarDesk, hub: HubDesk, road: Road) -> None:
    """A new process that asks once; it need not be heard, nor hear."""
    node.close()
    node._open()
    node.sync(hub)
    node.forward(hub)
    node.lease(hub, road)


def test_processes_that_were_confirmed_and_never_heard_so_are_no_copies(tmp_path: Path) -> None:
    hub, road = HubDesk(tmp_path / "hub", ManualClock(NOW_MS)), Road()
    node = SidecarDesk(tmp_path / "a", ManualClock(NOW_MS), "a")
    node.sync(hub)
    node.forward(hub)
    node.lease(hub, road)
    assert node.reserve("call", "ada", 10, lambda: node.lease(hub, road))
    node.settle("call", "ada", 10)
    node.forward(hub)
    epoch = node.seat.epoch
    for heard in ((True, False), (False, True), (True, False), (True, True)):
        road.arrives, road.is_heard = heard
        _started_anew(node, hub, road)
    assert node.seat.epoch == epoch
    held = [live.books.held_nano() for live in hub.tills.lives()]
    assert sum(held) > 0
    for _ in range(3):
        node.pass_time(TTL_S)
        node.forward(hub)
        node.lease(hub, road)
    assert not any(live.books.held_nano() for live in hub.tills.lives()), "what it held is idle, and went back"
    node.close()
    hub.close()
