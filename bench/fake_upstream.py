"""A provider for benchmarks: answers chat completions at once or after a while.

`python -m bench.fake_upstream SECONDS` prints its port. It looks at a request only to see where it ends and whether it
asks for a stream, so that it costs as little as a server in Python can.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

import uvloop

from bench.yardsticks import announce

WORDS = 20
MODEL = "gpt-4o"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": *true')
_USAGE = {"prompt_tokens": 40, "completion_tokens": WORDS, "total_tokens": 40 + WORDS}
_HEAD = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": MODEL}
#: Between the first piece of a stream and the rest of it.
_PAUSE_S = 0.002


def _document() -> bytes:
    message = {"role": "assistant", "content": "word " * WORDS, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    said = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    body = json.dumps(said).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _chunk(**fields: Any) -> bytes:
    event = f"data: {json.dumps({**_HEAD, 'object': 'chat.completion.chunk', **fields})}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _events(*, with_usage: bool) -> tuple[bytes, bytes]:
    """A stream up to its first event, and the rest of it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = _chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    word = _chunk(choices=[{"index": 0, "delta": {"content": "word "}, "finish_reason": None}])
    last = _chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = _chunk(choices=[], usage=_USAGE) if with_usage else b""
    done = b"data: [DONE]\n\n"
    end = b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done)
    return head + first, word * WORDS + last + usage + end


class Provider(asyncio.Protocol):
    """One connection, one request at a time."""

    document = _document()
    streams = (_events(with_usage=False), _events(with_usage=True))

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._held = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        length = _LENGTH.search(self._held, 0, end + 4) if end >= 0 else None
        if length is None or len(self._held) < end + 4 + int(length[1]):
            return
        request, self._held = self._held, b""
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._answer, request)
        else:
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if self._transport.is_closing():
            return
        if not _STREAM.search(request):
            self._transport.write(self.document)
            return
        first, rest = self.streams[b"include_usage" in request]
        self._transport.write(first)
        asyncio.get_running_loop().call_later(_PAUSE_S, self._go_on, rest)

    def _go_on(self, rest: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(rest)


async def _serve(delay_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Provider(delay_s), "127.0.0.1", 0, backlog=1024)
    announce(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1])))
