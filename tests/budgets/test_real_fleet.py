"""A hard budget of $5 over a hub and four sidecars, 64 callers, and a hub that is killed and cut off meanwhile.

Everything is real: processes, sockets, ledgers, and the roads that are broken. What is promised is exact: callers that
reserve and record at the same sidecar never pass the limit, by no nano-dollar; they are denied only while the money is
gone or held; and of the whole budget at least 99 % can be spent.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fleet as fleets
from budget_calls import CENT_NANO, DOORS, Answer, Door, Spend, set_budget, standing
from callers import stubs
from costd.v1 import admin_pb2
from fleet import Fleet, Sidecar
from harness import until

_SIDECARS = 4
_CALLERS = 64
_LIMIT_CENTS = 500
_LIMIT_NANO = _LIMIT_CENTS * CENT_NANO
#: Of the budget that can be spent: 99 %.
_USABLE_NANO = _LIMIT_NANO * 99 // 100
#: Most calls are small; now and then one is not. Some four cents each, so that there is money until the end of trouble.
_CENTS = (*[1] * 16, *[2] * 4, 5, 10, 40)
_SEED = 6
#: How long callers and faults go on, and how long callers then have to find what is left.
_QUIET_S = 1.5
_TROUBLE_S = 9.5
_REST_S = 20.0


class Purse:
    """What all callers know together: what was allowed and is not recorded yet, what was recorded, what was denied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open_nano = 0
        self.recorded_nano = 0
        self.calls = 0
        self.denials: Counter[str] = Counter()
        #: Denials of more than there was, and of what there was.
        self.denied_above = 0
        self.denied_within = 0

    def asked(self, spend: Spend, answer: Answer) -> None:
        """An answer to a preflight has come."""
        nano = spend.cents * CENT_NANO
        with self.lock:
            if answer.allow:
                self.open_nano += nano
                # At every single answer: nobody was ever told to go ahead where the money was gone.
                assert self.open_nano + self.recorded_nano <= _LIMIT_NANO, (self.open_nano, self.recorded_nano)
                return
            self.denials[answer.word] += 1
            if self.open_nano + self.recorded_nano + nano > _LIMIT_NANO:
                self.denied_above += 1
            else:
                self.denied_within += 1

    def recording(self, spend: Spend, nano: int) -> None:
        """The call is over and cost that much, which is recorded next: no more than that is taken from now on."""
        with self.lock:
            self.open_nano -= spend.cents * CENT_NANO
            self.recorded_nano += nano
            self.calls += 1

    @property
    def left_nano(self) -> int:
        """What nobody has reserved or spent."""
        with self.lock:
            return _LIMIT_NANO - self.open_nano - self.recorded_nano


