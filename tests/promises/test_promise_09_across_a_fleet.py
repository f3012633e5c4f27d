"""Promise 9 across a fleet: what callers or a sidecar leave behind denies others for a while, and frees nothing."""

from __future__ import annotations

from pathlib import Path

from budget_calls import CENT_NANO, set_budget
from fleet import Fleet, fleet
from fleet_spending import EXCEEDED, PATIENT, Caller, books, told
from harness import until

#: Reservations live so long here.
_TTL_MINUTES = 0.1
_TTL_S = _TTL_MINUTES * 60
#: What others have to find in reach after that: the next question to the hub, and the one after it.
_SOON_S = 15.0


def _members(members: Fleet) -> tuple[Caller, Caller]:
    """A sidecar whose callers come to nothing, and another one; $5 for both."""
    for name in ("storm", "calm"):
        members.add(name, *PATIENT, f"--budgets-reservation-minutes={_TTL_MINUTES}")
    set_budget(members.hub, "cap", 500, scope={"user": "ada"})
    running = [each.running for each in members.sidecars]
    told(*running)
    callers = [Caller(each) for each in running]
    for caller in callers:
        until(caller.is_served, "the hub's first word")
    return callers[0], callers[1]


def _storm(caller: Caller) -> int:
    """Ask and never record, until it is denied; how many cents were allowed."""
    cents = 0
    while caller.ask(10).allow:
        cents += 10
    return cents


def test_promise_09_callers_that_vanish_hold_money_for_its_time_to_live_alone(tmp_path: Path) -> None:
    with fleet(tmp_path) as members:
        storm, calm = _members(members)
        held = _storm(storm)
        assert held > 300
        assert calm.spend_all(10) == EXCEEDED
        assert calm.spent + held <= 500, "what is reserved is not lent to anybody else"

        def has_all() -> bool:
            calm.spend_all(10)
            return calm.spent == 500

        until(has_all, "what was held", _TTL_S + _SOON_S)
        members.drain()
        assert books(members.data_dir).settled == 500 * CENT_NANO


def test_promise_09_a_sidecar_that_is_killed_frees_nothing_that_may_have_been_spent(tmp_path: Path) -> None:
    with fleet(tmp_path) as members:
        storm, calm = _members(members)
        held = _storm(storm)
        members.sidecars[0].kill()
        calm.spend_all(10)
        assert calm.spent + held <= 500, "what a sidecar holds that is away is nobody else's"
        again = Caller(members.sidecars[0].start())
        # Whoever asked the process before has spent it, perhaps, and may still say so.
        assert again.spend_all(10) != ""
        assert calm.spent + again.spent + held <= 500

        def has_all() -> bool:
            calm.spend_all(10)
            again.spend_all(10)
            return calm.spent + again.spent == 500

        until(has_all, "what was held", _TTL_S + _SOON_S)
