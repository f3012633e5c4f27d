"""HubService.Forward: a stream of a source's, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator

from costd.domain.access import Caller
from costd.domain.errors import Invalid, Refused
from costd.services.hub import Connection, Hub
from costd.services.sources import Sources
from costd.v1 import hub_pb2
from costd.wire.forwarded import messages


def no_hub(caller: Caller, _requests: Iterator[object]) -> Iterator[object]:
    """What a daemon that is no hub answers to sources."""
    caller.require("source")
    raise Refused("this daemon is a sidecar, not a hub; `costd hub` starts one")


class ForwardService:
    """Answers costd.v1.HubService/Forward."""

    def __init__(self, hub: Hub, sources: Sources) -> None:
        self._hub = hub
        self._sources = sources

    def forward(self, caller: Caller, requests: Iterator[hub_pb2.ForwardRequest]) -> Iterator[hub_pb2.ForwardResponse]:
        """Take over batches until the source is done, each acknowledged once it is on disk; raises what ends it.

        Several batches may be under way: they wait in the stream. One at a time is applied, as their order matters,
        and what costs time is the same for two sources as for two batches of one.
        """
        source = self._sources.of(caller)
        first = next(requests, None)
        if first is None or first.WhichOneof("message") != "hello":
            raise Invalid("hello", "must be the first message of a stream")
        connection, welcome = self._hub.connect(source, messages.read_hello(first.hello))
        try:
            yield messages.welcome_message(welcome)
            for request in requests:
                yield from self._answer(connection, request)
        finally:
            self._hub.disconnect(connection)

    def _answer(self, connection: Connection, request: hub_pb2.ForwardRequest) -> Iterator[hub_pb2.ForwardResponse]:
        kind = request.WhichOneof("message")
        if kind == "batch":
            sealed, lost = messages.read_batch(request.batch)
            applied = self._hub.forward(connection, sealed, lost)
            yield messages.ack_message(applied.watermark, applied.seal, applied.set_aside)
        elif kind == "backlog":
            self._hub.backlog(connection, messages.read_backlog(request.backlog))
        elif kind == "hello":
            raise Invalid("hello", "comes once, at the beginning of a stream")
        # A message of a kind that this release does not know is a newer source's, which can do without an answer.
