"""The lane: no call holds up another, whatever it or its caller does, and it ends with its server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
from harness import until
from rpc_calls import bearer, channel_to, details_of, refusal_of, serving_in_lane

SERVICE = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]
PATH = "/costd.v1.UsageService/Preflight"
KEY = bearer("k")
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


def methods(answer: PromptAnswer) -> dict[str, Prompt]:
    return {PATH: Prompt(calls.decoder(SERVICE.methods_by_name["Preflight"]), answer)}


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
    with serving_in_lane(methods(slow), keyed(), CallPool("aside", 4, 4)) as channel:
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
    with serving_in_lane(methods(slow), keyed(), aside) as channel:
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

    with serving_in_lane(methods(Slow()), keys) as channel:
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

    with serving_in_lane(methods(Slow()), access) as channel:
        call = channel.stream_unary(PATH).future(late(), metadata=KEY, timeout=30)
        until(lambda: bool(access.patience._waiting), "the call to come", 30)
        keys.are_revoked, now_s[0] = True, calls.STALE_KEY_S + 1
        come.set()
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED


def test_more_calls_than_the_core_hands_over_at_once_are_all_answered() -> None:
    with serving_in_lane(methods(Slow()), keyed()) as channel:
        method = channel.unary_unary(PATH)
        under_way = [method.future(request("quick"), metadata=KEY, timeout=60) for _ in range(1_000)]
        assert all(call.result() for call in under_way)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_it_ends_with_its_server_whatever_is_under_way(hangs_up: bool) -> None:
    """A call that waits, whether its caller is still there or not, is over before the lane is."""
    slow, before = Slow(), lanes()
    with serving_in_lane(methods(slow), keyed(), CallPool("aside", 4, 4)) as channel:
        call = channel.unary_unary(PATH).future(request("slow"), metadata=KEY, timeout=60)
        assert slow.waiting.acquire(timeout=30)
        assert lanes() == before + 1
        if hangs_up:
            call.cancel()
    # The server is stopped by now; the call's caller was told, and its thread knows nothing of it yet.
    assert call.code() is grpc.StatusCode.CANCELLED
    slow.gate.set()
    until(lambda: lanes() == before, "the lane to end", 30)


@pytest.mark.parametrize("releases", [lane._KNOWN_RELEASES, ()])
def test_preflights_are_answered_whatever_the_release_of_grpcio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, releases: tuple[str, ...]
) -> None:
    """In the lane or in threads: the first falls under a window that has to be read, the next finds it in memory."""
    monkeypatch.setattr(lane, "_KNOWN_RELEASES", releases)
    before = lanes()
    core = Core(load({"data_dir": str(tmp_path)}, {}, mode=SIDECAR).config, Clock(), local_token="k")
    budget = BudgetChange(name="of each", each="source_app", amount_nano=10**9)
    core.services.budgets.set(Caller(1, "k", "k", frozenset({"admin"})), budget)
    door = RpcServer(core.services, "127.0.0.1:0", None)
    port = door.start()
    assert lanes() - before == len(releases)
    try:
        with channel_to(f"127.0.0.1:{port}") as channel:
            usage = usage_pb2_grpc.UsageServiceStub(channel)
            dimensions = usage_pb2.Dimensions(source_app="shop", model="gpt-4o")
            units = [usage_pb2.Quantity(unit="input_tokens", count=100_000)]
            asked = usage_pb2.PreflightRequest(dimensions=dimensions, estimated_units=units)
            answers = [usage.Preflight(asked, metadata=KEY, timeout=30) for _ in range(5)]
            assert [answer.allow for answer in answers] == [True] * 4 + [False]
            named = usage_pb2.ReleaseRequest(request_id=answers[0].request_id)
            assert usage.Release(named, metadata=KEY, timeout=30).released
            assert usage.Preflight(asked, metadata=KEY, timeout=30).allow
    finally:
        door.stop(1)
        core.close(5)
    until(lambda: lanes() == before, "the lane to end", 30)
