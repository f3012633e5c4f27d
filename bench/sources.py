"""The load of a fleet: many sources that each forward a sealed batch a second, by a timetable, and time the answers.

Each does what a sidecar does besides: it listens to what Sync has for it, and says every other second what waits.
Run as a process of its own (`python -m bench.sources`) with a Fleet as JSON on stdin; prints a Load as JSON, whose
answers are batches. Batches are made beforehand. A source does not wait for an acknowledgement before it sends the
next batch; a batch's latency is counted from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench.sealed import Lineage
from bench.tally import Load, Tally
from costd.v1 import hub_pb2, hub_pb2_grpc

#: Of them one a second; a batch holds what as many commits of that size recorded.
COMMITS, RECORDS_EACH = 10, 25
BATCH = COMMITS * RECORDS_EACH
#: Seconds before the counting: the hub gets to know the series.
WARM_UP_S = 3
HEARTBEAT_S = 2
_SEED = 20_260_115
_LAST_ANSWER_S = 30.0


@dataclass(frozen=True)
class Fleet:
    """Sources by their names and keys, the hub's port, how long to count, and the authority where the hub has TLS."""

    port: int
    names: list[str]
    keys: list[str]
    seconds: int
    ca: str = ""


class Source:
    """One source with a connection of its own."""

    def __init__(self, fleet: Fleet, number: int, tally: Tally) -> None:
        self._lineage = Lineage(fleet.names[number], COMMITS, RECORDS_EACH)
        self._key = fleet.keys[number]
        self._fleet = fleet
        self._tally = tally
        self._due_s: dict[int, float] = {}
        now_ms = int(time.time() * 1000)
        self._batches = [self._lineage.batch(now_ms + n * 1000) for n in range(WARM_UP_S + fleet.seconds)]

    async def connect(self) -> None:
        """Say hello; RuntimeError where the hub wants something else than the first batch."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{self._fleet.port}"
        if self._fleet.ca:
            credentials = grpc.ssl_channel_credentials(Path(self._fleet.ca).read_bytes())
            self._channel = grpc.aio.secure_channel(address, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(address, options)
        metadata = (("authorization", f"Bearer {self._key}"),)
        stub: Any = hub_pb2_grpc.HubServiceStub(self._channel)
        self._call = stub.Forward(metadata=metadata)
        await self._call.write(self._lineage.hello(int(time.time() * 1000)))
        answer = await self._call.read()
        if answer is grpc.aio.EOF or answer.welcome.new_epoch or answer.welcome.watermark:
            raise RuntimeError(f"the hub did not welcome a source: {answer}")
        self._syncing = asyncio.create_task(self._sync(stub.Sync(metadata=metadata)))

    async def _sync(self, call: Any) -> None:
        """Listen to the hub's keys, catalog and prices, and forget them."""
        await call.write(hub_pb2.SyncRequest())
        while await call.read() is not grpc.aio.EOF:
            pass

    async def forward(self, started_s: float) -> None:
        """Send each batch when it is due, and wait until all of them are acknowledged."""
        listening = asyncio.create_task(self._listen(self._batches[-1].batch.last))
        for number, message in enumerate(self._batches):
            due_s = started_s + number
            await asyncio.sleep(due_s - time.perf_counter())
            self._due_s[message.batch.last] = due_s
            await self._call.write(message)
            if number % HEARTBEAT_S:
                now_ms = int(time.time() * 1000)
                await self._call.write(hub_pb2.ForwardRequest(backlog=hub_pb2.ForwardBacklog(forwarded_ms=now_ms)))
        await asyncio.wait_for(listening, _LAST_ANSWER_S)
        self._syncing.cancel()
        await self._call.done_writing()
        await self._channel.close()

    async def _listen(self, last: int) -> None:
        watermark = 0
        while watermark < last:
            answer: hub_pb2.ForwardResponse = await self._call.read()
            if answer is grpc.aio.EOF or answer.ack.set_aside:
                raise RuntimeError(f"the hub did not take a batch: {answer}")
            watermark = answer.ack.watermark
            for seq in [seq for seq in self._due_s if seq <= watermark]:
                self._tally.answered(self._due_s.pop(seq), "")


async def run(fleet: Fleet) -> Load:
    """Run a fleet to its end; sources begin at different moments of a second."""
    tally = Tally()
    chance = random.Random(_SEED)
    sources = [Source(fleet, number, tally) for number in range(len(fleet.keys))]
    for source in sources:
        await source.connect()
    started_s = time.perf_counter() + 0.5
    forwarding = [asyncio.create_task(source.forward(started_s + chance.random())) for source in sources]
    await asyncio.sleep(started_s + WARM_UP_S - time.perf_counter())
    tally.counting = True
    await asyncio.gather(*forwarding)
    return tally.load(fleet.seconds)


def main() -> None:
    """Fleet in, Load out."""
    print(json.dumps(asdict(asyncio.run(run(Fleet(**json.load(sys.stdin)))))))


if __name__ == "__main__":
    main()
