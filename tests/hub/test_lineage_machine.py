"""Whatever happens to a fleet's ledgers, in the end the hub holds every record that a sidecar holds, once.

Sidecars and hub are stopped, set back to earlier copies, cloned; answers get lost; records go astray to two sidecars.
A state machine does all of that in any order, on real ledgers, and heals in the end.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from costd.clock import ManualClock
from hub.fleet_model import HubNode, SourceNode
from ledger import NOW_MS

#: Histories tried; more by COSTD_FLEET_EXAMPLES.
EXAMPLES = int(os.environ.get("COSTD_FLEET_EXAMPLES") or 20)
PLACES = st.sampled_from((0, 1, 2))


class Fleet(RuleBasedStateMachine):
    """Two sidecars, a third that may become a clone of one of them, and a hub."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="costd-fleet-")
        self.root = Path(self._folder.name)
        self.clock = ManualClock(NOW_MS)
        self.hub = HubNode(self.root / "hub", self.clock)
        self.nodes = [SourceNode(self.root / name, self.clock, name) for name in ("a", "b", "c")]
        self.copies: dict[int, Path] = {}
        self.hub_copy: Path | None = None
        self.shared = 0

    @initialize()
    def begin(self) -> None:
        """Something is there from the beginning."""
        for node in self.nodes:
            node.record(user="first")

    @rule(at=PLACES, cost=st.integers(1, 9), forwarded=st.booleans())
    def record(self, at: int, cost: int, *, forwarded: bool) -> None:
        """A record, forwarded at once or later."""
        self.clock.advance(1)
        self.nodes[at].record(cost=cost, user=f"u{cost}")
        if forwarded:
            self.nodes[at].forward(self.hub)

    @rule(first=PLACES, second=PLACES)
    def record_at_two(self, first: int, second: int) -> None:
        """A caller that got no answer from one sidecar sends its record to another."""
        self.clock.advance(1)
        self.shared += 1
        for at in {first, second}:
            self.nodes[at].record(request_id=f"r{self.shared}", cost=self.shared)

    @rule(at=PLACES, batches=st.integers(0, 2))
    def forward_unheard(self, at: int, batches: int) -> None:
        """Batches that arrive, and an answer that does not."""
        self.nodes[at].forward(self.hub, batches, heard=lambda: False)

    @rule(at=PLACES)
    def restart(self, at: int) -> None:
        """A new process on the same ledger."""
        self.nodes[at].close()
        self.nodes[at]._open()

    @rule(at=PLACES)
    def copy(self, at: int) -> None:
        """A backup of a sidecar."""
        self.copies[at] = self.root / f"copy-{at}"
        self.nodes[at].copy_to(self.copies[at])

    @rule(at=PLACES)
    def set_back(self, at: int) -> None:
        """A sidecar restored from its backup: what it recorded since is known at most to the hub."""
        if at in self.copies:
            self.nodes[at].set_back(self.copies[at])

    @rule(at=PLACES)
    def clone(self, at: int) -> None:
        """The third sidecar becomes a copy of another, identity and all; what it had is forwarded before."""
        if at == 2:
            return
        self.nodes[2].forward(self.hub)
        self.nodes[at].copy_to(self.root / "clone")
        self.nodes[2].set_back(self.root / "clone")
        self.nodes[2].name = self.nodes[at].name
        self.copies.pop(2, None)

    @rule()
    def copy_hub(self) -> None:
        """A backup of the hub."""
        self.hub_copy = self.root / "copy-hub"
        self.hub.copy_to(self.hub_copy)

    @rule()
    def set_hub_back(self) -> None:
        """The hub restored from its backup."""
        if self.hub_copy is not None:
            self.hub.set_back(self.hub_copy)

    @invariant()
    def the_hub_counts_each_request_once(self) -> None:
        """A request id is held once, whoever brought it."""
        held = Counter(row for (row,) in self.hub.query("SELECT request_id FROM request"))
        assert not held or max(held.values()) == 1

    def teardown(self) -> None:
        """Heal, and compare."""
        try:
            for _ in range(2):  # a hub that was set back learns of it from the first that comes
                for node in self.nodes:
                    node.forward(self.hub)
            at_hub = self.hub.events()
            for node in self.nodes:
                self._compare(node, at_hub)
            assert self.hub.total() == (len(at_hub), sum(at_hub.values()))
        finally:
            for node in (*self.nodes, self.hub):
                node.close()
            self._folder.cleanup()

    def _compare(self, node: SourceNode, at_hub: dict[str, int]) -> None:
        """Every record of a sidecar is at the hub, but those that it has taken back as another's."""
        taken_back = {row for (row,) in node.query("SELECT hex(event_id) FROM adjustment WHERE kind = 'duplicate'")}
        for event_id, cost in node.events().items():
            if event_id.replace("-", "").upper() not in taken_back:
                assert at_hub.get(event_id) == cost, f"{node.name} lacks {event_id} at the hub"
        assert node.query("SELECT count(*) FROM quarantine") == [(0,)]


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=False,
)
