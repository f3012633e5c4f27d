"""Promise 4, as far as it exists: a stop under load loses nothing that was accepted and leaves nobody without answer.

There is no hub yet, so what can be given up here is what waits for the disk when SIGTERM comes.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

import harness
from callers import (
    ALL_DOORS,
    BatchDoor,
    Call,
    Door,
    GrpcDoor,
    HttpDoor,
    Outcome,
    reported,
    rows,
    send,
    some_call,
    summed,
)
from harness import Daemon

GRACE_S = 5.0
_CALLERS = 10


class Caller(threading.Thread):
    """Sends until the daemon is gone, and remembers every answer."""

    def __init__(self, door: Door, number: int) -> None:
        super().__init__(daemon=True)
        self._door = door
        self._rng = random.Random(number)
        self._next = number * 1_000_000
        self.answers: list[tuple[Call, Outcome]] = []

    def run(self) -> None:
        while not self.answers or self.answers[-1][1].word == "kept":
            size = 1 if type(self._door) in {GrpcDoor, HttpDoor} else 20
            calls = [some_call(self._rng, self._next + n, with_id=self._rng.random() < 0.5) for n in range(size)]
            self._next += size
            self.answers += zip(calls, self._door.send(calls), strict=True)
        self._door.close()


@pytest.mark.parametrize("load_s", [0.0, 0.15, 0.4])
def test_promise_4_sigterm_under_load_loses_nothing_that_was_accepted(
    launch: Callable[..., Daemon], load_s: float
) -> None:
    daemon = launch("--shutdown-grace-s", str(GRACE_S))
    callers = [Caller(ALL_DOORS[n % len(ALL_DOORS)](daemon), n) for n in range(_CALLERS)]
    for caller in callers:
        caller.start()
    while not all(caller.answers for caller in callers):
        time.sleep(0.002)
    time.sleep(load_s)  # how long it had been busy when the signal came
    started_s = time.monotonic()
    assert daemon.stop() == 0, daemon.log
    assert time.monotonic() - started_s < GRACE_S + 1
    for caller in callers:
        caller.join(10)
        assert not caller.is_alive()

    again = launch()
    answers = [answer for caller in callers for answer in caller.answers]
    kept = {call.number: (call, outcome) for call, outcome in answers if outcome.word == "kept"}
    held = {row.number: row for row in rows(again)}
    # Accepted means answered: the ledger holds what was acknowledged, and nothing its caller does not know of.
    assert held.keys() == kept.keys()
    for number, row in held.items():
        call, outcome = kept[number]
        assert (row.event_id, row.cost_nano) == (outcome.event_id or row.event_id, call.expected_nano)
    expected = (len(kept), sum(call.expected_nano or 0 for call, _ in kept.values()))
    assert reported(again) == summed(again) == expected
    assert again.stop() == 0
    assert harness.costd("check", "--data-dir", str(again.data_dir)).returncode == 0
    # Whoever was not taken any more was told so, or found the door closed.
    for call, outcome in answers:
        assert outcome.word != "refused" or outcome.status in {"503", "UNAVAILABLE"}, (call, outcome)


def test_promise_4_a_clean_stop_leaves_one_file_with_everything_in_it(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    send(BatchDoor, daemon, *(Call(n) for n in range(500)))
    assert daemon.stop() == 0
    wal = daemon.data_dir / "costd.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0
    assert summed(daemon) == (500, 500 * (Call(0).expected_nano or 0))
