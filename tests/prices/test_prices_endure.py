"""Prices are in force when they are acknowledged: for the very next record, for batches under way, after kill -9."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from price_calls import list_prices, new_price, quantities, record, set_prices

from callers import Stubs, stubs
from costd.v1 import prices_pb2, usage_pb2
from harness import Daemon

Launch = Callable[..., Daemon]
ROUNDS = 5
USD = 10**9


def columns(services: Stubs, records: int) -> list[int]:
    """What each record of a batch by columns costs: a token in, or an image."""
    said = usage_pb2.BatchSeries(dimensions=usage_pb2.Dimensions(source_app="prices", model="moving"))
    odd = range(1, records, 2)
    request = usage_pb2.RecordBatchRequest(
        series=[said],
        columns=usage_pb2.RecordColumns(
            series=[0] * records,
            input_tokens=[(at + 1) % 2 for at in range(records)],
            other_units=[usage_pb2.OtherUnits(record=at, units=quantities({"images": 1})) for at in odd],
        ),
    )
    return list(services.usage.RecordBatch(request, metadata=services.metadata, timeout=30).cost_nano_usd)


def estimate(services: Stubs) -> list[int]:
    """What an image would cost."""
    request = usage_pb2.PreflightRequest(
        dimensions=usage_pb2.Dimensions(source_app="prices", model="moving"),
        estimated_units=quantities({"images": 1}),
    )
    return [services.usage.Preflight(request, metadata=services.metadata).estimated_cost_nano_usd]


def set_step(services: Stubs, step: int) -> None:
    """From now on everything costs so many USD."""
    rates = {"images": str(step), "input_tokens": str(step)}
    set_prices(services, new_price("moving", rates, from_ms=946_684_800_000))


def test_a_change_is_in_force_for_the_next_record_and_in_batches_under_way(launch: Launch) -> None:
    """Whoever records after the answer pays the new price; before it, the old or the new, never anything else."""
    daemon = launch()
    with stubs(daemon) as services:
        set_step(services, 0)
        acknowledged = 0
        wrong: list[Any] = []
        stop = threading.Event()

        def watch(costs: Callable[[], list[int]]) -> None:
            while not stop.is_set():
                least = acknowledged
                found = costs()
                most = acknowledged + 1
                wrong.extend((least, most, cost) for cost in found if cost % USD or not least <= cost // USD <= most)

        with ThreadPoolExecutor(4) as pool:
            kinds: list[Callable[[], list[int]]] = [
                lambda: columns(services, 500),
                lambda: columns(services, 3),
                lambda: [record(services, "moving", {"images": 1}) or 0],
                lambda: estimate(services),
            ]
            watchers = [pool.submit(watch, kind) for kind in kinds]
            for step in range(1, 30):
                set_step(services, step)
                acknowledged = step
                assert record(services, "moving", {"images": 1}) == step * USD
            stop.set()
            for watcher in watchers:
                watcher.result()
    assert wrong == []


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_prices_survive_the_daemon(launch: Launch, end: str) -> None:
    """Rules, an imported file and their history, after a clean end and after kill -9."""
    daemon = launch()
    with stubs(daemon) as services:
        kept, gone = (
            set_prices(services, new_price("lasting", {unit: "2"}, note="first"))[0].price
            for unit in ("images", "moons")
        )
        services.admin.RemovePrice(prices_pb2.RemovePriceRequest(id=gone.id), metadata=services.metadata)
        before = list_prices(services, removed=True)
    getattr(daemon, end)()
    with stubs(launch()) as services:
        assert list_prices(services, removed=True) == before
        assert record(services, "lasting", {"images": 1, "moons": 1}) == 2 * USD
        assert [price.id for price in list_prices(services)] == [kept.id]


def test_an_acknowledged_price_is_there_after_kill_9(launch: Launch) -> None:
    """At random moments while prices are set: what was answered is in the books, whole or not at all."""
    rng = random.Random(20261124)
    acknowledged = 0
    for _ in range(ROUNDS):
        daemon = launch()
        with stubs(daemon) as services:
            models = {price.model for price in list_prices(services)}
            pairs = [{f"left-{n}", f"right-{n}"} & models for n in range(acknowledged + 2)]
            assert all(len(pair) in {0, 2} for pair in pairs), "half of a request is in the books"
            assert all(len(pair) == 2 for pair in pairs[:acknowledged])
            for n in range(acknowledged):
                if n % 7 == 0:
                    assert record(services, f"left-{n}", {"images": 1}) == (n + 1) * USD
            killer = threading.Timer(rng.uniform(0.0, 0.15), daemon.kill)
            killer.start()
            try:
                while True:
                    both = (
                        new_price(f"{side}-{acknowledged}", {"images": str(acknowledged + 1)})
                        for side in ("left", "right")
                    )
                    set_prices(services, *both)
                    acknowledged += 1
            except grpc.RpcError:
                killer.join()
    assert acknowledged > ROUNDS
