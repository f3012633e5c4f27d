"""Promise 14 on the road: a hub and sidecars of other versions understand what they know, and pass over the rest.

Each end meets a peer of the test's own that says more, or less, than this version does.
"""

from __future__ import annotations

import queue
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from callers import BatchDoor, Call, send
from costd.v1 import hub_pb2
from fleet import drained, query, said, source_key
from harness import Daemon, until
from hub_peer import Peer, content, kept, peer, quarantined

#: A field that no version has yet: number 999, four bytes.
NEW_FIELD = b"\xba\x3e\x04more"


def newer(message: Any) -> Any:
    """The same message with a field that is new, in everything it consists of."""
    made = type(message)()
    made.CopyFrom(message)
    for field, value in made.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                each.CopyFrom(newer(each))
    made.MergeFromString(NEW_FIELD)
    return made


# -- a hub, and sources of other versions ------------------------------------------------------------------------------


@pytest.fixture
def hub(launch: Callable[..., Daemon]) -> Daemon:
    """A hub."""
    return launch(name="hub", command="hub")


class NewerPeer(Peer):
    """A source of a later version: whatever it says has more to it."""

    def say(self, request: hub_pb2.ForwardRequest) -> None:
        """Send it, and something of a kind that is new after it."""
        super().say(newer(request))
        if not request.HasField("hello"):
            super().say(hub_pb2.ForwardRequest.FromString(NEW_FIELD))


def test_promise_14_a_hub_passes_over_what_a_newer_source_says_beyond_its_knowledge(hub: Daemon) -> None:
    with NewerPeer(hub.grpc, source_key(hub, "newer")) as made:
        welcome = made.hello(version="9.8.7", format=7)
        assert (welcome.version, welcome.format) == (hub_version(hub), 1)
        for _ in range(3):
            held = newer(content(made.last + 1, 5))
            held.events.extra_at.append(0)
            held.events.extra.append('{"job":"n1","news":{"deep":[1,2,3]}}')
            assert made.send(made.batch(held, 5)).watermark == made.last
        listed = said("sources", "list", data_dir=hub.data_dir)["sources"]
        assert [(source["version"], source["watermark"], source["quarantined"]) for source in listed] == [
            ("9.8.7", 15, 0)
        ]
    assert kept(hub) == 15
    assert hub.client.get("/api/usage?limit=50").status_code == 200


def test_promise_14_a_hub_takes_what_an_older_source_says_without_what_came_later(hub: Daemon) -> None:
    with Peer(hub.grpc, source_key(hub, "older")) as made:
        made.hello(version="", host="", backlog=None, hub_epoch=b"")
        held = content(1, 3)
        del held.events.request_seq[:]
        assert made.send(made.batch(held, 3)).watermark == 3
    assert kept(hub) == 3


def test_promise_14_a_form_of_content_that_is_too_new_is_refused_and_says_what_to_do(hub: Daemon) -> None:
    with peer(hub, source_key(hub, "hasty")) as made:
        error = made.refusal(made.batch(content(), format=2))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "upgrade the hub" in error.details()
        assert quarantined(hub) == []
        made.hello()
        assert made.bring(2).watermark == 2


def hub_version(hub: Daemon) -> str:
    """What a daemon says it is."""
    return str(said("status", data_dir=hub.data_dir)["version"])


# -- a sidecar, and hubs of other versions -----------------------------------------------------------------------------


class OtherHub(grpc.GenericRpcHandler):
    """A hub of another version, which takes everything; `change` makes of an answer what it says."""

    def __init__(self, change: Callable[[hub_pb2.ForwardResponse], bytes], **welcome: Any) -> None:
        self._change = change
        self._welcome = {"version": "9.8.7", "format": 7, "hub_epoch": b"h" * 16, "source": "web-1"} | welcome
        self.hellos: queue.SimpleQueue[hub_pb2.ForwardHello] = queue.SimpleQueue()
        self.formats: set[int] = set()
        self.records = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Only Forward: a version without Sync is a peer too."""
        if handler_call_details.method != "/costd.v1.HubService/Forward":
            return None
        return grpc.stream_stream_rpc_method_handler(self._forward)

    def _forward(self, requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for data in requests:
            request = hub_pb2.ForwardRequest.FromString(data)
            if request.HasField("hello"):
                self.hellos.put(request.hello)
                welcome = hub_pb2.ForwardWelcome(time_ms=request.hello.time_ms, **self._welcome)
                yield self._change(hub_pb2.ForwardResponse(welcome=welcome))
                yield NEW_FIELD
            elif request.HasField("batch"):
                self.formats.add(request.batch.format)
                held = hub_pb2.ForwardContent.FromString(zlib.decompress(request.batch.content))
                self.records += len(held.events.seq)
                ack = hub_pb2.ForwardAck(watermark=request.batch.last, seal=request.batch.seal)
                ack.set_aside.add(kind=99, first=request.batch.first, last=request.batch.last, reason="news")  # type: ignore[arg-type]
                yield self._change(hub_pb2.ForwardResponse(ack=ack))


def as_newer(answer: hub_pb2.ForwardResponse) -> bytes:
    """With fields that are new."""
    return bytes(newer(answer).SerializeToString())


def as_it_is(answer: hub_pb2.ForwardResponse) -> bytes:
    """Without."""
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("change", "welcome"),
    [(as_newer, {"organization": "acme"}), (as_it_is, {"version": "", "organization": "acme"})],
    ids=["newer", "older"],
)
def test_promise_14_a_sidecar_forwards_to_a_hub_of_another_version(
    launch: Callable[..., Daemon], change: Callable[[hub_pb2.ForwardResponse], bytes], welcome: dict[str, Any]
) -> None:
    other = OtherHub(change, **welcome)
    server = grpc.server(ThreadPoolExecutor(8), handlers=[other])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        sidecar = launch(f"--hub=127.0.0.1:{port}", env={"COSTD_HUB_KEY": "ct_live_whatever"})
        assert {outcome.word for outcome in send(BatchDoor, sidecar, *(Call(n) for n in range(50)))} == {"kept"}
        drained(sidecar)
        hello = other.hellos.get(timeout=10)
        link = said("status", data_dir=sidecar.data_dir)["hub"]
        assert (link["state"], link["hub_version"]) == ("connected", welcome.get("version", "9.8.7") or None)
        assert hello.version == said("status", data_dir=sidecar.data_dir)["version"]
        assert (other.records, other.formats) == (50, {1})
        assert query(sidecar.data_dir, "SELECT count(*) FROM adjustment") == [(0,)]
        until(lambda: "ERROR" not in sidecar.log, "a log without errors", 1)
        assert sidecar.stop() == 0
    finally:
        server.stop(0).wait()
