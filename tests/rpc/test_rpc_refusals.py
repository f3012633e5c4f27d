"""Each refusal on the wire: its status, its details, its size; and what is nobody's business stays inside."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest

from costd.clock import Clock
from costd.domain import errors
from costd.domain.access import Caller
from costd.v1 import usage_pb2
from costd.wire.rpc import calls
from costd.wire.rpc.lane import Prompt
from costd.wire.rpc.patience import MESSAGE_S, Patience
from costd.wire.rpc.pools import CallPool
from costd.wire.status import INTERNAL_MESSAGE
from harness import until
from rpc_calls import bearer, details_of, refusal_of, serving, serving_in_lane

METHOD = usage_pb2.DESCRIPTOR.services_by_name["UsageService"].methods_by_name["Preflight"]
PATH = "/costd.v1.UsageService/Preflight"


class Doorkeeper:
    """Lets in whoever has the key "open"."""

    def authenticate(self, token: str | None) -> Caller:
        if token != "open":
            raise errors.Unauthenticated
        return Caller(1, "k", "test", frozenset({"ingest"}))


Answer = Callable[[Caller, Any], Any]
Serve = Callable[..., AbstractContextManager[grpc.Channel]]


def keyed(now_s: Callable[[], float] | None = None) -> calls.Keyed:
    return calls.Keyed(Doorkeeper(), Patience(now_s or Clock().monotonic_s))  # type: ignore[arg-type]


def endpoint(answer: Answer, **options: Any) -> dict[str, calls.Endpoint]:
    pool = options.pop("pool", None) or CallPool("answers", 2, 64)
    return {PATH: calls.unary(METHOD, answer, options.pop("keyed", None) or keyed(), pool, **options)}


@pytest.fixture(params=["threads", "lane"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Serves one method in threads and in the lane, where the same must hold."""

    def serve_one(answer: Answer, refused: calls.OnRefusal = calls.ignore) -> AbstractContextManager[grpc.Channel]:
        if request.param == "threads":
            return serving(endpoint(answer, refused=refused))
        return serving_in_lane(Prompt(METHOD, answer, CallPool("answers", 2, 64), refused), keyed())

    return serve_one


def raising(error: Exception) -> Answer:
    def answer(_caller: Caller, _request: Any) -> Any:
        raise error

    return answer


def allowing(_caller: Caller, _request: Any) -> usage_pb2.PreflightResponse:
    return usage_pb2.PreflightResponse(allow=True)


