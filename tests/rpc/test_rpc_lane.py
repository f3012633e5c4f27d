"""The lane: no call holds up another, whatever it or its caller does, and it ends with its server."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from costd.app import Core
from costd.clock import Clock
from costd.config import SIDECAR, load
from costd.domain import errors
from costd.domain.access import Caller
from costd.domain.budget_change import BudgetChange
from costd.v1 import usage_pb2, usage_pb2_grpc
from costd.wire.rpc import calls, lane
from costd.wire.rpc.calls import Keyed
from costd.wire.rpc.lane import Prompt, PromptAnswer
from costd.wire.rpc.patience import MESSAGE_S, Patience
from costd.wire.rpc.pools import CallPool
from costd.wire.rpc.server import RpcServer
from costd.wire.rpc.usage import WRITE_TIMEOUT_S, UsageService
from harness import until
from rpc_calls import bearer, channel_to, details_of, refusal_of, serving_in_lane

SERVICE = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]
PATH = "/costd.v1.UsageService/Preflight"
KEY = bearer("k")
DIMENSIONS = usage_pb2.Dimensions(source_app="shop", model="gpt-4o")
OK = usage_pb2.PreflightResponse(allow=True)


class Keys:
    """Lets in whoever has a key, until it is revoked."""

    def __init__(self) -> None:
        self.are_revoked = False

    def authenticate(self, token: str | None) -> Caller:
        if self.are_revoked or not token:
            raise errors.Unauthenticated
        return Caller(1, token, "test", frozenset({"ingest"}))


def keyed(keys: Keys | None = None, now_s: Callable[[], float] | None = None) -> Keyed:
    return Keyed(keys or Keys(), Patience(now_s or Clock().monotonic_s))  # type: ignore[arg-type]


def prompt(answer: PromptAnswer, aside: CallPool | None = None) -> Prompt:
    return Prompt(SERVICE.methods_by_name["Preflight"], answer, aside or CallPool("aside", 4, 4))


def units(count: int, unit: str = "input_tokens") -> list[usage_pb2.Quantity]:
    return [usage_pb2.Quantity(unit=unit, count=count)]


def request(model: str) -> bytes:
    return usage_pb2.PreflightRequest(dimensions=usage_pb2.Dimensions(model=model)).SerializeToString()


def lanes() -> int:
    return sum(thread.name == "grpc-lane" for thread in threading.enumerate())


class Slow:
    """Answers at once, but for a model "slow", which waits for the gate, and "broken", which then fails."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)

    def __call__(self, _caller: Caller, request: Any) -> Any:
        model = request.dimensions.model
        return OK if model == "quick" else lambda: self._wait(model)

    def _wait(self, model: str) -> Any:
        self.waiting.release()
        assert self.gate.wait(30)
        if model == "broken":
            raise errors.Unavailable("the disk did not answer")
        return OK


def test_the_release_of_grpcio_that_is_installed_is_served_by_the_lane() -> None:
    """Where it is not: run these tests with it and add it to the known ones."""
    assert lane.is_known(grpc.__version__)
    assert not lane.is_known("1.999.0")


def test_calls_that_wait_hold_up_nobody_and_are_answered_in_the_end() -> None:
    slow = Slow()
    with serving_in_lane(prompt(slow), keyed()) as channel:
        method = channel.unary_unary(PATH)
        waiting = [method.future(request("slow"), metadata=KEY, timeout=60) for _ in range(3)]
        broken = method.future(request("broken"), metadata=KEY, timeout=60)
        assert all(slow.waiting.acquire(timeout=30) for _ in range(4))
        for _ in range(20):
            assert method(request("quick"), metadata=KEY, timeout=30)
        assert not any(call.done() for call in waiting)
        slow.gate.set()
        assert all(call.result() for call in waiting)
        assert refusal_of(broken.result).code() is grpc.StatusCode.UNAVAILABLE


def test_when_too_many_wait_the_next_is_told_to_try_again() -> None:
    """And those that need not wait are answered still."""
    slow = Slow()
    aside = CallPool("aside", 1, 1)
    with serving_in_lane(prompt(slow, aside), keyed()) as channel:
        method = channel.unary_unary(PATH)
        waiting = [method.future(request("slow"), metadata=KEY, timeout=60)]
        assert slow.waiting.acquire(timeout=30)
        waiting.append(method.future(request("slow"), metadata=KEY, timeout=60))
        until(lambda: aside.is_full, "the second to wait for a thread", 30)
        over = refusal_of(lambda: method(request("slow"), metadata=KEY, timeout=30))
        assert over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details_of(over)[1] == 1.0
        assert method(request("quick"), metadata=KEY, timeout=30)
        slow.gate.set()
        assert all(call.result() for call in waiting)


def test_callers_who_send_nothing_hold_up_nobody_and_are_ended() -> None:
    """However many: they cost a thread nothing. After a while their calls are cancelled."""
    now_s = [0.0]
    keys, never = keyed(now_s=lambda: now_s[0]), threading.Event()
    keys.patience.start()

    def nothing() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with serving_in_lane(prompt(Slow()), keys) as channel:
        # Each of these costs the client a thread.
        silent = [channel.stream_unary(PATH).future(nothing(), metadata=KEY) for _ in range(40)]
        assert channel.unary_unary(PATH)(request("quick"), metadata=KEY, timeout=30)
        until(lambda: len(keys.patience._waiting) == 40, "all of them to be waited for", 30)
        now_s[0] = MESSAGE_S + 1
        assert {call.code() for call in silent} == {grpc.StatusCode.CANCELLED}
        until(lambda: not keys.patience._waiting, "the lane to hear of it", 30)
        assert channel.unary_unary(PATH)(request("quick"), metadata=KEY, timeout=30)
        never.set()
    keys.patience.stop()


