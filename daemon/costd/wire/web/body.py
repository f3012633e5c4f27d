"""Bodies: reading them within limits, in size and in time."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from costd.domain.errors import Invalid, TooLarge
from costd.wire.unpacking import Unpacker

#: A body of the largest size takes a second on the slowest of lines; whoever needs longer holds a connection open.
READ_TIMEOUT_S = 30.0


async def read(request: web.BaseRequest, limit_bytes: int) -> bytes:
    """The whole body, unpacked; raises TooLarge above the limit, Invalid where it cannot be read or does not arrive."""
    raw = await read_raw(request, limit_bytes)
    packed = request.headers.get(hdrs.CONTENT_ENCODING)
    if packed is None:
        return raw
    unpacker = Unpacker(packed, limit_bytes)
    plain = unpacker.feed(raw)
    if unpacker.is_too_long:
        raise _too_large(limit_bytes)
    if not unpacker.is_sound:
        raise Invalid("Content-Encoding", "must be gzip, deflate or zstd, and the body packed by it")
    return plain


async def read_raw(request: web.BaseRequest, limit_bytes: int) -> bytes:
    """The same, as it came."""
    content = request.content
    try:
        if content.is_eof():
            # It came with the headers, as bodies of records do: no need to suspend.
            body = content.read_nowait()
        else:
            body = await _read_slowly(request, limit_bytes)
    except (RequestPayloadError, web.PayloadAccessError, ConnectionError) as error:
        raise Invalid("", f"the body cannot be read: {_last_line(error)}") from None
    except TimeoutError:
        raise Invalid("", f"the body did not arrive within {READ_TIMEOUT_S:g} s") from None
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


async def _read_slowly(request: web.BaseRequest, limit_bytes: int) -> bytes:
    length = request.headers.get(hdrs.CONTENT_LENGTH, "")
    if length.isdigit() and len(length) < 20 and int(length) > limit_bytes:
        raise _too_large(limit_bytes)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        # curl asks before it sends a large body, and waits a second for the answer.
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    body = bytearray()
    async with asyncio.timeout(READ_TIMEOUT_S):
        while not request.content.at_eof():
            body += await request.content.readany()
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
    return bytes(body)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes} bytes; send less at a time")


def _last_line(error: BaseException) -> str:
    """The words of an aiohttp error, which puts the status first."""
    return (str(error).split("\n")[-1].strip() or type(error).__name__)[:200]
