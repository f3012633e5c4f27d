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
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from budgets.slice_fleet import LIMITS, TTL_S, USERS, Held, HubDesk, Road, SidecarDesk
from costd.clock import ManualClock
from costd.domain.books import Account, Holder
from costd.domain.window_key import WindowKey
from costd.services.live_window import LiveWindow
from costd.store.budget_rows import WindowRow, read_windows
from costd.store.commit import Change
from costd.store.corrections import void_event
from ledger import NOW_MS

#: Histories tried in the suite, and steps of each.
EXAMPLES = 40
STEPS = 60
#: Where ledgers are in memory, if there is such a place: they are made by the dozen.
PLACE = "/dev/shm" if Path("/dev/shm").is_dir() else None
NAMES = ("a", "b", "c")
PLACES = st.integers(0, len(NAMES) - 1)
SECONDS = (0.5, 1, 5, 6, 31, TTL_S, 130)
#: What is done, and how often next to the others.
OFTEN = {
    "connect": 6,
    "ask": 4,
    "reserve": 10,
    "record": 8,
    "call": 6,
    "rush": 3,
    "release": 2,
    "record_unreserved": 1,
    "forward": 4,
    "call_at_the_hub": 3,
    "say_again": 3,
    "pass_time": 5,
    "pass_time_at_the_hub": 3,
    "restart": 2,
    "restart_hub": 1,
    "copy": 1,
    "set_back": 1,
    "clone": 1,
    "copy_hub": 1,
    "restore_hub": 1,
    "change_limit": 2,
    "void": 1,
    "forget": 1,
}


#: What happens seldom: each history has some of them.
TROUBLES = ("restart_hub", "set_back", "clone", "restore_hub", "forget", "void", "change_limit", "record_unreserved")