def refused(channel: grpc.Channel, metadata: Any = bearer("open"), data: bytes = b"") -> grpc.Call:  # noqa: B008
    return refusal_of(lambda: channel.unary_unary(PATH)(data, metadata=metadata, timeout=10))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Invalid("model", "is required"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.Unauthenticated(), grpc.StatusCode.UNAUTHENTICATED),
        (errors.Forbidden(), grpc.StatusCode.PERMISSION_DENIED),
        (errors.NotFound(), grpc.StatusCode.NOT_FOUND),
        (errors.Conflict(), grpc.StatusCode.ALREADY_EXISTS),
        (errors.TooLarge(), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.RateLimited(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Overloaded(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.OutOfSpace(), grpc.StatusCode.UNAVAILABLE),
        (errors.Unavailable(), grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_every_refusal_has_its_status_and_says_when_to_try_again(
    serve: Serve, error: errors.Refused, code: grpc.StatusCode
) -> None:
    """The status of the table, the sentence of the error, and RetryInfo exactly where trying again helps."""
    with serve(raising(error)) as channel:
        answer = refused(channel)
    assert (answer.code(), answer.details()) == (code, error.message)
    fields, retry_s = details_of(answer)
    assert retry_s == getattr(error, "retry_after_s", None)
    assert fields == ({"model": "is required"} if isinstance(error, errors.Invalid) else {})


@pytest.mark.parametrize("error", [sqlite3.OperationalError("no such column: secret"), KeyError("secret")])
def test_our_own_failures_are_logged_and_not_told(
    serve: Serve, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns that it failed; the traceback is the operator's."""
    with caplog.at_level(logging.ERROR), serve(raising(error)) as channel:
        answer = refused(channel)
    assert (answer.code(), answer.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert "secret" in caplog.text


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f600", "\n"])
def test_a_long_refusal_still_arrives(serve: Serve, letter: str) -> None:
    """Trailers over 8 KiB would reach the caller as another error than ours."""
    with serve(raising(errors.Invalid(letter * 100_000, letter * 100_000))) as channel:
        answer = refused(channel)
    assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
    (field,) = details_of(answer)[0]
    assert field.endswith("…")


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer("shut"),
        bearer(""),
        (("authorization", "open"),),
        (("authorization", "Basic open"),),
        (("x-api-key", ""),),
        (("authorization-bin", b"\xff"), ("x-api-key-bin", b"\x00")),
    ],
)
def test_who_has_no_key_is_refused_before_anything_is_read(serve: Serve, metadata: Any) -> None:
    """Without a valid key neither the message nor its absence matters."""
    with serve(raising(AssertionError("was asked"))) as channel:
        assert refused(channel, metadata, b"\xff\xff").code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "metadata",
    [
        bearer("open"),
        (("authorization", "bearer  open "),),
        (("x-api-key", "open"),),
        (("x-api-key", "shut"), ("authorization", "Bearer open")),
        (("authorization", "Basic eDp5"), ("x-api-key", "open")),
    ],
)
def test_a_key_comes_as_bearer_or_as_x_api_key(serve: Serve, metadata: Any) -> None:
    """Bearer wins over x-api-key; another scheme of authorization does not hide it."""
    with serve(allowing) as channel:
        answer = channel.unary_unary(PATH)(b"", metadata=metadata, timeout=10)
    assert usage_pb2.PreflightResponse.FromString(answer).allow


def test_a_stranger_who_sends_nothing_holds_no_thread(serve: Serve) -> None:
    """The key is checked before the message is waited for."""
    with serve(allowing) as channel:
        never = threading.Event()

        def silence() -> Any:
            never.wait(30)
            yield b""

        opened = [channel.stream_unary(PATH).future(silence()) for _ in range(8)]
        assert {call.code() for call in opened} == {grpc.StatusCode.UNAUTHENTICATED}
        never.set()


def test_undecodable_bytes_and_missing_messages_are_the_callers_mistake(serve: Serve) -> None:
    """By itself grpcio would say INTERNAL. What was refused is counted."""
    counted: list[errors.Refused] = []
    with serve(allowing, counted.append) as channel:
        answer = refused(channel, data=b"\xff\xff\xff")
        assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "costd.v1.PreflightRequest" in (answer.details() or "")
        nothing = refusal_of(lambda: channel.stream_unary(PATH)(iter(()), metadata=bearer("open"), timeout=10))
        assert nothing.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(counted) == 2


def test_a_full_pool_refuses_at_once_and_serves_again() -> None:
    """Beyond what may wait, a call is refused with a retry time instead of being queued without end."""
    gate = threading.Event()
    arrived = threading.Semaphore(0)
    counted: list[errors.Refused] = []

    def answer(_caller: Caller, _request: Any) -> usage_pb2.PreflightResponse:
        arrived.release()
        assert gate.wait(20)
        return usage_pb2.PreflightResponse(allow=True)

    pool = CallPool("small", threads=1, waiting=1)
    with serving(endpoint(answer, pool=pool, refused=counted.append)) as channel:
        method = channel.unary_unary(PATH)
        running = method.future(b"", metadata=bearer("open"), timeout=20)
        assert arrived.acquire(timeout=10)
        waiting = method.future(b"", metadata=bearer("open"), timeout=20)
        while not pool.is_full:
            threading.Event().wait(0.001)
        over = refused(channel)
        assert over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details_of(over)[1] == 1.0
        assert len(counted) == 1
        gate.set()
        assert running.result()
        assert waiting.result()
        assert method(b"", metadata=bearer("open"), timeout=10)


def test_a_call_whose_message_does_not_come_is_ended_and_gives_its_thread_back() -> None:
    """As many as there are threads, from a caller with a key: others are answered after it."""
    now_s, never = [0.0], threading.Event()
    keys = keyed(lambda: now_s[0])
    keys.patience.start()

    def nothing() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with serving(endpoint(allowing, keyed=keys)) as channel:
        silent = [channel.stream_unary(PATH).future(nothing(), metadata=bearer("open")) for _ in range(2)]
        until(lambda: len(keys.patience._waiting) == 2, "both threads to wait", 30)
        waiting = channel.unary_unary(PATH).future(b"", metadata=bearer("open"), timeout=60)
        assert not waiting.done()
        now_s[0] = MESSAGE_S + 1
        assert {call.code() for call in silent} == {grpc.StatusCode.CANCELLED}
        assert waiting.result()
        never.set()
    keys.patience.stop()
