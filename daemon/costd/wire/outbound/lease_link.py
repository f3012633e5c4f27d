"""The road for slices over gRPC: one channel to the hub, and one unary Lease call at a time on it."""

from __future__ import annotations

from typing import Any

import grpc

from costd.domain.errors import ConfigError, Invalid
from costd.domain.lease import LeaseAnswer, LeaseRequest
from costd.domain.link import LinkBroken
from costd.v1 import hub_pb2_grpc
from costd.wire import lease_messages
from costd.wire.outbound.channel import HubDoor
from costd.wire.outbound.failures import broken
from costd.wire.outbound.opening import Opening


class LeaseLink:
    """One channel."""

    def __init__(self, door: HubDoor) -> None:
        self._door = door
        self._channel: grpc.Channel | None = None
        self._opening: Opening | None = None
        self._call: Any = None
        self._is_closed = False

    def open(self, timeout_s: float) -> None:
        """Reach the hub. Raises LinkBroken."""
        try:
            self._channel = self._door.open()
        except ConfigError as error:
            raise LinkBroken(error.message, reason="configuration") from None
        self._opening = Opening(self._channel)
        if self._is_closed or not self._opening.succeeds(timeout_s):
            raise LinkBroken(f"no hub answers at {self._door.address}", reason="unavailable")

    def exchange(self, request: LeaseRequest, timeout_s: float) -> LeaseAnswer:
        """Ask once; the channel is open. Raises LinkBroken."""
        assert self._channel is not None
        stub: Any = hub_pb2_grpc.HubServiceStub(self._channel)
        try:
            message = lease_messages.request_message(request)
            self._call = stub.Lease.future(message, metadata=self._door.metadata(), timeout=timeout_s)
            if self._is_closed:  # meanwhile, by another thread, which had no call to cancel
                self._call.cancel()
            return lease_messages.read_answer(self._call.result())
        except ConfigError as error:
            raise LinkBroken(error.message, reason="configuration") from None
        except Invalid as error:
            raise LinkBroken(f"the hub's words cannot be read: {error.message}", reason="protocol") from None
        except grpc.FutureCancelledError:
            raise LinkBroken("the call was given up", reason="closed") from None
        except grpc.RpcError as error:
            raise broken(error, self._door.address) from None
        finally:
            self._call = None

    def is_outdated(self) -> bool:
        """Whether the key or a certificate has changed since it was opened."""
        return self._door.changed()

    def close(self) -> None:
        """End it, from any thread; again is harmless."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.give_up()
        if (call := self._call) is not None:
            call.cancel()
        if self._channel is not None:
            self._channel.close()