class Which(NamedTuple):
    """To whom and what a step is done."""

    at: int
    user: str = USERS[0]
    amount: int = 0
    lost: int = 0
    pick: int = 0

    def of(self, names: Iterable[str]) -> str:
        """One of these names."""
        ordered = sorted(names)
        return ordered[self.pick % len(ordered)]


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
        self.hub_calls: dict[str, Held] = {}
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

    @initialize(troubles=st.sets(st.sampled_from(TROUBLES), min_size=1, max_size=4))
    def begin(self, troubles: set[str]) -> None:
        """All are connected at first."""
        self.troubles = troubles
        for at in range(len(NAMES)):
            self.connect(Which(at))
            if "set_back" in troubles:
                self.copy(Which(at))
        if "restore_hub" in troubles:
            self.copy_hub(Which(0))

    @rule(
        what=st.sampled_from([name for name, often in OFTEN.items() for _ in range(often)]),
        at=PLACES,
        user=st.sampled_from(USERS),
        amount=st.integers(0, 60),
        lost=st.sampled_from((0, 0, 0, 1, 2)),
        pick=st.integers(0, 1_000),
    )
    def step(self, what: str, **which: Any) -> None:
        """One of these, as often as OFTEN says. What is `lost` is a question (1) or an answer (2)."""
        one = Which(**which)
        if what in TROUBLES or (what == "call" and one.pick % 5 == 0):
            what = one.of(self.troubles)
        getattr(self, what)(one)

    # -- what sidecars do ----------------------------------------------------------------------------------------------

    def connect(self, which: Which) -> None:
        """A sidecar comes to the hub, hears of budgets, forwards what it has, and asks."""
        at = which.at
        if at not in self.dead:
            self.nodes[at].sync(self.hub)
            self.nodes[at].forward(self.hub)
            self._asked(at)

    def ask(self, which: Which) -> None:
        """A sidecar asks for slices and gives back what it does not need; it may be in vain."""
        self._asked(which.at, which.lost)

    def reserve(self, which: Which) -> None:
        """A caller asks before a call; the hub may be asked for more, and the question or the answer be lost."""
        at = which.at
        if at in self.dead:
            return
        name = self._next_name()
        more = partial(self._asked, at, which.lost)
        held = self.nodes[at].reserve(name, which.user, max(1, which.amount), more)
        if held is not None:
            self.calls[at][name] = held

    def record(self, which: Which) -> None:
        """A caller that reserved records, in time or late, less or more."""
        at, calls = which.at, self.calls[which.at]
        if calls:
            name = which.of(calls)
            held = calls.pop(name)
            in_time = self.nodes[at].clock.elapsed_ms() < held.until_ms
            self.nodes[at].settle(name, held.user, which.amount)
            self.kept[name] = (min(which.amount, held.amount) if in_time else 0), held.windows

    def call(self, which: Which) -> None:
        """A caller asks, calls and records what it had reserved."""
        self.reserve(which)
        newest = f"call-{self.names}"
        if newest in self.calls[which.at]:
            held = self.calls[which.at].pop(newest)
            self.nodes[which.at].settle(newest, held.user, held.amount)
            self.kept[newest] = held.amount, held.windows

    def rush(self, which: Which) -> None:
        """Many calls in a row: until there is no money left, most of the time."""
        for _ in range(8):
            self.call(which)
            self.nodes[which.at].clock.advance(0.2)

    def release(self, which: Which) -> None:
        """A caller that will not make its call."""
        calls = self.calls[which.at]
        if calls:
            name = which.of(calls)
            del calls[name]
            self.nodes[which.at].tills.release((1, name))

    def record_unreserved(self, which: Which) -> None:
        """Usage that nobody reserved."""
        if which.at not in self.dead:
            self.nodes[which.at].settle("", which.user, which.amount)

    def forward(self, which: Which) -> None:
        """Some records arrive at the hub; the sidecar may not hear so."""
        if which.at not in self.dead:
            self.nodes[which.at].forward(self.hub, which.pick % 3, heard=lambda: not which.lost)

    def call_at_the_hub(self, which: Which) -> None:
        """The hub's own callers are like any other; they record at once, or later."""
        name, amount = self._next_name(), max(1, which.amount)
        held = self.hub.reserve(name, which.user, amount)
        if held is not None:
            self.hub_calls[name] = held
        if self.hub_calls and which.pick % 3:
            name = which.of(self.hub_calls)
            held = self.hub_calls.pop(name)
            in_time = self.hub.clock.elapsed_ms() < held.until_ms
            self.hub.settle(name, held.user, held.amount)
            self.kept[name] = (held.amount if in_time else 0), held.windows

    def say_again(self, which: Which) -> None:
        """A request that was under way for long arrives, perhaps for the second time."""
        if self.road.said:
            name, request = self.road.said[which.pick % len(self.road.said)]
            if NAMES.index(name) not in self.dead:
                self.hub.lending.lease(self.hub.sources[name], request)

    # -- what happens to them ------------------------------------------------------------------------------------------

    def pass_time(self, which: Which) -> None:
        """A clock goes on, at one of them alone."""
        self.nodes[which.at].pass_time(SECONDS[which.pick % len(SECONDS)])

    def pass_time_at_the_hub(self, which: Which) -> None:
        """The hub's does."""
        self.hub.pass_time(SECONDS[which.pick % len(SECONDS)])

    def restart(self, which: Which) -> None:
        """A process ends, or is killed; its callers go on."""
        node = self.nodes[which.at]
        if which.pick % 2:
            node.tills.close()
        node.close()
        node._open()
        if which.lost and which.at not in self.dead:  # it is confirmed, and may never hear so
            node.sync(self.hub)
            node.forward(self.hub)
            self._asked(which.at, which.lost)

    def restart_hub(self, which: Which) -> None:
        """The hub is killed."""
        self.hub.close()
        self.hub._open()

    def copy(self, which: Which) -> None:
        """A backup of a sidecar."""
        self.copies[which.at] = self.root / f"copy-{which.at}"
        self.nodes[which.at].copy_to(self.copies[which.at])

    def set_back(self, which: Which) -> None:
        """A sidecar restored from its backup. What its callers had reserved is not reserved there."""
        at = which.at
        if at in self.copies and at not in self.dead:
            self._hurry(which)
            self.nodes[at].set_back(self.copies[at])
            self._forget_calls(at)
            self.is_lossy = True
            self._hurry(which)

    def clone(self, which: Which) -> None:
        """The third sidecar becomes a copy of another, identity and all; what it had is forwarded before."""
        at = which.at % 2
        if at in self.dead or 2 in self.dead:
            return
        self.nodes[2].forward(self.hub)
        self.nodes[at].copy_to(self.root / "clone")
        self.nodes[2].set_back(self.root / "clone")
        self.nodes[2].name = self.nodes[at].name
        self._forget_calls(2)
        self.copies.pop(2, None)
        self.is_lossy = True
        self._hurry(which._replace(at=2))
        self._hurry(which._replace(at=at))

    def copy_hub(self, which: Which) -> None:
        """A backup of the hub."""
        self.hub_copy = self.root / "copy-hub"
        self.hub.copy_to(self.hub_copy)

    def restore_hub(self, which: Which) -> None:
        """The hub restored from its backup."""
        if self.hub_copy is not None:
            self._hurry(which._replace(at=(which.at + 1) % len(NAMES)))
            self.hub.restored(self.hub_copy)
            self.hub_calls.clear()
            self.is_lossy = True
            self._hurry(which)

    def change_limit(self, which: Which) -> None:
        """Another amount."""
        name, amount = sorted(LIMITS)[which.pick % 2], which.amount * 12
        self.highest[name] = max(self.highest[name], amount)
        self.hub.change_limit(name, amount)

    def void(self, which: Which) -> None:
        """A record is taken back at the hub."""
        there = self._request_ids(self.hub)
        if there:
            name = which.of(there)
            self.hub.writer.submit(Change(lambda c: void_event(c, 1, name, "wrong", "tester"))).wait(20)
            self.kept.pop(name, None)

    def forget(self, which: Which) -> None:
        """The operator gives a sidecar up that is lost for ever; only one, or nobody would be left."""
        if not self.dead and len({node.name for node in self.nodes}) == len(NAMES):
            self.dead.add(which.at)
            self._forget_calls(which.at)
            self.hub.forget(NAMES[which.at])

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
            for at in (*range(len(NAMES)), *range(len(NAMES))):
                for user in USERS:
                    self.rush(Which(at, user, 37))
            self.callers_that_reserve_do_not_pass_the_limit()
            self._heal()
            self.memory_is_what_is_on_disk()
            self.callers_that_reserve_do_not_pass_the_limit()
            assert self.hub.query("SELECT reason FROM quarantine") == []
            for desk in (self.hub, *self._living()):
                assert desk.findings() == []
            self._assert_nothing_is_held()
        finally:
            for desk in (*self.nodes, self.hub):
                desk.close()
            self._folder.cleanup()

    def _heal(self) -> None:
        for calls in (*self.calls, self.hub_calls):
            calls.clear()
        for desk in (self.hub, *self.nodes):
            desk.pass_time(TTL_S)
        for _ in range(6):
            for user in USERS:  # a call that is far too large: whoever has something gives it back
                assert self.hub.reserve(f"want-{user}", user, 10**9) is None
            for at in range(len(NAMES)):
                self.connect(Which(at))
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

    def _hurry(self, which: Which) -> None:
        """What goes wrong would do so right after: the next callers take all that they can get."""
        if which.pick % 3:
            for _ in range(3):  # to be known, to report, to be confirmed
                self.connect(which)
            self.rush(which)

    def _asked(self, at: int, lost: int = 0) -> bool:
        """Whether there was an answer; the question (1) or the answer (2) may be lost."""
        if at in self.dead:
            return False
        self.road.arrives, self.road.is_heard = lost != 1, lost != 2
        return self.nodes[at].lease(self.hub, self.road)

    def _next_name(self) -> str:
        self.names += 1
        return f"call-{self.names}"

    def _living(self) -> list[SidecarDesk]:
        return [node for at, node in enumerate(self.nodes) if at not in self.dead]

    def _forget_calls(self, at: int) -> None:
        """Its callers record what they had reserved elsewhere, as seen from here, without having reserved."""
        for name, held in self.calls[at].items():
            self.calls[at][name] = held._replace(amount=0)

    @staticmethod
    def _request_ids(desk: HubDesk | SidecarDesk) -> set[str]:
        return {name for (name,) in desk.query("SELECT request_id FROM request")}


def run(examples: int, steps: int) -> None:
    """Try so many histories of so many steps each."""
    lasting = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Fleet, settings=lasting)


def test_promise_8_whatever_happens_to_a_fleet() -> None:
    run(EXAMPLES, STEPS)


@pytest.mark.soak
def test_promise_8_whatever_happens_to_a_fleet_for_long() -> None:
    run(int(os.environ.get("COSTD_KILL_ROUNDS") or 200) * 10, 2 * STEPS)
