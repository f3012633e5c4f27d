"""Promise 4 across an outage: what a sidecar accepted arrives, however long the hub was away and whatever came between.

Days pass on a clock of the test's own: a hub and a sidecar are built in this process, with real ledgers and real gRPC
between them. What a process's end has to do with it is shown by real daemons.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callers import ALL_DOORS, Call, send, some_call
from costd.app import Core
from costd.clock import ManualClock
from costd.config import HUB, SIDECAR, load
from costd.domain.access import Caller
from costd.domain.usage import Usage
from costd.store.integrity import check_ledger
from costd.wire.rpc.server import RpcServer
from fault_proxy import FaultProxy
from fleet import agree, event_ids, fleet, query, spent_requests
from harness import until
from ledger import NOW_MS

ADMIN = Caller(1, "admin", "admin", frozenset({"admin"}))
HOUR_S = 3_600
DAY_S = 24 * HOUR_S
STEP_S = 600
STEP_RECORDS = 40
ARRIVE_S = 90.0


class World:
    """A hub, a sidecar, the road between them, and the time."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW_MS)
        self.hub_dir, self.web_dir = folder / "hub", folder / "web-1"
        self.hub = Core(load({"data_dir": str(self.hub_dir)}, {}, mode=HUB).config, self.clock)
        self._server = RpcServer(self.hub.services, "127.0.0.1:0", None)
        self.proxy = FaultProxy(f"127.0.0.1:{self._server.start()}")
        assert self.hub.services.sources is not None
        self._key = self.hub.services.sources.create(ADMIN, "web-1", ()).secret
        self.web = self.start()
        self.sent = 0

    def start(self) -> Core:
        """Start the sidecar."""
        flags = {"data_dir": str(self.web_dir), "hub.address": self.proxy.address, "hub.key": self._key}
        web = Core(load(flags, {}, mode=SIDECAR).config, self.clock)
        assert web.services.forwarding is not None
        web.services.forwarding.start()
        return web

    def restart(self) -> None:
        """Stop the sidecar and start it again."""
        assert self.web.close(20)
        self.web = self.start()

    @property
    def forwarding(self) -> Any:
        """The sidecar's."""
        return self.web.services.forwarding

    def live(self, seconds: int) -> None:
        """Let time pass with steady usage; upkeep is done every hour."""
        for step in range(seconds // STEP_S):
            self.record(STEP_RECORDS)
            self.clock.advance(STEP_S)
            if step % (HOUR_S // STEP_S) == 0:
                asyncio.run(self.web.upkeep.run_once())

    def record(self, count: int) -> None:
        """Record calls of a few users, every other one with an id."""
        tickets = []
        for number in range(self.sent, self.sent + count):
            units = (("input_tokens", number % 100), ("output_tokens", 5))
            request_id = f"call-{number}" if number % 2 else ""
            usage = Usage(
                "app", "gpt-4o", units, at_ms=self.clock.now_ms(), request_id=request_id, user=f"u{number % 7}"
            )
            tickets.append(self.web.services.metering.record(ADMIN, usage, "test"))
        for ticket in tickets:
            ticket.wait(20)
        self.sent += count

    def arrive(self) -> None:
        """Wait until the hub has everything."""
        until(lambda: self.forwarding.flush(1.0), f"everything to arrive: {self.forwarding.report()}", ARRIVE_S)

    def close(self) -> None:
        """Stop everything; both ledgers must be sound."""
        assert self.web.close(20)
        self.proxy.close()
        self._server.stop(0.1)
        with self.hub.readers.snapshot(unbounded=True) as connection:
            assert check_ledger(connection).findings == []
        assert self.hub.close(20)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Both, joined."""
    made = World(tmp_path)
    made.record(10)
    made.arrive()
    yield made
    made.close()


def own_numbers(world: World) -> list[int]:
    """The sidecar's numbers of the events, in the order in which the hub has them."""
    ids = event_ids(world.web_dir)
    numbers = dict(
        zip(ids, (seq for (seq,) in query(world.web_dir, "SELECT seq FROM event ORDER BY seq")), strict=True)
    )
    return [numbers[event_id] for event_id in event_ids(world.hub_dir)]


def traced_mib() -> float:
    """What Python holds now."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 2**20


def test_promise_4_after_an_outage_of_three_days_everything_arrives_in_order_and_memory_stays_flat(
    world: World,
) -> None:
    world.proxy.refuse()
    world.live(DAY_S // 4)
    tracemalloc.start(1)
    try:
        early_mib = traced_mib()
        world.live(3 * DAY_S - DAY_S // 4)
        assert traced_mib() - early_mib < 4, "what waits for the hub waits on disk"
        report = world.forwarding.report()
        assert report.unforwarded_records == world.sent - 10
        assert world.clock.now_ms() - report.oldest_unforwarded_ms == 3 * DAY_S * 1000
        assert query(world.web_dir, "SELECT count(*) FROM forward_seal WHERE content IS NOT NULL")[0][0] <= 8
        tracemalloc.reset_peak()
        world.proxy.heal()
        world.arrive()
        assert tracemalloc.get_traced_memory()[1] / 2**20 - early_mib < 64, "it is sent piece by piece"
    finally:
        tracemalloc.stop()
    assert spent_requests(world.hub_dir) == world.sent
    agree(world.hub_dir, world.web_dir)
    numbers = own_numbers(world)
    assert numbers == sorted(numbers), "the oldest first"
    assert world.forwarding.report().unforwarded_records == 0
    assert query(world.web_dir, "SELECT count(*) FROM forward_epoch") == [(1,)]
    # What was received when is known at the hub as well: days later is no other day.
    received = "SELECT min(at_ms), max(at_ms) FROM event"
    assert query(world.hub_dir, received) == query(world.web_dir, received)


def test_promise_4_restarts_in_the_middle_of_an_outage_change_nothing(world: World) -> None:
    world.proxy.blackhole()
    for _ in range(3):
        world.live(4 * HOUR_S)
        world.restart()
    world.proxy.heal()
    world.live(HOUR_S)
    world.arrive()
    assert spent_requests(world.hub_dir) == world.sent
    agree(world.hub_dir, world.web_dir)
    numbers = own_numbers(world)
    assert numbers == sorted(numbers)


def test_promise_4_retention_never_takes_what_the_hub_has_not_acknowledged(world: World) -> None:
    world.live(2 * HOUR_S)
    world.arrive()
    arrived = world.sent
    world.proxy.refuse()
    world.live(2 * HOUR_S)
    for _ in range(6):
        world.clock.advance(10 * DAY_S)
        asyncio.run(world.web.upkeep.run_once())
    waiting = world.sent - arrived
    held = query(world.web_dir, "SELECT count(*) FROM event")[0][0]
    assert waiting <= held < world.sent, "what had arrived may go, what waits may not"
    assert world.forwarding.report().unforwarded_records == waiting
    world.restart()
    world.record(10)
    world.proxy.heal()
    world.arrive()
    assert spent_requests(world.hub_dir) == world.sent
    ids = event_ids(world.hub_dir)
    assert len(set(ids)) == len(ids)
    asyncio.run(world.web.upkeep.run_once())
    assert query(world.web_dir, "SELECT count(*) FROM event")[0][0] < held, "what has arrived goes now"
    assert world.forwarding.report().lost == 0


def test_promise_4_sigterm_while_the_hub_is_down_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random(4)
    with fleet(tmp_path, "web-1") as running:
        (web,) = running.sidecars
        running.stop_hub(kill=False)
        for place, door in enumerate(ALL_DOORS * 2):
            calls = [some_call(rng, place * 100 + n, with_id=n % 2 == 0) for n in range(30)]
            assert {outcome.word for outcome in send(door, web.running, *calls)} == {"kept"}
            if place % 3 == 2:
                web.stop()  # SIGTERM: it must end well, and in time, without its hub
                web.start()
        assert web.status()["hub"]["unforwarded_records"] == 30 * 2 * len(ALL_DOORS)
        web.stop()
        running.start_hub()
        web.start()
        assert send(ALL_DOORS[0], web.running, Call(9_999))[0].word == "kept"
        running.drain()
        agree(running.data_dir, web.data_dir)
        assert spent_requests(running.data_dir) == 30 * 2 * len(ALL_DOORS) + 1
