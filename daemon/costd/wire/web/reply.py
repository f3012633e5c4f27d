"""Replies: the bytes of a response, made in one go where nothing about it is special."""

from __future__ import annotations

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import istr

_CONTENT_TYPE = istr("Content-Type")
_REQUEST_ID = istr("X-Request-Id")
_CACHE_CONTROL = istr("Cache-Control")
_SERVER = istr("Server")

_WITH_BODY = frozenset({"POST", "GET"})


class _Whole(web.StreamResponse):
    """A response whose bytes are ready. Preparing one header by header takes aiohttp a third of an empty request."""

    _keep_alive = True

    def __init__(self, content: bytes) -> None:
        # The parent's would make the containers for headers and cookies that there are none of.
        self._content = content

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything."""
        await request.writer.write(self._content)
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        """There is nothing left to send."""


def ok(request: web.BaseRequest, content: bytes, content_type: str, request_id: str) -> web.StreamResponse:
    """A response with status 200; `request_id` is printable ASCII."""
    if request.version != HttpVersion11 or not request.keep_alive or request.method not in _WITH_BODY:
        return response(200, content, content_type, request_id)
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nX-Request-Id: {request_id}\r\n"
        f"Cache-Control: no-store\r\nServer: costd\r\nContent-Length: {len(content)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\n\r\n"
    )
    return _Whole(head.encode() + content)


def response(status: int, content: bytes, content_type: str, request_id: str) -> web.Response:
    """Any response."""
    return web.Response(
        body=content,
        status=status,
        headers={
            _CONTENT_TYPE: content_type,
            _REQUEST_ID: request_id,
            _CACHE_CONTROL: "no-store",
            _SERVER: "costd",
        },
    )