class Caller(threading.Thread):
    """Makes calls at one sidecar, one after another, until it is stopped; what went wrong is raised by finish()."""

    def __init__(self, number: int, make: Callable[[], Door], purse: Purse) -> None:
        super().__init__(daemon=True)
        self._make = make
        self._purse = purse
        self._random = random.Random(_SEED * 1_000 + number)
        self._user = f"user-{number}"
        self._stopping = threading.Event()
        self.is_frugal = False
        self._error: BaseException | None = None
        self.start()

    def finish(self) -> None:
        self._stopping.set()
        self.join(30)
        assert not self.is_alive(), "a caller still waits"
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        door = self._make()
        try:
            while not self._stopping.wait(self._random.uniform(0, 0.5 if self.is_frugal else 10)):
                self.call(door, 1 if self.is_frugal else self._random.choice(_CENTS))
        except BaseException as error:
            self._error = error
        finally:
            door.close()

    def call(self, door: Door, cents: int) -> Answer:
        """Ask, make the call, record it at the same place; it never costs more than was asked for."""
        spend = Spend(cents, user=self._user, team="video")
        answer = door.ask(spend)
        assert answer.word in {"allow", "budget_exceeded", "lease_unavailable"}, answer
        self._purse.asked(spend, answer)
        if answer.allow:
            self._stopping.wait(self._random.uniform(0, 0.3))
            paid = spend if self._random.random() < 0.7 else spend._replace(cents=max(1, cents * 2 // 3))
            self._purse.recording(spend, paid.cents * CENT_NANO)
            assert door.record(paid._replace(request_id=answer.request_id)) == "kept"
        return answer


@contextmanager
def callers(running: Fleet, key: str, purse: Purse) -> Iterator[list[Caller]]:
    """All of them, by both doors."""
    started = [
        Caller(number, _maker(running.sidecars[number % _SIDECARS], key, number), purse) for number in range(_CALLERS)
    ]
    try:
        yield started
    finally:
        for each in started:
            each._stopping.set()
    for each in started:
        each.finish()


def _maker(sidecar: Sidecar, key: str, number: int) -> Callable[[], Door]:
    kind = sorted(DOORS)[number // _SIDECARS % len(DOORS)]
    return lambda: DOORS[kind](sidecar.running, key)


def test_four_sidecars_share_five_dollars_to_the_nano_dollar(tmp_path: Path) -> None:
    with fleets.fleet(tmp_path) as running:
        for number in range(_SIDECARS):
            # With so many processes on two cores an answer takes longer than it should.
            running.add(f"web-{number}", "--budgets-hub-wait-ms", "2000")
        set_budget(running.hub, "video", _LIMIT_CENTS, scope={"team": "video"}, period="total")
        key = _hub_key(running)
        _in_force_everywhere(running, key)
        purse = Purse()
        with callers(running, key, purse) as started:
            _larger_than_the_budget(running, key)
            time.sleep(_QUIET_S)
            assert not purse.denied_within, "nobody is denied while all is well and there is plenty"
            _trouble(running)
            _larger_than_what_is_left(running, key, purse)
            for each in started:
                each.is_frugal = True
            until(lambda: purse.left_nano <= _LIMIT_NANO - _USABLE_NANO, "the rest to be spent", _REST_S)
        _settled(running, purse)


def _hub_key(running: Fleet) -> str:
    with stubs(running.hub) as services:
        request = admin_pb2.CreateKeyRequest(name="callers", roles=["ingest", "read"])
        return str(services.admin.CreateKey(request, metadata=services.metadata, timeout=20).secret)


def _in_force_everywhere(running: Fleet, key: str) -> None:
    """Within five seconds of being set, as is promised."""
    set_s = time.monotonic()
    for each in running.sidecars:
        door = DOORS["grpc"](each.running, key)

        def names_it(door: Door = door) -> bool:
            answer = door.ask(Spend(1, team="video"))
            if answer.allow:
                assert door.release(answer.request_id) or not answer.budget
            return answer.budget.get("name") == "video"

        until(names_it, f"the budget at {each.name}\n{each.log[-2000:]}", 5.0 + set_s - time.monotonic() + 5.0)
        door.close()


def _trouble(running: Fleet) -> None:
    """What happens to the hub and the roads to it while callers go on; all is well again at the end."""
    first, second, *_ = running.sidecars
    schedule: tuple[tuple[float, Callable[[], object]], ...] = (
        (0.1, first.proxy.blackhole),
        (1.5, lambda: running.stop_hub(kill=True)),
        (3.0, running.start_hub),
        (4.0, first.proxy.heal),
        (5.0, second.proxy.refuse),
        (6.0, lambda: [each.proxy.cut() for each in running.sidecars if each is not second]),
        (7.0, lambda: running.restart_hub(kill=True)),
        (8.0, second.proxy.heal),
        (_TROUBLE_S, lambda: None),
    )
    began_s = time.monotonic()
    for at_s, happen in schedule:
        time.sleep(max(0.0, began_s + at_s - time.monotonic()))
        happen()


def _larger_than_the_budget(running: Fleet, key: str) -> None:
    door = DOORS["http"](running.sidecars[0].running, key)
    answer = door.ask(Spend(_LIMIT_CENTS + 100, team="video"))
    assert answer.word == "budget_exceeded", answer
    assert answer.budget["name"] == "video"
    door.close()


def _larger_than_what_is_left(running: Fleet, key: str, purse: Purse) -> None:
    """It is denied, and takes nothing from those who ask for less."""
    door = DOORS["grpc"](running.sidecars[-1].running, key)
    spend = Spend(purse.left_nano // CENT_NANO + 60, user="greedy", team="video")
    answer = door.ask(spend)
    purse.asked(spend, answer)
    assert answer.word in {"budget_exceeded", "lease_unavailable"}, answer
    door.close()


def _settled(running: Fleet, purse: Purse) -> None:
    """Everything is forwarded: what the hub has is what callers recorded, and the rest is with somebody."""
    told = f"{purse.calls} calls, denied {dict(purse.denials)}, {purse.denied_within} of them while there was money"
    assert purse.open_nano == 0
    assert _USABLE_NANO <= purse.recorded_nano <= _LIMIT_NANO, told
    assert purse.denied_above, told
    running.drain()
    window = standing(running.hub, "video")
    assert (window.settled_nano_usd, window.overshoot_nano_usd) == (purse.recorded_nano, 0), told
    assert window.available_nano_usd + window.held_nano_usd == _LIMIT_NANO - purse.recorded_nano
    fleets.agree(running.data_dir, *(each.data_dir for each in running.sidecars))
    running.check()
