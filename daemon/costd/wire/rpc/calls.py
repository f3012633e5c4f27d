"""From a plain function (caller, request) → answer to a gRPC handler: keys, undecodable bytes, errors, thread pools.

Handlers are registered from the service's descriptor. On the wire a unary request is a stream of one message, and
here it is read as such: the key is checked before the message is waited for, so that a stranger who opens calls and
sends nothing cannot hold a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from costd.domain.access import Caller
from costd.domain.errors import Invalid, Overloaded, Refused
from costd.services.access import Access
from costd.wire.rpc.patience import Patience
from costd.wire.rpc.pools import CallPool
from costd.wire.rpc.refusals import refuse

Answer = Callable[[Caller, Any], Any]
Exchange = Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]
Decode = Callable[[bytes | None], Any]
Read = Callable[[Iterator[bytes]], Any]
KeyedExchange = Callable[[Caller, Iterator[Any]], Iterator[Any]]
KeyedAnswers = Callable[[Caller, Any], Iterator[Any]]
OnRefusal = Callable[[Refused], None]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_BEARER = "bearer "

#: The longest message of a caller's, and of a source's at a hub.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_BATCH_BYTES = 64 * 1024 * 1024

#: What a caller is told whom there is no room for.
TOO_MANY = "too many calls of this kind are waiting for an answer; try again"

#: A key that was looked at longer ago than this, when the message at last arrives, is looked at again.
STALE_KEY_S = 1.0


def token_of(metadata: Any) -> str | None:
    """The key in a call's metadata: `authorization: Bearer KEY`, else `x-api-key: KEY`."""
    token = None
    for name, value in metadata or ():
        if name == "authorization" and isinstance(value, str) and value[:7].lower() == _BEARER:
            return value[7:].strip()
        if name == "x-api-key" and isinstance(value, str):
            token = value.strip()
    return token


def reader(method: MethodDescriptor) -> Read:
    """Takes the next message of a call; the function it gives raises Invalid where it is none, or there is none."""
    decode = decoder(method)
    return lambda requests: decode(next(requests, None))


def decoder(method: MethodDescriptor) -> Decode:
    """From the bytes of a unary request to its message; raises Invalid where they are none, or None came."""
    parse = GetMessageClass(method.input_type).FromString

    def decode(data: bytes | None) -> Any:
        if data is None:
            raise Invalid("", f"{method.full_name} takes a message, and none came")
        _check_length(data, MAX_MESSAGE_BYTES)
        try:
            return parse(data)
        except Exception:  # whatever the bytes do to the parser is their sender's mistake
            raise Invalid("", f"the message cannot be decoded as {method.input_type.full_name}") from None

    return decode


def _check_length(data: bytes, longest: int) -> None:
    if len(data) > longest:
        raise Invalid("", f"the message has {len(data):,} bytes; at most {longest:,} are taken")


def messages(method: MethodDescriptor, requests: Iterator[bytes], longest: int = MAX_MESSAGE_BYTES) -> Iterator[Any]:
    """The messages of a stream, decoded; raises Invalid at the first that cannot be, or is too long."""
    parse = GetMessageClass(method.input_type).FromString
    for data in requests:
        _check_length(data, longest)
        try:
            message = parse(data)
        except Exception:
            raise Invalid("", f"a message cannot be decoded as {method.input_type.full_name}") from None
        yield message


class Endpoint(NamedTuple):
    """One method: what answers it, in which threads, and who is told of refusals made before it was asked."""

    handler: Handler
    pool: CallPool
    refused: OnRefusal


def ignore(_refusal: Refused) -> None:
    """Nobody is told."""


class Keyed(NamedTuple):
    """What calls from callers with a key are made with."""

    access: Access
    patience: Patience


