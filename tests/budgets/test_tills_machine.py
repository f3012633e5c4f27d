"""Tills against a ledger kept by hand: any order of calls, records, releases, hours, changes, stops and crashes."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from budget_desk import CENT_NANO, HOUR_MS, NOON_MS, Desk, opened
from costd.clock import ManualClock

_USERS = ("ada", "bob", "eve")
_TTL_MS = 15 * 60_000
_AMOUNTS = st.integers(1, 40)
_EACH_LIMIT = 60


class Call(NamedTuple):
    """A call that was allowed and is neither settled, released nor expired; `life` is the process that allowed it."""

    user: str
    cents: int
    at_ms: int
    expires_ms: int
    life: int


class Till(NamedTuple):
    """What is known of one window for certain: settled, reserved, and between what bounds a ghost is."""

    settled: int
    reserved: int
    least_ghost: int
    most_ghost: int


class Tills(RuleBasedStateMachine):
    """Two hard budgets for an hour each: one for all, one for each user."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "data"
        self.clock = ManualClock(NOON_MS)
        self.limit = 100
        self.calls: dict[str, Call] = {}
        self.settled: dict[tuple[str, int], int] = {}
        self.number = 0
        self.life = 0
        self.started_ms = NOON_MS
        self.ghosts: dict[str, tuple[int, int]] = {}
        self._open()
        self.highest = self.limit
        self.desk.set("all", self.limit, scope={"source_app": "tests"}, period="hour")
        self.desk.set("each", _EACH_LIMIT, scope={"source_app": "tests"}, each="user", period="hour")

    def _open(self) -> None:
        self.life_stack = ExitStack()
        self.is_killed = False
        self.desk: Desk = self.life_stack.enter_context(
            opened(self.folder, self.clock, is_killed=lambda: self.is_killed)
        )

    def teardown(self) -> None:
        self.life_stack.close()
        self.stack.close()

    # -- what is known ---------------------------------------------------------------------------------------------

    def limit_of(self, value: str) -> int:
        return _EACH_LIMIT if value else self.limit

    def till(self, value: str) -> Till:
        """The present window of one budget; "" is the one for all."""
        hour = self.clock.now_ms() // HOUR_MS
        reserved = sum(
            call.cents
            for call in self.calls.values()
            if call.life == self.life and value in {"", call.user} and call.at_ms // HOUR_MS == hour
        )
        is_haunted = self.clock.now_ms() < self.started_ms + _TTL_MS and self.started_ms // HOUR_MS == hour
        least, most = self.ghosts.get(value, (0, 0)) if is_haunted else (0, 0)
        return Till(self.settled.get((value, hour), 0), reserved, least, most)

    # -- what happens ----------------------------------------------------------------------------------------------

    @rule(user=st.sampled_from(_USERS), cents=_AMOUNTS)
    def ask(self, user: str, cents: int) -> None:
        self.number += 1
        name = f"call-{self.number}"
        answer = self.desk.ask(cents, name, user=user)
        for value in ("", user):
            till = self.till(value)
            if answer.allow:
                least = till.settled + till.reserved + till.least_ghost + cents
                assert least <= self.limit_of(value), (value, till)
        if answer.allow:
            now_ms = self.clock.now_ms()
            self.calls[name] = Call(user, cents, now_ms, now_ms + _TTL_MS, self.life)
            return
        tills = [(value, self.till(value)) for value in ("", user)]
        assert any(
            till.settled + till.reserved + till.most_ghost + cents > self.limit_of(value) for value, till in tills
        ), tills

    @rule(data=st.data(), more=st.integers(-10, 10))
    @precondition(lambda self: self.calls)
    def record(self, data: st.DataObject, more: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls.pop(name)
        cents = max(0, call.cents + more)
        self.desk.record(cents, name, user=call.user)
        at_ms = call.at_ms if call.life == self.life else self.clock.now_ms()
        self._settle(call.user, at_ms, cents)

    @rule(user=st.sampled_from(_USERS), cents=_AMOUNTS)
    def record_unasked(self, user: str, cents: int) -> None:
        self.desk.record(cents, user=user)
        self._settle(user, self.clock.now_ms(), cents)

    @rule(data=st.data())
    @precondition(lambda self: self.calls)
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls.pop(name)
        assert self.desk.release(name) == (call.life == self.life)

    @rule(data=st.data())
    @precondition(lambda self: self.calls)
    def ask_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls[name]
        if call.life == self.life:
            assert self.desk.ask(call.cents, name, user=call.user).allow

    @rule(minutes=st.sampled_from((1, 7, 14, 29, 61)))
    def wait(self, minutes: int) -> None:
        self.desk.beat(minutes * 60)
        now_ms = self.clock.now_ms()
        self.calls = {name: call for name, call in self.calls.items() if call.expires_ms > now_ms}

    @rule(cents=st.sampled_from((0, 50, 100, 150)))
    def change_amount(self, cents: int) -> None:
        self.desk.set("all", cents)
        self.limit = cents
        self.highest = max(self.highest, cents)

    @rule(is_killed=st.booleans())
    def begin_again(self, is_killed: bool) -> None:
        ghosts = {}
        for value in ("", *_USERS):
            till = self.till(value)
            left = max(0, self.limit_of(value) - till.settled)
            held = till.reserved + till.least_ghost
            # A mark is never above what could be reserved when it was raised; a lower limit may have come after that.
            highest = max(0, (_EACH_LIMIT if value else self.highest) - till.settled)
            most = highest if is_killed else min(highest, till.reserved + till.most_ghost)
            ghosts[value] = min(held, left), most
        self.is_killed = is_killed
        self.life_stack.close()
        self._open()
        self.life += 1
        self.started_ms, self.ghosts = self.clock.now_ms(), ghosts

    def _settle(self, user: str, at_ms: int, cents: int) -> None:
        for value in ("", user):
            at = value, at_ms // HOUR_MS
            self.settled[at] = self.settled.get(at, 0) + cents

    # -- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def the_books_are_those_kept_by_hand(self) -> None:
        for name, value in (("all", ""), *(("each", user) for user in _USERS)):
            stands, till = self.desk.stands(name, value or None), self.till(value)
            assert stands.settled == till.settled, (name, value)
            ghost_nano = self._reserved_nano(name, value) - till.reserved * CENT_NANO
            assert till.least_ghost * CENT_NANO <= ghost_nano <= till.most_ghost * CENT_NANO, (name, value, till)

    def _reserved_nano(self, name: str, value: str) -> int:
        services = self.desk.services
        standing = services.budget_status.standing(self.desk.caller, name, value=value or None)
        return standing.windows[0].reserved_nano if standing.windows else 0


#: A daemon for each try is too slow to shrink with.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
_USUAL = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), phases=_PHASES
)

TestTills = Tills.TestCase
TestTills.settings = _USUAL


@pytest.mark.soak
def test_tills_against_a_ledger_kept_by_hand_for_long() -> None:
    examples = int(os.environ.get("COSTD_KILL_ROUNDS") or 200) * 5
    run_state_machine_as_test(Tills, settings=settings(_USUAL, max_examples=examples, stateful_step_count=100))
