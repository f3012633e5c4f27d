"""A daemon without doors under a clock set by hand: its real store and services, asked as its doors ask them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from costd.app.core import Core
from costd.clock import ManualClock
from costd.config import SIDECAR, load
from costd.domain.access import Caller
from costd.domain.budget_change import BudgetChange
from costd.domain.usage import Usage
from costd.services.admission import Decision
from costd.services.metering import Receipt
from costd.store.budgets import StoredBudget
from costd.store.commit import Change

#: 2026-03-28T12:00:00Z, a Saturday; the night after it clocks in Europe are put forward.
NOON_MS = 1_774_699_200_000
HOUR_MS = 3_600_000
#: Of gpt-4o: a million input tokens cost $2.50.
_TOKEN_NANO = 2_500
CENT_NANO = 10_000_000
_TIMEOUT_S = 20


class Standing(NamedTuple):
    """A window in cents."""

    settled: int
    reserved: int
    available: int
    overshoot: int = 0


class Desk:
    """Sets budgets, asks, records and releases; all amounts in cents."""

    def __init__(self, core: Core, clock: ManualClock) -> None:
        self.core = core
        self.clock = clock
        self.services = core.services
        self.caller = Caller(1, "key", "test", frozenset({"admin"}))

    def set(self, name: str, cents: int | None = None, **fields: Any) -> StoredBudget:
        """Set a budget; `fields` are those of BudgetChange."""
        amount = None if cents is None else cents * CENT_NANO
        return self.services.budgets.set(self.caller, BudgetChange(name=name, amount_nano=amount, **fields))

    def ask(self, cents: int, request_id: str = "", **fields: Any) -> Decision:
        """Preflight a call that costs so much."""
        return self.services.admission.preflight(self.caller, usage(cents, request_id, fields))

    def record(self, cents: int, request_id: str = "", **fields: Any) -> Receipt:
        """Record one."""
        return self.services.metering.record(self.caller, usage(cents, request_id, fields), "test").wait(_TIMEOUT_S)

    def release(self, request_id: str) -> bool:
        """Let go of what was reserved."""
        return self.services.admission.release(self.caller, request_id)

    def beat(self, seconds: float = 0) -> None:
        """Let time pass, and do what is due then as the daemon's own thread does; with what that writes on disk."""
        self.clock.advance(seconds)
        self.core.till_keeper.beat()
        self.core.writer.submit(Change(lambda _: None)).wait(_TIMEOUT_S)

    def left(self, decision: Decision) -> int:
        """What a decision says is left of its budget."""
        assert decision.budget is not None
        assert decision.budget.remaining_nano % CENT_NANO == 0
        return decision.budget.remaining_nano // CENT_NANO

    def stands(self, name: str, value: str | None = None) -> Standing:
        """How the present window of a budget stands, checked against its identity."""
        standing = self.services.budget_status.standing(self.caller, name, value=value)
        if not standing.windows:
            return Standing(0, 0, 0, 0)
        window = standing.windows[0]
        assert (
            window.limit_nano == window.available_nano + window.held_nano + window.settled_nano - window.overshoot_nano
        )
        return Standing(
            window.settled_nano // CENT_NANO,
            window.reserved_nano // CENT_NANO,
            window.available_nano // CENT_NANO,
            window.overshoot_nano // CENT_NANO,
        )


def usage(cents: int, request_id: str, fields: Mapping[str, Any]) -> Usage:
    """A call of gpt-4o that costs so much."""
    tokens = cents * CENT_NANO // _TOKEN_NANO
    said: dict[str, Any] = {"user": "ada", "model": "gpt-4o", **fields}
    return Usage(source_app="tests", units=(("input_tokens", tokens),), request_id=request_id, **said)


@contextmanager
def opened(
    folder: Path,
    clock: ManualClock,
    *,
    is_killed: bool | Callable[[], bool] = False,
    mode: str = SIDECAR,
    **settings: str,
) -> Iterator[Desk]:
    """A desk on a data folder; where it `is_killed`, it ends without the tidying up of a clean stop."""
    flags = {"data_dir": str(folder), **{name.replace("__", "."): text for name, text in settings.items()}}
    core = Core(load(flags, {}, mode=mode).config, clock)
    try:
        core.services.tills.open_present()
        yield Desk(core, clock)
    finally:
        if not (is_killed() if callable(is_killed) else is_killed):
            core.services.tills.close()
        core.close(_TIMEOUT_S)
