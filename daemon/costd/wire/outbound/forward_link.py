"""The road to a hub over gRPC: one Forward stream and the channel that it runs on."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc

from costd.domain.errors import ConfigError
from costd.domain.forwarding import Hello, Lost, Sealed, Waiting, Welcome
from costd.domain.link import LinkBroken
from costd.services.journey import Ack
from costd.v1 import hub_pb2, hub_pb2_grpc
from costd.wire.forwarded import messages
from costd.wire.outbound.channel import HubDoor
from costd.wire.outbound.failures import broken
from costd.wire.outbound.opening import Opening

#: How long a hub may take for its first word; it writes down who came before it answers.
GREETING_S = 20.0

#: Ends the stream of requests.
_DONE = None


class ForwardLink:
    """One stream."""

    def __init__(self, door: HubDoor) -> None:
        self._door = door
        self._requests: queue.SimpleQueue[hub_pb2.ForwardRequest | None] = queue.SimpleQueue()
        self._channel: grpc.Channel | None = None
        self._opening: Opening | None = None
        self._call: Any = None
        self._is_closed = False

    def greet(self, hello: Hello) -> Welcome:
        """Open the stream; what the hub says. Raises LinkBroken."""
        try:
            self._channel = self._door.open()
            self._opening = Opening(self._channel)
            if not self._opening.succeeds(GREETING_S):
                raise LinkBroken(f"no hub answers at {self._door.address}", reason="unavailable")
            stub: Any = hub_pb2_grpc.HubServiceStub(self._channel)
            self._call = stub.Forward(iter(self._requests.get, _DONE), metadata=self._door.metadata())
            self._requests.put(messages.hello_message(hello))
            first = next(self._call)
        except ConfigError as error:
            raise LinkBroken(error.message, reason="configuration") from None
        except grpc.RpcError as error:
            raise broken(error, self._door.address) from None
        except StopIteration:
            raise LinkBroken("the hub has ended the stream without a word") from None
        if first.WhichOneof("message") != "welcome":
            raise LinkBroken("the hub's first word is none that this release knows", reason="protocol")
        return messages.read_welcome(first.welcome)

    def send(self, sealed: Sealed, lost: Lost | None) -> None:
        """Send a batch."""
        self._requests.put(messages.batch_message(sealed, lost))

    def say(self, waiting: Waiting) -> None:
        """Tell what waits."""
        self._requests.put(messages.backlog_message(waiting))

    def acks(self) -> Iterator[Ack]:
        """Acknowledgements as they come, until the stream breaks. Raises LinkBroken."""
        try:
            for answer in self._call:
                if answer.WhichOneof("message") == "ack":
                    yield Ack(answer.ack.watermark, messages.read_set_aside(answer.ack.set_aside))
        except grpc.RpcError as error:
            raise broken(error, self._door.address) from None

    def is_outdated(self) -> bool:
        """Whether the key or a certificate has changed since it was opened."""
        return self._door.changed()

    def close(self) -> None:
        """End it; again is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        self._requests.put(_DONE)
        if self._opening is not None:
            self._opening.give_up()
        if self._call is not None:
            self._call.cancel()
        if self._channel is not None:
            self._channel.close()
