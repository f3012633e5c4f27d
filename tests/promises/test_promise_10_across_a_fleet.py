"""Promise 10 across a fleet: a sidecar that holds a slice does not wait for its hub, and without one not for long."""

from __future__ import annotations

import signal
import statistics
import time
from pathlib import Path

from fleet import fleet
from fleet_spending import UNAVAILABLE, capped, timed
from harness import Daemon, until
from scraping import Page

#: What a preflight waits for the hub at most, and what else may take time on a machine that is busy with others.
_WAIT_S = 0.25
_BUSY_S = 0.75


def _slow(daemon: Daemon) -> int:
    """How many preflights have taken a tenth of a second or more."""
    shown = Page.of(daemon)
    name = "costd_preflight_duration_seconds"
    return int(shown.value(f"{name}_count") - shown.value(f"{name}_bucket", le="0.1"))


def test_promise_10_a_frozen_hub_holds_nobody_up(tmp_path: Path) -> None:
    with fleet(tmp_path, "a") as members:
        (caller,) = capped(members)
        assert caller.spend_all(5, 10) == ""
        members.hub.process.send_signal(signal.SIGSTOP)
        try:
            took_s, slow = [], _slow(members.sidecars[0].running)
            while (answer := timed(caller, 1))[0] == "allow":
                took_s.append(answer[1])
            # The money at hand: at the speed of a call over loopback, every single time.
            assert len(took_s) >= 5
            assert statistics.median(took_s) < 0.02
            # As the daemon measures it: the one that was denied has waited, of the others none.
            assert _slow(members.sidecars[0].running) - slow <= 1, "a call waited for the hub, though there was money"
            # Near its end: the bounded wait, and an honest word.
            assert answer[0] == UNAVAILABLE
            assert answer[1] < _WAIT_S + _BUSY_S
            # Once the hub is known to be out of reach nobody waits at all.
            until(lambda: timed(caller, 1)[1] < 0.1, "the hub to count as out of reach", 10)
            words, times = zip(*(timed(caller, 1) for _ in range(20)), strict=True)
            assert set(words) == {UNAVAILABLE}
            assert statistics.median(times) < 0.02
        finally:
            members.hub.process.send_signal(signal.SIGCONT)
        began_s = time.monotonic()
        until(lambda: caller.may(1), "the hub to lend again", 40)
        assert time.monotonic() - began_s < 20
