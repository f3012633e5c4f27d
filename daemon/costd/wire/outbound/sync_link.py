"""The road from a hub over gRPC: one Sync stream and the channel that it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from costd.domain.errors import ConfigError, Invalid
from costd.domain.link import LinkBroken
from costd.domain.synced import News, Upward
from costd.v1 import hub_pb2_grpc
from costd.wire import sync_messages
from costd.wire.outbound.channel import HubDoor
from costd.wire.outbound.failures import broken
from costd.wire.outbound.opening import Opening

#: How long it may take to reach a hub.
_GREETING_S = 20.0


class SyncLink:
    """One stream."""

    def __init__(self, door: HubDoor) -> None:
        self._door = door
        self._channel: grpc.Channel | None = None
        self._opening: Opening | None = None
        self._call: Any = None
        self._is_closed = False

    def exchange(self, upward: Iterator[Upward]) -> Iterator[News]:
        """Open the stream, tell the hub what comes from `upward`, and take its news. Raises LinkBroken."""
        try:
            self._channel = self._door.open()
            self._opening = Opening(self._channel)
            if not self._opening.succeeds(_GREETING_S):
                raise LinkBroken(f"no hub answers at {self._door.address}", reason="unavailable")
            stub: Any = hub_pb2_grpc.HubServiceStub(self._channel)
            self._call = stub.Sync(map(sync_messages.upward_message, upward), metadata=self._door.metadata())
            if self._is_closed:  # meanwhile, by another thread, which had no call to cancel
                self._call.cancel()
            yield from map(sync_messages.read_news, self._call)
        except ConfigError as error:
            raise LinkBroken(error.message, reason="configuration") from None
        except Invalid as error:
            raise LinkBroken(f"the hub's words cannot be read: {error.message}", reason="protocol") from None
        except grpc.RpcError as error:
            raise broken(error, self._door.address) from None

    def is_outdated(self) -> bool:
        """Whether the key or a certificate has changed since it was opened."""
        return self._door.changed()

    def close(self) -> None:
        """End it, from any thread; again is harmless."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.give_up()
        if self._call is not None:
            self._call.cancel()
        if self._channel is not None:
            self._channel.close()
