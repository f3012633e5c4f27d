"""As much of HTTP/2 as a caller of unary gRPC methods needs (RFC 9113, RFC 7541 and gRPC's PROTOCOL-HTTP2.md).

A client of grpcio costs as much as its server; this one costs a fraction, so that the server is what is measured.
Headers are spelt out once for each connection and referred to by number afterwards, as any client does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.tally import Tally

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_NO_PUSH = b"\x00\x02\x00\x00\x00\x00"
#: The largest window there is, less the one every connection starts with; given back before half of it is used.
_WINDOW = (1 << 31) - 1 - 65_535
#: Entries of HPACK's static table: `:method: POST`, `:scheme: http`; then the names of `:path` and `:authority`.
_POST, _HTTP, _PATH, _AUTHORITY = 3, 6, 4, 1
_FIRST_DYNAMIC = 62


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _string(text: str) -> bytes:
    assert len(text) < 127, text
    return bytes((len(text),)) + text.encode()


class GrpcCaller(asyncio.Protocol):
    """One connection with a number of calls under way at any time."""

    def __init__(self, path: str, key: str, messages: Iterator[bytes], calls: int, tally: Tally) -> None:
        self._headers = [(":path", path), (":authority", "127.0.0.1"), ("te", "trailers")]
        self._headers += [("content-type", "application/grpc"), ("authorization", f"Bearer {key}")]
        self._messages = messages
        self._calls = calls
        self._tally = tally
        self._next_stream = 1
        self._sent_s: dict[int, float] = {}
        self._answered: set[int] = set()
        self._held = b""
        self._received = 0
        self._may_send = 65_535

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        start = _PREFACE + _frame(_SETTINGS, 0, 0, _NO_PUSH) + _frame(_WINDOW_UPDATE, 0, 0, _WINDOW.to_bytes(4))
        first = self._call(self._spelt_out())
        # The newest entry of the dynamic table has the lowest number.
        count = len(self._headers)
        block = bytes(0x80 | number for number in (_POST, _HTTP, *range(_FIRST_DYNAMIC + count - 1, 61, -1)))
        self._block = block
        transport.write(start + first + b"".join(self._call(block) for _ in range(self._calls - 1)))

    def _spelt_out(self) -> bytes:
        known = {":path": _PATH, ":authority": _AUTHORITY}
        block = bytes((0x80 | _POST, 0x80 | _HTTP))
        for name, value in self._headers:
            block += bytes((0x40 | known[name],)) if name in known else b"\x40" + _string(name)
            block += _string(value)
        return block

    def _call(self, block: bytes) -> bytes:
        """The frames of one call."""
        stream, message = self._next_stream, next(self._messages)
        self._next_stream += 2
        self._sent_s[stream] = time.perf_counter()
        self._may_send -= 5 + len(message)
        assert self._may_send >= 0, "the server has not opened its window in time"
        body = b"\x00" + len(message).to_bytes(4) + message
        return _frame(_HEADERS, _END_HEADERS, stream, block) + _frame(_DATA, _END_STREAM, stream, body)

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        position, end, answers = 0, len(data), []
        while end - position >= 9:
            size = int.from_bytes(data[position : position + 3])
            if end - position < 9 + size:
                break
            payload = data[position + 9 : position + 9 + size]
            stream = int.from_bytes(data[position + 5 : position + 9])
            answers.append(self._take(data[position + 3], data[position + 4], stream, payload))
            position += 9 + size
        self._held = data[position:]
        reply = b"".join(answers)
        if reply:
            self._transport.write(reply)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """Act on a frame; what to send in return."""
        if kind == _DATA:
            self._answered.add(stream)
            return self._give_back(len(payload))
        if kind == _HEADERS:
            return self._ended(stream, payload) if flags & _END_STREAM else b""
        if kind == _WINDOW_UPDATE and stream == 0:
            self._may_send += int.from_bytes(payload)
        elif kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        elif kind in {_RST_STREAM, _GOAWAY}:
            self._tally.failures["stream reset" if kind == _RST_STREAM else "connection ended"] += 1
        return b""

    def _ended(self, stream: int, trailers: bytes) -> bytes:
        # A refused call ends without a message. Its reason is compressed: shown as it came.
        failure = "" if stream in self._answered else repr(trailers[:120])
        self._answered.discard(stream)
        self._tally.answered(self._sent_s.pop(stream), failure)
        return b"" if self._tally.over else self._call(self._block)

    def _give_back(self, size: int) -> bytes:
        self._received += size
        if self._received < _WINDOW // 2:
            return b""
        update, self._received = self._received, 0
        return _frame(_WINDOW_UPDATE, 0, 0, update.to_bytes(4))
