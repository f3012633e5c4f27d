"""Row of a check alone: reserving in six windows, in process, against six comparisons and additions in plain Python.

Run as a process of its own (`python -m bench.budget_check FOLDER ROUNDS`), on the server's core; prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from bench import budgets, traffic
from bench.plan import Plan
from bench.processes import SERVER_CORE, python
from bench.report import Line
from costd.app import Core
from costd.clock import Clock
from costd.config import load
from costd.domain.access import Caller
from costd.domain.budget_change import BudgetChange
from costd.domain.usage import Usage
from costd.services.ask import Ask, Pause
from costd.services.metering import series_of

CHECK_US = 10.0
#: Reserved one after another before they are let go of.
GROUP = 1_000
_GROUPS = 20

_NANO = 12_345_678
_ADMIN = Caller(1, "bench", "bench", frozenset({"admin"}))


def check(plan: Plan) -> list[Line]:
    """What reserving takes in a daemon, and a whole preflight with its price, without any door."""
    done = subprocess.run(
        python(SERVER_CORE, "-m", "bench.budget_check", str(plan.folder / "budget-check"), str(plan.rounds)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    how = (
        "reserving in all of six matching hard windows, by the record's series, in process; yardstick: a lock, six "
        "comparisons and six additions in plain Python"
    )
    within = figures["check"] <= CHECK_US
    return [
        Line("budget-check", figures["check"], "µs", figures["bare"], f"≤ {CHECK_US:g} µs", within, how),
        Line("budget-check-release", figures["release"], "µs", None, "", None, "letting go of it again"),
        Line(
            "budget-check-whole",
            figures["whole"],
            "µs",
            None,
            "",
            None,
            "a preflight in process: checked, priced, reserved",
        ),
    ]


class _Checks:
    """Calls on their way through a daemon's services, without doors."""

    def __init__(self, core: Core) -> None:
        self._tills, self._admission = core.services.tills, core.services.admission
        self._estimates = [
            Usage(
                sample.source_app,
                sample.model,
                tuple(sorted(sample.units.items())),
                user=sample.user,
                project=sample.project,
                team=sample.team,
                provider=sample.provider,
                endpoint=sample.endpoint,
            )
            for sample in traffic.samples()
        ]
        now_ms = core.services.clock.now_ms()
        self._asks = [
            Ask((1, f"r{number}"), series_of(_ADMIN, estimate, estimate.provider), estimate, _NANO, _NANO, now_ms)
            for number, estimate in enumerate(islice(cycle(self._estimates), GROUP))
        ]
        self._asked: list[str] = []

    def reserve(self, number: int) -> None:
        """What is measured; a window that is not in memory yet, or a mark, is waited for."""
        verdict = self._tills.reserve(self._asks[number])
        while isinstance(verdict, Pause):
            verdict.waitable.wait(10)
            verdict = self._tills.reserve(self._asks[number])
        if verdict.deny_reason:
            raise RuntimeError(verdict.deny_reason)

    def release(self, number: int) -> None:
        """Let go of it."""
        self._tills.release(self._asks[number].name)

    def reserve_all(self) -> None:
        """All of a group."""
        for number in range(GROUP):
            self.reserve(number)

    def release_all(self) -> None:
        """All of a group; RuntimeError where that is not all that was reserved."""
        for number in range(GROUP):
            self.release(number)
        if self._tills.open_reservations:
            raise RuntimeError("something stays reserved")

    def ask(self, number: int) -> None:
        """A whole preflight."""
        estimate = self._estimates[number % len(self._estimates)]
        self._asked.append(self._admission.preflight(_ADMIN, estimate).request_id)

    def let_go(self) -> None:
        """Of all that was asked."""
        while self._asked:
            self._admission.release(_ADMIN, self._asked.pop())


def _us_each(groups: int, step: Callable[[int], None], after: Callable[[], None] = lambda: None) -> float:
    """The median of the thread's time that one of GROUP steps takes (nothing waits); `after` each group, unmeasured."""
    took = []
    for _ in range(groups):
        started_s = time.thread_time()
        for number in range(GROUP):
            step(number)
        took.append((time.thread_time() - started_s) / GROUP * 1e6)
        after()
    return median(took)


def _measure(core: Core, groups: int) -> dict[str, float]:
    checks = _Checks(core)
    _us_each(2, checks.reserve, checks.release_all)
    checked_us = _us_each(groups, checks.reserve, checks.release_all)
    checks.reserve_all()
    released_us = _us_each(groups, checks.release, checks.reserve_all)
    checks.release_all()
    whole_us = _us_each(groups, checks.ask, checks.let_go)
    return {"check": checked_us, "release": released_us, "whole": whole_us, "bare": _bare_us(groups)}


def _bare_us(groups: int) -> float:
    lock = threading.Lock()
    windows = [[10**18, 0] for _ in range(1 + len(budgets.EACH))]

    def step(_number: int) -> None:
        with lock:
            for limit, reserved in windows:
                if reserved + _NANO > limit:
                    raise AssertionError
            for window in windows:
                window[1] += _NANO

    return _us_each(groups, step)


def _run(folder: Path, rounds: int) -> dict[str, float]:
    core = Core(load({"data_dir": str(folder)}, {}).config, Clock())
    try:
        for each in ("", *budgets.EACH):
            scope = {} if each else {"org": budgets.ORGANIZATION}
            change = BudgetChange(
                each or "all", scope=scope, each=each, amount_nano=budgets.AMOUNT_NANO, period="total"
            )
            core.services.budgets.set(_ADMIN, change)
        return _measure(core, rounds * _GROUPS)
    finally:
        core.close(20)


if __name__ == "__main__":
    print(json.dumps(_run(Path(sys.argv[1]), int(sys.argv[2]))))
