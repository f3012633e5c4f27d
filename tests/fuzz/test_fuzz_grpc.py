"""Random bytes and random messages at every gRPC method: refused or answered, never INTERNAL, never a dead daemon."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costd.v1 import records_pb2
from costd.wire.rpc import health, reflection
from costd.wire.rpc.server import ADMIN, QUERY, USAGE
from harness import Daemon
from rpc_calls import channel_to, send_raw

METHODS = [
    (f"/{service.full_name}/{method.name}", GetMessageClass(method.input_type))
    for service in (USAGE, QUERY, ADMIN, health.SERVICE, reflection.SERVICE)
    for method in service.methods
    if method.name not in {"Watch", "Tail"}  # which do not end; Check decodes the same message as the first
]
OURS_TO_BLAME = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}

WORDS = (
    "",
    "input_tokens",
    "gpt-4o",
    "model",
    "team",
    "1.5",
    "-0",
    "9" * 40,
    "x" * 300,
    "ä\U0001f600",
    "\0",
    "%s'\"--",
)
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 10**12, 2**62, -(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def channel(daemon: Daemon) -> Iterator[grpc.Channel]:
    with channel_to(daemon.grpc) as opened:
        yield opened


def metadata_of(daemon: Daemon) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {daemon.admin_key}"),)


def events(daemon: Daemon) -> Any:
    return daemon.query("SELECT count(*) FROM event")


@pytest.mark.parametrize(("path", "message"), METHODS, ids=[path for path, _ in METHODS])
def test_random_bytes_are_never_our_failure(
    daemon: Daemon, channel: grpc.Channel, path: str, message: type[Message]
) -> None:
    """With a key and without one; nothing that was refused is recorded."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=st.binary(max_size=200), keyed=st.booleans())
    def check(data: bytes, keyed: bool) -> None:
        before = events(daemon)
        code = send_raw(channel, path, data, metadata_of(daemon) if keyed else ())
        assert code not in OURS_TO_BLAME
        if code is not grpc.StatusCode.OK:
            assert events(daemon) == before

    check()
    assert message.DESCRIPTOR is not None
    assert daemon.process.poll() is None


@pytest.mark.parametrize(("path", "message"), METHODS, ids=[path for path, _ in METHODS])
def test_random_messages_are_never_our_failure(
    daemon: Daemon, channel: grpc.Channel, path: str, message: type[Message]
) -> None:
    """Every field filled with what is odd for its type."""
    rng = random.Random(path)
    for _ in range(60):
        before = events(daemon)
        code = send_raw(channel, path, odd(message(), rng).SerializeToString(), metadata_of(daemon))
        assert code not in OURS_TO_BLAME
        if code is not grpc.StatusCode.OK:
            assert events(daemon) == before
    assert "Traceback" not in daemon.log


def test_random_tails_are_never_our_failure(daemon: Daemon, channel: grpc.Channel) -> None:
    """The first answer, or why there is none; a tail ends when its caller leaves."""
    rng = random.Random("Tail")
    for _ in range(60):
        data = odd(records_pb2.TailRequest(), rng).SerializeToString()
        call = channel.stream_stream("/costd.v1.QueryService/Tail")(iter((data,)), metadata=metadata_of(daemon))
        try:
            next(call)
            call.cancel()
        except grpc.RpcError:
            pass
        assert call.code() not in OURS_TO_BLAME
    assert "Traceback" not in daemon.log


def odd(message: Message, rng: random.Random) -> Message:
    """The message with some of its fields set to odd values."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4:
            continue
        held = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(rng.randrange(3)):
                held[rng.choice(WORDS)] = rng.choice(WORDS)
        elif field.is_repeated:
            for _ in range(rng.randrange(4)):
                held.append(value(field, rng))
        elif field.message_type is not None:
            held.CopyFrom(value(field, rng))
        else:
            setattr(message, field.name, value(field, rng))
    return message


def value(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.message_type is not None:
        return odd(GetMessageClass(field.message_type)(), rng)
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(WORDS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.randrange(20))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.type in {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64}:
        most = 2**32 if field.type == FieldDescriptor.TYPE_UINT32 else 2**64
        return rng.choice([*(number for number in NUMBERS if 0 <= number < most), most - 1])
    if field.type == FieldDescriptor.TYPE_INT32:
        return rng.choice([number for number in NUMBERS if -(2**31) <= number < 2**31])
    return rng.choice(NUMBERS)
