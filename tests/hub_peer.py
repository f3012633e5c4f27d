"""A peer of a hub that speaks its protocol word by word, so that it can also lie, and what it would send."""

from __future__ import annotations

import os
import queue
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import grpc

from costd.v1 import hub_pb2, hub_pb2_grpc
from harness import Daemon
from rpc_calls import bearer, channel_to, refusal_of

ANSWER_S = 30
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
Change = Callable[[hub_pb2.ForwardContent], object]


def now_ms() -> int:
    """The present."""
    return time.time_ns() // 1_000_000


def commit_id() -> bytes:
    """A new id of a commit: a UUIDv7 with room for ordinals."""
    return now_ms().to_bytes(6, "big") + b"\x70" + os.urandom(1) + b"\x80" + os.urandom(4) + b"\0\0\0"


def content(first: int = 1, records: int = 1, org: str = "default", **columns: Any) -> hub_pb2.ForwardContent:
    """One commit with records of a thousand nano-dollars each; `columns` are for ForwardEvents."""
    plain = {
        "seq": range(first, first + records),
        "at_ms": [now_ms()] * records,
        "series": [0] * records,
        "cost_nano_usd": [1_000] * records,
        "price_source": [0] * records,
        "latency_ms": [-1] * records,
        **{name: [7] * records for name in COUNTS[:2]},
        **{name: [0] * records for name in COUNTS[2:]},
    }
    return hub_pb2.ForwardContent(
        organizations=[org],
        series=[hub_pb2.ForwardSeries(source_app="peer", user="mallory", model="gpt-4o", status="success")],
        commits=hub_pb2.ForwardCommits(first=[first], ids=commit_id(), items=[records], at_ms=[now_ms()]),
        events=hub_pb2.ForwardEvents(**(plain | columns)),
    )


def requests(held: hub_pb2.ForwardContent, *ids: str, fingerprint: bytes = b"f" * 16) -> hub_pb2.ForwardContent:
    """The same content, where its first records have these request ids."""
    events = held.events
    events.request_seq.extend(events.seq[: len(ids)])
    events.request_ids.extend(ids)
    events.fingerprints = fingerprint * len(ids)
    events.fingerprint_bytes = len(fingerprint)
    return held


def packed(held: hub_pb2.ForwardContent) -> bytes:
    """Content as it travels."""
    return zlib.compress(held.SerializeToString(), 1)


def seal_of(batch: hub_pb2.ForwardBatch, epoch: bytes) -> bytes:
    """The seal, as the protocol says it is made."""
    digest = blake2b(digest_size=16)
    digest.update(batch.previous_seal.rjust(16, b"\0"))
    digest.update(epoch)
    digest.update(batch.first.to_bytes(8, "big") + batch.last.to_bytes(8, "big") + batch.format.to_bytes(4, "big"))
    digest.update(batch.content)
    return digest.digest()


class Peer:
    """A source as the hub knows it by its key; `epoch`, `last` and `seal` say where it stands."""

    def __init__(self, address: str, key: str, *, epoch: bytes = b"") -> None:
        self._channel = channel_to(address)
        self._stub: Any = hub_pb2_grpc.HubServiceStub(self._channel)
        self._key = key
        self._sent: queue.SimpleQueue[hub_pb2.ForwardRequest | None] = queue.SimpleQueue()
        self.call: Any = None
        self.epoch = epoch or os.urandom(16)
        self.incarnation = os.urandom(16)
        self.last = 0
        self.seal = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open a stream, and say nothing yet."""
        self._sent = queue.SimpleQueue()
        self.call = self._stub.Forward(iter(self._sent.get, None), metadata=bearer(self._key), timeout=ANSWER_S)

    def hello(self, **fields: Any) -> hub_pb2.ForwardWelcome:
        """Open a stream and say hello; what the hub says."""
        self.open()
        self.say(hub_pb2.ForwardRequest(hello=self.hello_message(**fields)))
        answer: hub_pb2.ForwardResponse = next(self.call)
        return answer.welcome

    def hello_message(self, **fields: Any) -> hub_pb2.ForwardHello:
        """A hello like any other, but for these fields."""
        plain = {
            "version": "0.2.0",
            "format": 1,
            "host": "peer.example",
            "time_ms": now_ms(),
            "epoch": self.epoch,
            "epoch_first": 1,
            "acknowledged": self.last,
            "incarnation": self.incarnation,
        }
        return hub_pb2.ForwardHello(**(plain | fields))

    def say(self, request: hub_pb2.ForwardRequest) -> None:
        """Send anything."""
        self._sent.put(request)

    def batch(self, held: hub_pb2.ForwardContent | bytes, records: int = 1, **fields: Any) -> hub_pb2.ForwardBatch:
        """The next batch, sealed; `fields` are changed before it is."""
        data = held if isinstance(held, bytes) else packed(held)
        plain = {
            "first": self.last + 1,
            "last": self.last + records,
            "previous_seal": self.seal,
            "format": 1,
            "content": data,
        }
        batch = hub_pb2.ForwardBatch(**(plain | fields))
        if not batch.seal:
            batch.seal = seal_of(batch, self.epoch)
        return batch

    def send(self, batch: hub_pb2.ForwardBatch) -> hub_pb2.ForwardAck:
        """Send a batch and wait for its acknowledgement."""
        self.say(hub_pb2.ForwardRequest(batch=batch))
        answer: hub_pb2.ForwardResponse = next(self.call)
        self.last, self.seal = answer.ack.watermark, answer.ack.seal
        return answer.ack

    def bring(self, records: int = 1, change: Change | None = None, **columns: Any) -> hub_pb2.ForwardAck:
        """Send a batch of records, after a change of its content if one is given."""
        held = content(self.last + 1, records, **columns)
        if change is not None:
            change(held)
        return self.send(self.batch(held, records))

    def refusal(self, batch: hub_pb2.ForwardBatch | None = None, **hello: Any) -> grpc.Call:
        """The error that ends the stream, of a batch or of a hello."""
        if batch is None:
            return refusal_of(lambda: self.hello(**hello))
        return refusal_of(lambda: self.send(batch))

    def close(self) -> None:
        """Hang up."""
        self._sent.put(None)
        if self.call is not None:
            self.call.cancel()
        self._channel.close()


@contextmanager
def peer(hub: Daemon, key: str, **fields: Any) -> Iterator[Peer]:
    """A peer that has said hello."""
    with Peer(hub.grpc, key) as made:
        made.hello(**fields)
        yield made


def kept(hub: Daemon, user: str = "mallory") -> int:
    """How many records of peers the hub holds."""
    rows = hub.query("SELECT count(*) FROM event JOIN series ON series.id = series_id WHERE user = ?", user)
    return int(rows[0][0])


def quarantined(hub: Daemon) -> Sequence[tuple[Any, ...]]:
    """(records, nano-USD, reason, state) of what the hub set aside, the oldest first."""
    return hub.query("SELECT records, cost_usd * 1000000000 + cost_nano, reason, state FROM quarantine ORDER BY id")
