"""The load generator: callers that each send a request, wait for its answer and send the next, over raw sockets.

Run as a process of its own (`python -m bench.load`) with a Job as JSON on stdin; prints a Load as JSON. Requests are
made beforehand and answers are looked at only as far as it takes to know that they are good and complete, so that one
core of this drives more than one core of any server in Python can answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from bench import http2, traffic
from bench.tally import Load, Tally

#: Answers before this are not counted: connections open, caches fill.
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Job:
    """What to send: `kind` is one of KINDS; `calls` are concurrent on each of `connections`.

    `pace` is how many requests a second all HTTP callers send together, each by a timetable of its own; 0 is as many
    as are answered. An answer that keeps the next request waiting counts into that one's latency too.
    """

    kind: str
    port: int
    connections: int
    calls: int
    seconds: float
    key: str = ""
    pace: float = 0.0


class HttpCaller(asyncio.Protocol):
    """One keep-alive connection, one request at a time; `interval_s` after another where that is given."""

    def __init__(self, requests: Iterator[bytes], tally: Tally, interval_s: float = 0.0) -> None:
        self._requests = requests
        self._tally = tally
        self._held = b""
        self._sent_s = 0.0
        self._interval_s = interval_s
        self._due_s = time.perf_counter() + random.random() * interval_s

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send_in_time()

    def _send_in_time(self) -> None:
        if not self._interval_s:
            self._send(time.perf_counter())
            return
        due_s, now_s = self._due_s, time.perf_counter()
        self._due_s += self._interval_s
        if now_s >= due_s:
            self._send(due_s)
        else:
            asyncio.get_running_loop().call_later(due_s - now_s, lambda: self._send(time.perf_counter()))

    def _send(self, sent_s: float) -> None:
        if not self._tally.over:
            self._sent_s = sent_s
            self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        end = data.find(b"\r\n\r\n")
        start = data.find(b"Content-Length: ", 0, end) + 16
        if end < 0 or len(data) < end + 4 + int(data[start : data.find(b"\r\n", start)]):
            self._held = data
            return
        self._held = b""
        self._tally.answered(self._sent_s, "" if data[9:12] == b"200" else data[end + 4 : end + 204].decode())
        self._send_in_time()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._tally.over:
            self._tally.failures["connection lost"] += 1


def http_requests(job: Job) -> Iterator[bytes]:
    """What an HTTP job sends."""
    if job.kind == "http-preflight":
        return traffic.http_requests("/v1/preflight", traffic.preflight_bodies(), job.key)
    bodies = traffic.record_bodies()
    return traffic.http_requests("/v1/usage/record", bodies, job.key, _ids_of(job))


def grpc_messages(job: Job) -> tuple[str, Iterator[bytes]]:
    """The path and the messages of a gRPC job."""
    if job.kind == "grpc-preflight":
        return "/costd.v1.UsageService/Preflight", traffic.preflight_messages()
    return "/costd.v1.UsageService/Record", traffic.record_messages(_ids_of(job))


def _ids_of(job: Job) -> traffic.NewId | None:
    if job.kind.endswith("-ids"):
        return traffic.uuid7
    return traffic.uuid4 if job.kind.endswith("-random") else None


#: A preflight under an id of its own and the record under the same, in turn.
CYCLE = "http-cycle"
_WITHOUT_IDS = ("http-record", "http-preflight", "grpc-record", "grpc-preflight")
KINDS = (*_WITHOUT_IDS, CYCLE, "http-record-ids", "http-record-random", "grpc-record-ids", "grpc-record-random")


def _callers(job: Job, tally: Tally) -> Callable[[], asyncio.Protocol]:
    assert job.kind in KINDS, job.kind
    if job.kind == CYCLE:  # each caller goes through its own
        return lambda: HttpCaller(traffic.http_cycles(job.key), tally)
    if job.kind.startswith("http"):
        requests = http_requests(job)
        interval_s = job.connections / job.pace if job.pace else 0.0
        return lambda: HttpCaller(requests, tally, interval_s)
    path, messages = grpc_messages(job)
    return lambda: http2.GrpcCaller(path, job.key, messages, job.calls, tally)


async def run(job: Job) -> Load:
    """Run a job to its end."""
    tally = Tally()
    make = _callers(job, tally)
    loop = asyncio.get_running_loop()
    for _ in range(job.connections):
        await loop.create_connection(make, "127.0.0.1", job.port)
    await asyncio.sleep(WARM_UP_S)
    tally.counting = True
    started_s = time.perf_counter()
    await asyncio.sleep(job.seconds)
    tally.counting, tally.over = False, True
    return tally.load(time.perf_counter() - started_s)


def main() -> None:
    """Job in, Load out."""
    print(json.dumps(asdict(uvloop.run(run(Job(**json.load(sys.stdin)))))))


if __name__ == "__main__":
    main()
