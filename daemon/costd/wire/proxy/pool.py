"""The connections to one upstream, and calls over them: aiohttp's connector and parser, without its client.

A ClientSession makes a request, a URL, timers and a response out of every call, for redirects, cookies and proxies that
there are none of here: most of what passing on a call would cost. Its parts are used as it uses them: the connector
finds addresses and speaks TLS, their protocol reads answers. Of the protocol the documentation says nothing, so
pyproject.toml pins aiohttp's minor release; where another does not fit, every proxied call fails, and its test.
"""

from __future__ import annotations

import asyncio
import ssl
from bisect import bisect_right
from collections.abc import AsyncIterator
from operator import itemgetter

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from multidict import CIMultiDict
from yarl import URL

#: Providers close what is idle for longer.
KEEPALIVE_S = 15.0
#: How much of an answer is read ahead of a caller that is slow to take it.
_AHEAD_BYTES = 1 << 17
#: Providers' headers are longer than aiohttp expects.
_MAX_HEADER_BYTES = 1 << 16
#: May be sent again where a connection turns out to be closed already (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
#: Requests that say nothing of a body where they have none.
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})

#: A body as it goes upstream: there already, or a stream; None for none.
Body = bytes | AsyncIterator[bytes] | None


class Answer:
    """An answer whose head is there; its body comes as `content`. To be closed whatever becomes of it."""

    __slots__ = ("_connection", "_pool", "_upload", "content", "headers", "raw_headers", "reason", "status")

    def __init__(
        self,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        pool: Pool,
        connection: Connection,
        upload: asyncio.Task[None] | None,
    ) -> None:
        self.status = message.code
        self.reason = message.reason
        self.headers = message.headers
        self.raw_headers = message.raw_headers
        self.content = content
        self._pool = pool
        self._connection = connection
        self._upload = upload

    def close(self) -> None:
        """Give the connection back; it is closed unless both sides of the call have ended."""
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            self._connection.close()
        else:
            self._pool.take_back(self._connection)


class Pool:
    """Connections to the server at `base_url`. Made within the event loop that uses them."""

    def __init__(
        self,
        base_url: str,
        trust: ssl.SSLContext | bool,
        connect_s: float,
        answer_s: float,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        self._answer_s = answer_s
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._connector = aiohttp.TCPConnector(limit=0, ssl=trust)
        #: Connections that nobody uses, and since when; the newest is at the end, and the first to be used again. So
        #: what was opened for a peak is idle after it: in the connector's own order all would be used in turn.
        self._idle: list[tuple[float, Connection]] = []
        self._sweep: asyncio.TimerHandle | None = None
        #: What the connector wants to know of a request: where it goes. That is the same for all.
        self._place = aiohttp.ClientRequest("GET", URL(base_url, encoded=True), loop=self._loop)
        self._host = self._place.headers[hdrs.HOST]
        self._base_path = self._place.url.raw_path
        self._root_path = self._base_path.removesuffix("/v1")
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s)

    async def call(self, method: str, path: str, headers: CIMultiDict[str], body: Body) -> Answer:
        """Make a call to `path`, encoded, with its query. Raises TimeoutError, ClientError or OSError.

        It is below the base; with a slash before it, below the base less its `/v1`.
        """
        target = f"{self._root_path}{path}" if path.startswith("/") else f"{self._base_path}/{path}"
        connection = await self._connect()
        try:
            return await self._over(connection, method, target, headers, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if method not in _IDEMPOTENT or not isinstance(body, bytes | None):
                raise
        return await self._over(await self._connect(), method, target, headers, body)

    async def _connect(self) -> Connection:
        oldest_s = self._loop.time() - self._keepalive_s
        while self._idle:
            since_s, connection = self._idle.pop()
            if since_s > oldest_s and _is_free(connection):
                return connection
            connection.close()
        return await self._connector.connect(self._place, [], self._timeout)

    def take_back(self, connection: Connection) -> None:
        """Keep a connection for the next call; it is closed where it is not at the end of one."""
        if not _is_free(connection):
            connection.close()
            return
        self._idle.append((self._loop.time(), connection))
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_idle)

    def _close_idle(self) -> None:
        """Close what was idle for its time; look again while there is more."""
        oldest_s, self._sweep = self._loop.time() - self._keepalive_s, None
        stale = bisect_right(self._idle, oldest_s, key=itemgetter(0))
        for _, connection in self._idle[:stale]:
            connection.close()
        del self._idle[:stale]
        if self._idle:
            self._sweep = self._loop.call_at(self._idle[0][0] + self._keepalive_s, self._close_idle)

    async def _over(
        self, connection: Connection, method: str, target: str, headers: CIMultiDict[str], body: Body
    ) -> Answer:
        protocol = connection.protocol
        assert protocol is not None, "it was just connected"
        upload: asyncio.Task[None] | None = None
        # As the protocol's own timeouts do it. `asyncio.timeout` would say the same, and costs ten times as much.
        late = self._loop.call_later(self._answer_s, _give_up, protocol)
        try:
            protocol.set_response_params(
                skip_payload=method == hdrs.METH_HEAD,
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_AHEAD_BYTES,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
            upload = await self._send(protocol, method, target, headers, body)
            message, content = await _head(protocol)
        except BaseException:
            if upload is not None:
                upload.cancel()
            connection.close()
            raise
        finally:
            late.cancel()
        return Answer(message, content, self, connection, upload)

    async def _send(
        self, protocol: ResponseHandler, method: str, target: str, headers: CIMultiDict[str], body: Body
    ) -> asyncio.Task[None] | None:
        """Send the request; a body that is a stream is sent by the task that is returned."""
        own = CIMultiDict({hdrs.HOST: self._host})
        own.extend(headers)
        writer = StreamWriter(protocol, self._loop)
        if not isinstance(body, bytes | None):
            if hdrs.CONTENT_LENGTH not in own:
                own[hdrs.TRANSFER_ENCODING] = "chunked"
                writer.enable_chunking()
            await writer.write_headers(f"{method} {target} HTTP/1.1", own)
            return self._loop.create_task(_upload(protocol, writer, body))
        if body is not None or method not in _BODILESS:
            own[hdrs.CONTENT_LENGTH] = str(len(body or b""))
        await writer.write_headers(f"{method} {target} HTTP/1.1", own)
        # In one piece with its head, and not waited for: an upstream may answer before it has read everything.
        await writer.write(body or b"", drain=False)
        return None

    async def close(self) -> None:
        """Close all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()
        await self._connector.close()


def _is_free(connection: Connection) -> bool:
    """Whether a connection is open, and at the end of an answer and of the request."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or transport.is_closing():
        return False
    # Some are answered before they have sent all of it; and what comes unasked would be taken for the next answer.
    return not (protocol.should_close or transport.get_write_buffer_size())


async def _head(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head of the answer, after those that only announce it (1xx), and where its body comes."""
    try:
        while True:
            message, content = await protocol.read()
            if message.code >= 200:
                return message, content
            if message.code == 101:
                raise aiohttp.ClientPayloadError("the upstream changes the protocol, unasked")
    except HttpProcessingError as error:
        raise aiohttp.ClientPayloadError(error.message) from error


def _give_up(protocol: ResponseHandler) -> None:
    protocol.set_exception(aiohttp.SocketTimeoutError("the answer did not begin in time"))


async def _upload(protocol: ResponseHandler, writer: StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    """Send a body as it comes; where it breaks off, so does the call."""
    try:
        async for piece in pieces:
            await writer.write(piece)
        await writer.write_eof()
    except Exception as error:
        protocol.set_exception(aiohttp.ClientConnectionError("the body broke off on its way"), error)
