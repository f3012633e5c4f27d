"""A daemon that can record nothing more allows nothing of hard budgets: what is spent could not be counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from budget_calls import DOORS, Spend, cents, set_budget
from callers import BatchDoor, Call, send
from harness import Daemon, until

_ROUNDS = 80


def fill(daemon: Daemon) -> None:
    """Record until it takes no more."""
    for first in range(0, _ROUNDS * 500, 500):
        calls = [Call(number, f"call-{number}-{'x' * 100}") for number in range(first, first + 500)]
        if "refused" in {outcome.word for outcome in send(BatchDoor, daemon, *calls)}:
            return
    raise AssertionError("it never filled up")


@pytest.mark.parametrize("kind", sorted(DOORS))
def test_hard_budgets_deny_while_records_are_refused_for_want_of_space(
    launch: Callable[..., Daemon], kind: str
) -> None:
    running = launch("--storage-max-bytes=1MiB")
    set_budget(running, "hard", 100, scope={"team": "hard"})
    set_budget(running, "soft", 100, scope={"team": "soft"}, hard=False)
    door = DOORS[kind](running)
    before = door.ask(Spend(1, team="hard"))
    assert before.allow
    assert door.ask(Spend(1, team="soft")).allow
    fill(running)
    denied = door.ask(Spend(1, team="hard"))
    assert (denied.word, denied.budget["name"]) == ("lease_unavailable", "hard")
    assert "want of space" in denied.warnings[-1]
    assert door.ask(Spend(1, team="soft")).allow
    assert door.ask(Spend(1, team="nobody's")).allow
    assert door.release(before.request_id)
    door.close()
    assert running.stop() == 0
    roomy = launch()
    door = DOORS[kind](roomy)
    until(lambda: door.ask(Spend(1, team="hard")).allow, "calls to be allowed again")
    assert cents(roomy, "hard").settled == 0
    door.close()
