"""The way to costd: gRPC channels of this process, and what it takes to fork a process that has them.

gRPC's core can be used in a forked child if no call of the parent was under way when it was forked, and if the child
makes channels of its own (measured with grpcio 1.85: with a call under way, the child's first call hangs or aborts).
So a fork waits until preflights, which are short, have ended, and ends the batch under way, which is sent again. That
one has a channel to itself, because closing a channel is the one way to end a call of another thread; the other stays
open, or the core would be shut down while it is forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from costd_client.address import Target
from costd_client.v1 import batch_pb2, usage_pb2

_PREFLIGHT = "/costd.v1.UsageService/Preflight"
_RELEASE = "/costd.v1.UsageService/Release"
_RECORD_BATCH = "/costd.v1.UsageService/RecordBatch"
_HEALTH = "/grpc.health.v1.Health/Check"

#: How long a fork, or the end, waits for calls under way.
_QUIET_S = 0.5
#: How long a release may take; what a release that is lost would have freed is freed when its time to live has passed.
_RELEASE_S = 5.0

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy from the environment has no business between us and costd
    ("grpc.use_local_subchannel_pool", 1),  # connections are not shared with whatever else uses gRPC here
    # A daemon that is back is found within this, not after gRPC's own two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

Metadata = tuple[tuple[str, str], ...]


class Connection:
    """Calls to costd from this process; a forked child has none until it needs one."""

    def __init__(self, target: Target, metadata: Metadata) -> None:
        self._target = target
        self._metadata = metadata
        self._reset()

    def _reset(self) -> None:
        # Reentrant, because a signal's handler may make a call while this thread begins one.
        self._changed = threading.Condition(threading.RLock())
        self._under_way = 0
        self._is_sending = False
        self._is_forking = False
        self._is_closed = False
        self._asking: grpc.Channel | None = None
        self._sending: grpc.Channel | None = None
        self._preflight: Any = None
        self._release: Any = None
        self._releases: set[Any] = set()

    def preflight(self, request: usage_pb2.PreflightRequest, timeout_s: float) -> usage_pb2.PreflightResponse:
        """Ask and wait for the answer; raises grpc.RpcError, ValueError where this is closed."""
        call = self._begin(timeout_s)
        try:
            answer: usage_pb2.PreflightResponse = call(request, timeout=timeout_s, metadata=self._metadata)
            return answer
        finally:
            self._end()

    async def preflight_from_loop(
        self, request: usage_pb2.PreflightRequest, timeout_s: float
    ) -> usage_pb2.PreflightResponse:
        """The same without blocking the event loop. Raises grpc.FutureCancelledError too, where this is closed.

        A call of the one channel, ended by a thread of grpc's, and not one of grpc.aio: that would belong to one loop,
        and does not survive a fork.
        """
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        begun = self._begin(timeout_s)
        try:
            call = begun.future(request, timeout=timeout_s, metadata=self._metadata)
        except BaseException:
            self._end()
            raise

        def ended(_call: object) -> None:
            self._end()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_settle, over)

        call.add_done_callback(ended)
        try:
            await over
        except asyncio.CancelledError:
            # Not cancelled: costd might reserve all the same, after it was told to let go.
            call.add_done_callback(lambda _call: self.release(request.request_id))
            raise
        answer: usage_pb2.PreflightResponse = call.result()
        return answer

    def release(self, request_id: str) -> None:
        """Let go of what a preflight reserved: send that, wait for nothing. Nothing is sent where this is closed."""
        with self._changed:
            if self._is_closed or self._is_forking:
                return
            self._open()
            request = usage_pb2.ReleaseRequest(request_id=request_id)
            sent = self._release.future(request, timeout=_RELEASE_S, metadata=self._metadata)
            self._under_way += 1
            self._releases.add(sent)
        sent.add_done_callback(self._released)

    def _released(self, sent: Any) -> None:
        with self._changed:
            self._releases.discard(sent)
            self._under_way -= 1
            self._changed.notify_all()

    def _begin(self, timeout_s: float) -> Any:
        """One more preflight is under way; what makes it. Lets a fork be over first."""
        with self._changed:
            if self._is_forking:
                self._changed.wait_for(lambda: not self._is_forking, timeout_s)
            self._open()
            self._under_way += 1
            return self._preflight

    def _end(self) -> None:
        with self._changed:
            self._under_way -= 1
            if self._is_forking:
                self._changed.notify_all()

    def _open(self) -> None:
        if self._is_closed:
            raise ValueError("the tracker is closed")
        if self._asking is None:
            self._asking = self._channel()
            self._preflight = self._asking.unary_unary(
                _PREFLIGHT,
                request_serializer=usage_pb2.PreflightRequest.SerializeToString,
                response_deserializer=usage_pb2.PreflightResponse.FromString,
            )
            self._release = self._asking.unary_unary(
                _RELEASE,
                request_serializer=usage_pb2.ReleaseRequest.SerializeToString,
                response_deserializer=usage_pb2.ReleaseResponse.FromString,
            )

    def record_batch(self, batch: bytes, timeout_s: float) -> batch_pb2.RecordBatchResponse:
        """Send a serialised RecordBatchRequest; raises grpc.RpcError, ValueError. For one thread at a time."""
        read = batch_pb2.RecordBatchResponse.FromString
        answer: batch_pb2.RecordBatchResponse = self._send(_RECORD_BATCH, read, batch, timeout_s)
        return answer

    def probe(self, timeout_s: float) -> None:
        """Return where costd answers at all; raises grpc.RpcError, ValueError. For the thread of record_batch."""
        self._send(_HEALTH, bytes, b"", timeout_s)

    def _send(self, path: str, read: Callable[[bytes], Any], request: bytes, timeout_s: float) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_forking, timeout_s)
            self._open()
            if self._sending is None:
                self._sending = self._channel()
            call: Any = self._sending.unary_unary(path, request_serializer=None, response_deserializer=read)
            self._is_sending = True
        try:
            return call(request, timeout=timeout_s, metadata=self._metadata)
        finally:
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()

    def stop_sending(self) -> None:
        """End what the sending thread has under way: it gets an error."""
        with self._changed:
            sending, self._sending = self._sending, None
        if sending is not None:
            sending.close()

    def close(self) -> None:
        """End every call and make no more; releases get a moment."""
        self.stop_sending()
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._releases, _QUIET_S)
            asking, self._asking = self._asking, None
        if asking is not None:
            asking.close()

    def before_fork(self) -> None:
        """Let no call begin, and none be under way."""
        until_s = time.monotonic() + _QUIET_S
        with self._changed:
            self._is_forking = True
        self.stop_sending()
        with self._changed:
            self._changed.wait_for(
                lambda: not (self._under_way or self._is_sending), max(0.0, until_s - time.monotonic())
            )
            late = tuple(self._releases)
        for each in late:
            each.cancel()

    def after_fork_in_parent(self) -> None:
        """Calls may begin again."""
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """The parent's channels are not ours; they are kept as they are, because closing one would use it."""
        self._parents = (self._asking, self._sending)
        self._reset()

    def _channel(self) -> grpc.Channel:
        address, credentials = self._target
        if credentials is None:
            return grpc.insecure_channel(address, _OPTIONS)
        return grpc.secure_channel(address, credentials, _OPTIONS)


def _settle(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
