"""Responses that say what a provider said: aiohttp's, without what it would add by itself."""

from __future__ import annotations

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from costd.wire.proxy.headers import Headers


class AsSaid(web.StreamResponse):
    """An answer with the type that its provider gave it: where that is none, aiohttp would make one up."""

    async def _prepare_headers(self) -> None:
        has_type = hdrs.CONTENT_TYPE in self.headers
        await super()._prepare_headers()
        if not has_type:
            self.headers.popall(hdrs.CONTENT_TYPE, None)


class WholeAsSaid(web.StreamResponse):
    """An answer that is there as a whole, its length among its headers: it goes out with its head, in one piece."""

    def __init__(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        # The parent's would make containers for what there is none of, and `prepare` look for what is there already.
        self._said = status, reason, headers, body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything."""
        status, reason, headers, body = self._said
        self._keep_alive = request.keep_alive
        if not request.keep_alive:
            headers[hdrs.CONNECTION] = "close"
        elif request.version < HttpVersion11:
            headers[hdrs.CONNECTION] = "keep-alive"
        version = request.version
        await request.writer.write_headers(f"HTTP/{version[0]}.{version[1]} {status} {reason}", headers)
        await request.writer.write_eof(body)
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        """There is nothing left to send."""
