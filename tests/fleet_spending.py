"""Callers of a fleet for tests of slices: what they may spend at each daemon, and what its books say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from budget_calls import Answer, GrpcDoor, Spend, set_budget
from fleet import Fleet, fleet, query
from harness import Daemon, until

#: What is promised: a change is in force on every connected daemon within this.
PROMISED_S = 5.0
EXCEEDED = "budget_exceeded"
UNAVAILABLE = "lease_unavailable"

_numbers = iter(range(1, 10**9))


class Caller:
    """Asks, and records what it may; every call is another."""

    def __init__(self, daemon: Daemon, user: str = "ada") -> None:
        self.door = GrpcDoor(daemon)
        self.user = user
        self.words: Counter[str] = Counter()
        #: Cents recorded.
        self.spent = 0

    def ask(self, cents: int) -> Answer:
        """A preflight alone."""
        return self.door.ask(Spend(cents, f"call-{next(_numbers)}", self.user))

    def spend(self, cents: int) -> str:
        """Ask, and record where it is allowed: "allow", or why not."""
        call = Spend(cents, f"call-{next(_numbers)}", self.user)
        answer = self.door.ask(call)
        self.words[answer.word] += 1
        if answer.allow:
            assert self.door.record(call) == "kept"
            self.spent += cents
        return answer.word

    def spend_all(self, cents: int, most: int = 10_000) -> str:
        """Spend until it is denied, at most so many times; why it was denied, "" where it was not."""
        for _ in range(most):
            if (word := self.spend(cents)) != "allow":
                return word
        return ""

    def is_served(self) -> bool:
        """Whether a call of no matter is allowed; nothing stays reserved for it."""
        answer = self.ask(1)
        return answer.allow and self.door.release(answer.request_id)

    def may(self, cents: int) -> bool:
        """Spend, and say whether it was allowed."""
        return self.spend(cents) == "allow"


class Books(NamedTuple):
    """The window of the one budget that a hub has, from its rows, in nano-USD."""

    limit: int
    settled: int
    held: int

    @property
    def available(self) -> int:
        """What is left, below 0 where the limit is passed."""
        return self.limit - self.settled - self.held


def books(hub: Path, name: str = "cap") -> Books:
    """How a budget's only window stands, over all sources."""
    ((limit,),) = query(hub, "SELECT amount_nano FROM budget WHERE name = ? AND removed_ms IS NULL", name)
    rows = query(
        hub,
        "SELECT granted_nano - returned_nano, a.settled_nano FROM budget_account a JOIN budget ON id = budget_id "
        "WHERE name = ? AND a.revision = budget.revision",
        name,
    )
    own = query(hub, "SELECT w.settled_nano - credited_nano FROM budget_window w JOIN budget ON id = budget_id "
                "WHERE name = ? AND w.revision = budget.revision", name)  # fmt: skip
    settled = sum(row[1] for row in rows) + sum(row[0] for row in own)
    return Books(limit, settled, sum(max(0, bound - spent) for bound, spent in rows))


def is_told(daemon: Daemon, name: str = "cap") -> bool:
    """Whether a sidecar has the hub's budget, and the hub has confirmed that it may use slices."""
    has_budget = daemon.query("SELECT 1 FROM budget WHERE name = ? AND removed_ms IS NULL", name)
    return bool(has_budget and daemon.query("SELECT 1 FROM lease_state WHERE confirmed = pending"))


def told(*daemons: Daemon) -> None:
    """Wait until these sidecars may ask for slices."""
    for each in daemons:
        until(lambda each=each: is_told(each), f"{each.data_dir.name} to be told; {each.log[-2000:]}")  # type: ignore[misc]


def timed(caller: Caller, cents: int) -> tuple[str, float]:
    """The word on a preflight, and how many seconds it took."""
    began_s = time.perf_counter()
    word = caller.ask(cents).word
    return word, time.perf_counter() - began_s


#: With so many processes at once an answer takes longer than it should.
PATIENT = ("--budgets-hub-wait-ms=3000",)


@contextmanager
def patient(folder: Path, *names: str, flags: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """A hub, with `flags`, and sidecars of these names whose preflights wait longer for it than usual."""
    with fleet(folder, flags=flags) as members:
        for name in names:
            members.add(name, *PATIENT)
        yield members


def capped(members: Fleet, cents: int = 500, **fields: object) -> list[Caller]:
    """A budget of a hub, and a caller at each sidecar."""
    set_budget(members.hub, "cap", cents, scope={"user": "ada"}, **fields)
    running = [each.running for each in members.sidecars]
    told(*running)
    callers = [Caller(each) for each in running]
    for caller in callers:
        until(caller.is_served, "the hub's first word")
    return callers
