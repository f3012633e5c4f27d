"""Callers of chat completions, each with one request under way. `python -m bench.proxy_load`: a Job in, a Load out.

A document's latency is that of its last byte, a stream's that of its first event.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from bench.fake_upstream import MODEL
from bench.load import WARM_UP_S
from bench.tally import Tally

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_PROMPT = "Summarise what follows in one sentence. " * 20


@dataclass(frozen=True)
class Job:
    """What to send, and where to."""

    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    connections: int = 1
    seconds: float = 1.0
    streams: bool = False

    def request(self) -> bytes:
        """The one request that all callers send."""
        said = {"model": MODEL, "messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 100}
        body = json.dumps(said | ({"stream": True} if self.streams else {})).encode()
        lines = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json", **self.headers}
        lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Caller(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, request: bytes, tally: Tally, *, streams: bool) -> None:
        self._request = request
        self._tally = tally
        self._streams = streams
        self._held = b""
        self._sent_s = 0.0
        self._is_begun = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if not self._tally.over:
            self._held, self._is_begun, self._sent_s = b"", False, time.perf_counter()
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        if self._streams and not self._is_begun and b"data:" in self._held:
            self._is_begun = True
            self._tally.answered(self._sent_s, "")
        length = _LENGTH.search(self._held, 0, end + 4)
        is_whole = len(self._held) >= end + 4 + int(length[1]) if length else self._held.endswith(_LAST_CHUNK)
        if not is_whole:
            return
        is_good = self._held[9:12] == b"200" and (self._is_begun or not self._streams)
        if not is_good or not self._streams:
            self._tally.answered(self._sent_s, "" if is_good else self._held[:300].decode("utf-8", "replace"))
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._tally.over:
            self._tally.failures["connection lost"] += 1


async def _run(job: Job) -> Any:
    tally, request, loop = Tally(), job.request(), asyncio.get_running_loop()
    for _ in range(job.connections):
        await loop.create_connection(lambda: Caller(request, tally, streams=job.streams), "127.0.0.1", job.port)
    await asyncio.sleep(WARM_UP_S)
    tally.counting = True
    started_s = time.perf_counter()
    await asyncio.sleep(job.seconds)
    tally.counting, tally.over = False, True
    return tally.load(time.perf_counter() - started_s)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_run(Job(**json.load(sys.stdin)))))))
