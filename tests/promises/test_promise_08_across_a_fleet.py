"""Promise 8: calls that reserve at a sidecar and are recorded there in time never pass a hard budget, in no fleet.

A state machine does to a hub and its sidecars whatever may happen to them: requests and answers are lost, and said
again long after; processes are killed; ledgers are set back to earlier copies and cloned; the hub is; clocks run apart;
limits change, records are taken back, a sidecar is lost for ever. The services and the ledgers are the real ones. After
every step what is in memory is what is on disk, the books balance, and nothing was spent that was not there. In the
end, with all of it healed, nothing is held, and every window is the sum of its records.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from budgets.slice_fleet import LIMITS, TTL_S, USERS, Held, HubDesk, Road, SidecarDesk
from costd.clock import ManualClock
from costd.domain.books import Account, Holder
from costd.domain.window_key import WindowKey
from costd.services.live_window import LiveWindow
from costd.store.budget_rows import WindowRow, read_windows
from costd.store.commit import Change
from costd.store.corrections import void_event
from ledger import NOW_MS

#: Histories tried, and steps of each; more by COSTD_SLICE_EXAMPLES.
EXAMPLES = int(os.environ.get("COSTD_SLICE_EXAMPLES") or 40)
STEPS = 60
#: Where ledgers are in memory, if there is such a place: they are made by the dozen.
PLACE = "/dev/shm" if Path("/dev/shm").is_dir() else None
NAMES = ("a", "b", "c")
PLACES = st.integers(0, len(NAMES) - 1)
COSTS = st.integers(0, 60)


class Fleet(RuleBasedStateMachine):
    """Three sidecars and a hub with a budget for all and one for each user."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="costd-slices-", dir=PLACE)
        self.root = Path(self._folder.name)
        self.hub = HubDesk(self.root / "hub", ManualClock(NOW_MS))
        self.road = Road()
        self.nodes = [SidecarDesk(self.root / name, ManualClock(NOW_MS), name) for name in NAMES]
        self.calls: list[dict[str, Held]] = [{} for _ in NAMES]
        self.copies: dict[int, Path] = {}
        self.hub_copy: Path | None = None
        self.names = 0
        self.highest = dict(LIMITS)
        #: By request id: what of its cost was within its reservation, and in which windows.
        self.kept: dict[str, tuple[int, frozenset[WindowKey]]] = {}
        self.voided: set[str] = set()
        self.dead: set[int] = set()
        #: Epochs that may have been spent by somebody who is not there any more: their money stays held.
        self.is_lossy = False

    @initialize()
    def begin(self) -> None:
        """All are connected at first."""
        for at in range(len(NAMES)):
            self.connect(at)

    # -- what sidecars do ----------------------------------------------------------------------------------------------

    @rule(at=PLACES)
    def connect(self, at: int) -> None:
        """A sidecar comes to the hub, hears of budgets, forwards what it has, and asks."""
        if at not in self.dead:
            self.nodes[at].sync(self.hub)
            self.nodes[at].forward(self.hub)
            self._asked(at)

    @rule(at=PLACES, lost=st.sampled_from((0, 0, 1, 2)))
    def ask(self, at: int, lost: int) -> None:
        """A sidecar asks for slices and gives back what it does not need; it may be in vain."""
        self._asked(at, lost)

    def _asked(self, at: int, lost: int = 0) -> bool:
        """Whether there was an answer; the question (1) or the answer (2) may be lost."""
        if at in self.dead:
            return False
        self.road.arrives, self.road.is_heard = lost != 1, lost != 2
        return self.nodes[at].lease(self.hub, self.road)

    @rule(at=PLACES, user=st.sampled_from(USERS), amount=st.integers(1, 50), lost=st.sampled_from((0, 0, 0, 1, 2)))
    def reserve(self, at: int, user: str, amount: int, lost: int) -> None:
        """A caller asks before a call; the hub may be asked for more, and the question or the answer be lost."""
        if at in self.dead:
            return
        self.names += 1
        name = f"call-{self.names}"
        held = self.nodes[at].reserve(name, user, amount, lambda: self._asked(at, lost))
        if held is not None:
            self.calls[at][name] = held

    @rule(user=st.sampled_from(USERS), amount=st.integers(1, 50))
    def reserve_at_the_hub(self, user: str, amount: int) -> None:
        """The hub's own callers are like any other; they record at once."""
        self.names += 1
        name = f"call-{self.names}"
        held = self.hub.reserve(name, user, amount)
        if held is not None:
            self.hub.settle(name, user, amount)
            self.kept[name] = amount, held.windows

    @rule(at=PLACES, data=st.data(), cost=COSTS)
    def record(self, at: int, data: st.DataObject, cost: int) -> None:
        """A caller that reserved records, in time or late, less or more."""
        if self.calls[at]:
            name = data.draw(st.sampled_from(sorted(self.calls[at])))
            held = self.calls[at].pop(name)
            in_time = self.nodes[at].clock.elapsed_ms() < held.until_ms
            self.nodes[at].settle(name, held.user, cost)
            self.kept[name] = (min(cost, held.amount) if in_time else 0), held.windows

    @rule(at=PLACES, data=st.data())
    def release(self, at: int, data: st.DataObject) -> None:
        """A caller that will not make its call."""
        if self.calls[at]:
            name = data.draw(st.sampled_from(sorted(self.calls[at])))
            del self.calls[at][name]
            self.nodes[at].tills.release((1, name))

    @rule(at=PLACES, user=st.sampled_from(USERS), cost=COSTS)
    def record_unreserved(self, at: int, user: str, cost: int) -> None:
        """Usage that nobody reserved."""
        if at not in self.dead:
            self.nodes[at].settle("", user, cost)

    @rule(at=PLACES, batches=st.integers(0, 2), is_heard=st.booleans())
    def forward(self, at: int, batches: int, is_heard: bool) -> None:
        """Records arrive at the hub; the sidecar may not hear so."""
        if at not in self.dead:
            self.nodes[at].forward(self.hub, batches, heard=lambda: is_heard)

    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        """A request that was under way for long arrives, perhaps for the second time."""
        if self.road.said:
            name, request = data.draw(st.sampled_from(self.road.said))
            if NAMES.index(name) not in self.dead:
                self.hub.lending.lease(self.hub.sources[name], request)

    # -- what happens to them ------------------------------------------------------------------------------------------

    @rule(at=PLACES, seconds=st.sampled_from((0.5, 5, 31, TTL_S, 130)))
    def pass_time(self, at: int, seconds: float) -> None:
        """A clock goes on, at one of them alone."""
        self.nodes[at].pass_time(seconds)

    @rule(seconds=st.sampled_from((1, 6, TTL_S)))
    def pass_time_at_the_hub(self, seconds: float) -> None:
        """The hub's does."""
        self.hub.pass_time(seconds)

    @rule(at=PLACES, is_clean=st.booleans())
    def restart(self, at: int, is_clean: bool) -> None:
        """A process ends, or is killed; its callers go on."""
        node = self.nodes[at]
        if is_clean:
            node.tills.close()
        node.close()
        node._open()

    @rule()
    def restart_hub(self) -> None:
        """The hub is killed."""
        self.hub.close()
        self.hub._open()

    @rule(at=PLACES)
    def copy(self, at: int) -> None:
        """A backup of a sidecar."""
        self.copies[at] = self.root / f"copy-{at}"
        self.nodes[at].copy_to(self.copies[at])

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def set_back(self, data: st.DataObject) -> None:
        """A sidecar restored from its backup. What its callers had reserved is not reserved there."""
        at = data.draw(st.sampled_from(sorted(self.copies)))
        if at not in self.dead:
            self.nodes[at].set_back(self.copies[at])
            self._forget_calls(at)
            self.is_lossy = True

    @rule(at=st.sampled_from((0, 1)))
    def clone(self, at: int) -> None:
        """The third sidecar becomes a copy of another, identity and all; what it had is forwarded before."""
        if at in self.dead or 2 in self.dead:
            return
        self.nodes[2].forward(self.hub)
        self.nodes[at].copy_to(self.root / "clone")
        self.nodes[2].set_back(self.root / "clone")
        self.nodes[2].name = self.nodes[at].name
        self._forget_calls(2)
        self.copies.pop(2, None)
        self.is_lossy = True

    @rule()
    def copy_hub(self) -> None:
        """A backup of the hub."""
        self.hub_copy = self.root / "copy-hub"
        self.hub.copy_to(self.hub_copy)

    @precondition(lambda self: self.hub_copy is not None)
    @rule()
    def restore_hub(self) -> None:
        """The hub restored from its backup."""
        assert self.hub_copy is not None
        self.hub.restored(self.hub_copy)
        self.is_lossy = True

    @rule(name=st.sampled_from(sorted(LIMITS)), amount=st.integers(0, 200))
    def change_limit(self, name: str, amount: int) -> None:
        """Another amount."""
        self.highest[name] = max(self.highest[name], amount)
        self.hub.change_limit(name, amount)

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """A record is taken back at the hub."""
        there = self._request_ids(self.hub)
        if there:
            name = data.draw(st.sampled_from(sorted(there)))
            self.hub.writer.submit(Change(lambda c: void_event(c, 1, name, "wrong", "tester"))).wait(20)
            self.kept.pop(name, None)

    @rule(at=PLACES, sure=st.integers(0, 9))
    def forget(self, at: int, sure: int) -> None:
        """The operator gives a sidecar up that is lost for ever; seldom, or nobody would be left."""
        if sure == 9 and at not in self.dead and len({node.name for node in self.nodes}) == len(NAMES):
            self.dead.add(at)
            self._forget_calls(at)
            self.hub.forget(NAMES[at])

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def memory_is_what_is_on_disk(self) -> None:
        """Windows of every desk are as their rows say; the hub's balance."""
        for desk in (self.hub, *self.nodes):
            lives = {live.key: live for live in desk.tills.lives()}
            with desk.readers.snapshot() as connection:
                rows = read_windows(connection, list(lives))
            for key, live in lives.items():
                row = rows[key]
                assert (row.settled_nano, row.credited_nano) == (live.row.settled_nano, live.row.credited_nano)
                if desk is self.hub:
                    self._compare(live, row)

    def _compare(self, live: LiveWindow, row: WindowRow) -> None:
        """The hub's books are those on disk, and they balance as told by their counters, added up anew."""
        books, till, accounts = live.books, live.till, [Account(*each) for each in row.accounts.values()]
        assert live.is_sound
        assert {Holder(*at): Account(*each) for at, each in row.accounts.items() if any(each)} == books.accounts
        assert (books.own_settled_nano, books.credited_nano) == (row.settled_nano, row.credited_nano)
        charge = sum(each.charge_nano for each in accounts)
        settled = sum(each.settled_nano for each in accounts) + row.settled_nano - row.credited_nano
        held = sum(each.held_nano for each in accounts) + till.reserved_nano
        limit, reserved = live.budget.amount_nano, till.reserved_nano
        assert books.limit_nano == limit
        assert till.bound_nano == limit + row.credited_nano - charge
        assert limit == books.available_nano(reserved) + held + settled - books.overshoot_nano(reserved)
        bound = sum(each.bound_nano for each in accounts)
        assert self.is_lossy or bound <= self.highest[live.budget.name] + row.credited_nano

    @invariant()
    def callers_that_reserve_do_not_pass_the_limit(self) -> None:
        """Of all records that any ledger still has, the part within reservations is at most the highest limit."""
        there = set().union(*(self._request_ids(desk) for desk in (self.hub, *self._living())))
        spent: Counter[WindowKey] = Counter()
        for name, (cost, windows) in self.kept.items():
            if name in there:
                spent.update(dict.fromkeys(windows, cost))
        names = {held.budget.id: held.budget.name for held in self.hub.budgets.all_in_force()}
        for key, cost in spent.items():
            assert cost <= self.highest[names[key.budget_id]], key

    def teardown(self) -> None:
        """Heal: then nothing is held, and windows are the sum of what was recorded."""
        try:
            self._heal()
            self.memory_is_what_is_on_disk()
            self.callers_that_reserve_do_not_pass_the_limit()
            for desk in (self.hub, *self._living()):
                assert desk.findings() == []
            self._assert_nothing_is_held()
        finally:
            for desk in (*self.nodes, self.hub):
                desk.close()
            self._folder.cleanup()

    def _heal(self) -> None:
        for calls in self.calls:
            calls.clear()
        for desk in (self.hub, *self.nodes):
            desk.pass_time(TTL_S)
        for _ in range(6):
            for user in USERS:  # a call that is far too large: whoever has something gives it back
                assert self.hub.reserve(f"want-{user}", user, 10**9) is None
            for at in range(len(NAMES)):
                self.connect(at)
            for desk in (self.hub, *self.nodes):
                desk.pass_time(31)

    def _assert_nothing_is_held(self) -> None:
        for live in self.hub.tills.lives():
            for holder, account in live.books.accounts.items():
                is_present = any(
                    self.hub.sources[node.name].id == holder.source and node.seat.epoch == holder.epoch
                    for node in self._living()
                )
                assert not account.held_nano or (self.is_lossy and not is_present), (live.key, holder, account)

    # -- who is there --------------------------------------------------------------------------------------------------

    def _living(self) -> list[SidecarDesk]:
        return [node for at, node in enumerate(self.nodes) if at not in self.dead]

    def _forget_calls(self, at: int) -> None:
        """Its callers record what they had reserved elsewhere, as seen from here, without having reserved."""
        for name, held in self.calls[at].items():
            self.calls[at][name] = held._replace(amount=0)

    @staticmethod
    def _request_ids(desk: HubDesk | SidecarDesk) -> set[str]:
        return {name for (name,) in desk.query("SELECT request_id FROM request")}


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate] if os.environ.get("NOSHRINK") else list(Phase),
)