def test_a_key_that_is_revoked_while_its_message_is_waited_for_opens_nothing() -> None:
    now_s, keys, come = [0.0], Keys(), threading.Event()
    access = keyed(keys, lambda: now_s[0])

    def late() -> Iterator[bytes]:
        assert come.wait(30)
        yield request("quick")

    with serving_in_lane(prompt(Slow()), access) as channel:
        call = channel.stream_unary(PATH).future(late(), metadata=KEY, timeout=30)
        until(lambda: bool(access.patience._waiting), "the call to come", 30)
        keys.are_revoked, now_s[0] = True, calls.STALE_KEY_S + 1
        come.set()
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED


def test_more_calls_than_the_core_hands_over_at_once_are_all_answered() -> None:
    with serving_in_lane(prompt(Slow()), keyed()) as channel:
        method = channel.unary_unary(PATH)
        under_way = [method.future(request("quick"), metadata=KEY, timeout=60) for _ in range(1_000)]
        assert all(call.result() for call in under_way)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_it_ends_with_its_server_whatever_is_under_way(hangs_up: bool) -> None:
    """A call that waits, whether its caller is still there or not, is over before the lane is."""
    slow, before = Slow(), lanes()
    with serving_in_lane(prompt(slow), keyed()) as channel:
        call = channel.unary_unary(PATH).future(request("slow"), metadata=KEY, timeout=60)
        assert slow.waiting.acquire(timeout=30)
        assert lanes() == before + 1
        if hangs_up:
            call.cancel()
    # The server is stopped by now; the call's caller was told, and its thread knows nothing of it yet.
    assert call.code() is grpc.StatusCode.CANCELLED
    slow.gate.set()
    until(lambda: lanes() == before, "the lane to end", 30)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    running = Core(load({"data_dir": str(tmp_path)}, {}, mode=SIDECAR).config, Clock(), local_token="k")
    yield running
    running.close(5)


@pytest.mark.parametrize("releases", [lane._KNOWN_RELEASES, ()])
def test_its_methods_are_answered_whatever_the_release_of_grpcio(
    core: Core, monkeypatch: pytest.MonkeyPatch, releases: tuple[str, ...]
) -> None:
    """In the lane or in threads: the first falls under a window that has to be read, the next finds it in memory."""
    monkeypatch.setattr(lane, "_KNOWN_RELEASES", releases)
    before = lanes()
    budget = BudgetChange(name="of each", each="source_app", amount_nano=10**9)
    core.services.budgets.set(Caller(1, "k", "k", frozenset({"admin"})), budget)
    door = RpcServer(core.services, "127.0.0.1:0", None)
    port = door.start()
    assert lanes() - before == len(releases)
    try:
        with channel_to(f"127.0.0.1:{port}") as channel:
            usage = usage_pb2_grpc.UsageServiceStub(channel)
            asked = usage_pb2.PreflightRequest(dimensions=DIMENSIONS, estimated_units=units(100_000))
            answers = [usage.Preflight(asked, metadata=KEY, timeout=30) for _ in range(5)]
            assert [answer.allow for answer in answers] == [True] * 4 + [False]
            named = usage_pb2.ReleaseRequest(request_id=answers[0].request_id)
            assert usage.Release(named, metadata=KEY, timeout=30).released
            assert usage.Preflight(asked, metadata=KEY, timeout=30).allow
            check_records(usage.Record)
    finally:
        door.stop(1)
    until(lambda: lanes() == before, "the lane to end", 30)


def check_records(method: Any) -> None:
    """Of many records at once each gets its own answer: every seventh is refused, of two with one id one was there."""
    asked = [
        usage_pb2.RecordRequest(
            request_id=f"r{number // 2}" if number % 7 else f"refused-{number}",
            dimensions=DIMENSIONS if number % 7 else None,
            units=units(1 + number // 2),
        )
        for number in range(200)
    ]
    under_way = [method.future(each, metadata=KEY, timeout=60) for each in asked]
    first = set()
    for number, (each, call) in enumerate(zip(asked, under_way, strict=True)):
        if number % 7 == 0:
            assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
            continue
        answer = call.result()
        assert (answer.request_id, answer.cost_nano_usd) == (each.request_id, 2_500 * each.units[0].count)
        if not answer.duplicate:
            assert each.request_id not in first
            first.add(each.request_id)
    assert first == {each.request_id for number, each in enumerate(asked) if number % 7}


def test_records_that_the_disk_does_not_take_are_told_so_all_at_one_time(core: Core, tmp_path: Path) -> None:
    """Not one after the other, though one thread waits for all of them."""
    now_s = [0.0]
    services = core.services
    usage = UsageService(services.admission, services.metering, services.batching, services.metrics, lambda: now_s[0])
    caller = Caller(1, "k", "k", frozenset({"ingest"}))
    record = usage_pb2.RecordRequest(dimensions=DIMENSIONS, units=units(1))
    with closing(sqlite3.connect(tmp_path / "costd.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [usage.record(caller, record) for _ in range(3)]
        now_s[0] = WRITE_TIMEOUT_S
        for receipt in waiting:
            with pytest.raises(errors.Unavailable, match="in time"):
                receipt()
        other.execute("ROLLBACK")
    assert usage.record(caller, record)().cost_nano_usd == 2_500