def unary(
    method: MethodDescriptor, answer: Answer, keyed: Keyed, pool: CallPool, refused: OnRefusal = ignore
) -> Endpoint:
    """One message in, one out, from a caller with a key."""
    authenticate, read, patience = keyed.access.authenticate, reader(method), keyed.patience

    def behave(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        try:
            try:
                caller = authenticate(token := token_of(context.invocation_metadata()))
                began_s = patience.began(context)
                try:
                    request = read(requests)
                finally:
                    ended_s = patience.ended(context)
                if ended_s - began_s > STALE_KEY_S:
                    caller = authenticate(token)  # the key may have been revoked while the message was waited for
            except Refused as refusal:
                refused(refusal)
                raise
            return answer(caller, request)
        except grpc.RpcError:  # the caller is gone
            raise
        except Exception as error:
            refuse(context, error)

    return _endpoint(pool, behave, method, refused, streaming=False)


def stream(
    method: MethodDescriptor,
    exchange: KeyedExchange,
    access: Access,
    pool: CallPool,
    refused: OnRefusal = ignore,
    *,
    longest: int = MAX_MESSAGE_BYTES,
) -> Endpoint:
    """Any messages in, any out, from a caller with a key."""
    authenticate = access.authenticate

    def still_allowed(requests: Iterator[Any], token: str | None) -> Iterator[Any]:
        for message in messages(method, requests, longest):
            authenticate(token)  # a stream may be older than the revocation of its key
            yield message

    def behave(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        token = token_of(context.invocation_metadata())
        try:
            try:
                caller = authenticate(token)
            except Refused as refusal:
                refused(refusal)
                raise
            yield from exchange(caller, still_allowed(requests, token))
        except grpc.RpcError:  # the caller is gone
            raise
        except Exception as error:
            refuse(context, error)

    return _endpoint(pool, behave, method, refused, streaming=True)


def unary_stream(method: MethodDescriptor, answers: KeyedAnswers, keyed: Keyed, pool: CallPool) -> Endpoint:
    """One message in, any number out, to a caller with a key."""
    read = reader(method)

    def behave(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            caller = keyed.access.authenticate(token := token_of(context.invocation_metadata()))
            keyed.patience.began(context)
            try:
                request = read(requests)
            finally:
                keyed.patience.ended(context)
            for answer in answers(caller, request):
                keyed.access.authenticate(token)  # what goes on for long may outlast its key
                yield answer
        except grpc.RpcError:  # the caller is gone
            raise
        except Exception as error:
            refuse(context, error)

    return _endpoint(pool, behave, method, ignore, streaming=True)


def open_exchange(method: MethodDescriptor, exchange: Exchange, pool: CallPool) -> Endpoint:
    """Any messages in, any out, for everyone: what standard tools ask without a key."""

    def behave(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from exchange(requests, context)
        except grpc.RpcError:
            raise
        except Exception as error:
            refuse(context, error)

    return _endpoint(pool, behave, method, ignore, streaming=True)


def _endpoint(
    pool: CallPool, behave: Any, method: MethodDescriptor, refused: OnRefusal, *, streaming: bool
) -> Endpoint:
    behave.experimental_thread_pool = pool
    make = grpc.stream_stream_rpc_method_handler if streaming else grpc.stream_unary_rpc_method_handler
    # Messages are decoded by ourselves, in the call's own thread: grpcio would do it in the one thread that serves all
    # calls, and answer INTERNAL where it fails.
    handler: Handler = make(behave, None, GetMessageClass(method.output_type).SerializeToString)
    return Endpoint(handler, pool, refused)


def endpoints(service: ServiceDescriptor, make: Callable[[MethodDescriptor, str], Endpoint]) -> dict[str, Endpoint]:
    """An endpoint for every method of the service, by path; `make` gets the method and its name in snake case."""
    return {
        f"/{service.full_name}/{method.name}": make(method, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        for method in service.methods
    }


class Router(grpc.GenericRpcHandler):
    """Finds the handler of a call; where that one's pool is full, a handler that says so."""

    def __init__(self, methods: Mapping[str, Endpoint], refusal_pool: CallPool) -> None:
        self._methods = {
            path: (endpoint.pool, endpoint.handler, busy_handler(refusal_pool, endpoint.refused))
            for path, endpoint in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler, None where there is no such method. Runs in grpcio's one serving thread."""
        entry = self._methods.get(handler_call_details.method)
        if entry is None:
            return None
        pool, handler, busy = entry
        return busy if pool.is_full else handler


def busy_handler(pool: CallPool, refused: OnRefusal) -> Handler:
    """Refuses any call, without waiting for its message: an error looks the same for every kind of call."""

    def behave(_requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        refusal = Overloaded(TOO_MANY)
        refused(refusal)
        refuse(context, refusal)

    behave.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return grpc.stream_stream_rpc_method_handler(behave, None, None)
