"""Sealed batches of a simulated source, made from what hub.proto says of them and from nothing else."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Sequence
from hashlib import blake2b

from bench import traffic
from costd.v1 import hub_pb2

FORMAT = 1
#: The last bits of a commit's id number its items.
_ORDINAL_BITS = 24
_LOW_BITS = (1 << 62) - 1


class Lineage:
    """The sequence of one source in one epoch, which begins with number 1."""

    def __init__(self, name: str, commits: int, records_each: int) -> None:
        self.epoch = os.urandom(16)
        self.incarnation = os.urandom(16)
        self._name = name
        self._commits, self._each = commits, records_each
        self._chance = random.Random(name)
        self._samples = traffic.samples()
        self._series = _series(self._samples, name)
        self._next_seq = 1
        self._seal = b""

    def hello(self, now_ms: int) -> hub_pb2.ForwardRequest:
        """What the source says first."""
        hello = hub_pb2.ForwardHello(
            version="0.2.0", format=FORMAT, host="bench", name=self._name, time_ms=now_ms, epoch=self.epoch,
            epoch_first=1, incarnation=self.incarnation, backlog=hub_pb2.ForwardBacklog(forwarded_ms=now_ms),
        )  # fmt: skip
        return hub_pb2.ForwardRequest(hello=hello)

    def batch(self, at_ms: int) -> hub_pb2.ForwardRequest:
        """The next range, of records received at this moment."""
        first = self._next_seq
        last = first + self._commits * self._each - 1
        content = zlib.compress(self._content(first, last, at_ms).SerializeToString(), 1)
        numbers = first.to_bytes(8, "big") + last.to_bytes(8, "big") + FORMAT.to_bytes(4, "big")
        seal = blake2b(self._seal.rjust(16, b"\0") + self.epoch + numbers + content, digest_size=16).digest()
        batch = hub_pb2.ForwardBatch(
            first=first, last=last, previous_seal=self._seal, seal=seal, format=FORMAT, content=content
        )
        self._next_seq, self._seal = last + 1, seal
        return hub_pb2.ForwardRequest(batch=batch)

    def _content(self, first: int, last: int, at_ms: int) -> hub_pb2.ForwardContent:
        seqs = range(first, last + 1)
        picked = [self._chance.randrange(len(self._samples)) for _ in seqs]
        samples = [self._samples[at] for at in picked]
        costs = [self._chance.randint(10_000, 90_000_000) for _ in seqs]
        events = hub_pb2.ForwardEvents(
            seq=seqs,
            at_ms=[at_ms - sample.latency_ms for sample in samples],
            # Samples go round the series in their order.
            series=[at % traffic.SERIES for at in picked],
            input_tokens=[sample.units["input_tokens"] for sample in samples],
            output_tokens=[sample.units["output_tokens"] for sample in samples],
            cache_read_tokens=[sample.units.get("cache_read_tokens", 0) for sample in samples],
            cache_write_tokens=[0] * len(seqs),
            reasoning_tokens=[0] * len(seqs),
            cost_nano_usd=costs,
            price_source=[1] * len(seqs),
            latency_ms=[sample.latency_ms for sample in samples],
        )
        return hub_pb2.ForwardContent(
            organizations=["default"],
            series=self._series,
            price_sources=[hub_pb2.ForwardPriceSource(kind="list", version="bench")],
            commits=hub_pb2.ForwardCommits(
                first=range(first, last + 1, self._each),
                ids=b"".join(_commit_id(at_ms) for _ in range(self._commits)),
                items=[self._each] * self._commits,
                at_ms=[at_ms] * self._commits,
            ),
            events=events,
        )


def _series(samples: Sequence[traffic.Sample], name: str) -> list[hub_pb2.ForwardSeries]:
    """The series of one source: like those of the others, but for its users."""
    return [
        hub_pb2.ForwardSeries(
            source_app=sample.source_app,
            team=sample.team,
            project=sample.project,
            user=f"{sample.user}-{name}",
            provider=sample.provider,
            model=sample.model,
            endpoint=sample.endpoint,
            status=sample.status,
        )
        for sample in samples[: traffic.SERIES]
    ]


def _commit_id(at_ms: int) -> bytes:
    """A UUIDv7 with room for the numbers of its items."""
    chance = int.from_bytes(os.urandom(8), "big") & _LOW_BITS
    whole = at_ms << 80 | 7 << 76 | 2 << 62 | chance >> _ORDINAL_BITS << _ORDINAL_BITS
    return whole.to_bytes(16, "big")
