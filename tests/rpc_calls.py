"""Calls for the gRPC door's tests: raw bytes to any method, and what an error carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from costd.wire.rpc.calls import Endpoint, Keyed, Router
from costd.wire.rpc.lane import Lane, Prompt
from costd.wire.rpc.pools import CallPool
from costd.wire.rpc.refusals import DETAILS_KEY

TIMEOUT_S = 20


def channel_to(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """A connection that is shared with no other channel of this process."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def refusal_of(call: Callable[[], Any]) -> grpc.Call:
    """The error that `call` must end in."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"was answered: {answer}")


def details_of(error: grpc.Call) -> tuple[dict[str, str], float | None]:
    """({field: reason}, seconds after which to try again) of the google.rpc.Status in the trailers."""
    rich = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())[DETAILS_KEY])
    assert rich.code == error.code().value[0]
    assert rich.message == error.details()
    fields: dict[str, str] = {}
    retry_s = None
    for detail in rich.details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad):
            fields |= {violation.field: violation.description for violation in bad.field_violations}
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    return fields, retry_s


def send_raw(channel: grpc.Channel, path: str, data: bytes, metadata: Any = ()) -> grpc.StatusCode:
    """Send bytes as the one message of a call to any kind of method, read all it answers; how it ended."""
    call = channel.stream_stream(path)(iter((data,)), metadata=metadata, timeout=TIMEOUT_S)
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass
    return call.code()


@contextmanager
def serving(endpoints: Mapping[str, Endpoint]) -> Iterator[grpc.Channel]:
    """A real server with these endpoints, and a channel to it."""
    pool = CallPool("test", 2, 64)
    server = grpc.server(pool, handlers=[Router(endpoints, pool)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with channel_to(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(1).wait(5)
        pool.shutdown()


@contextmanager
def serving_in_lane(prompt: Prompt, keyed: Keyed) -> Iterator[grpc.Channel]:
    """The same with one method in a lane."""
    pool = CallPool("test", 2, 64)
    server = grpc.server(pool, handlers=[Router({}, pool)])
    lane = Lane(server, [prompt], keyed)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    lane.start()
    try:
        with channel_to(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(1).wait(5)
        pool.shutdown()
