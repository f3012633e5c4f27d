"""The HTTP server: aiohttp's low-level server around the dispatcher; how it listens and how it stops."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from costd.addresses import Address
from costd.domain.errors import Invalid, SetupError
from costd.wire.proxy.proxies import Proxies
from costd.wire.web.dispatch import Dispatch, failure
from costd.wire.web.guard import Guard
from costd.wire.web.request_ids import RequestIds
from costd.wire.web.table import routes

if TYPE_CHECKING:
    from costd.services.services import Services

#: How long a connection may be idle, or take to send its headers. Longer than the keep-alive of usual clients and
#: proxies (60 s), so that it is they who hang up and no request meets a closing connection.
IDLE_S = 75.0
#: How long what is left of a refused body is read before the connection is closed: so the client sees the answer.
LINGER_S = 2.0
#: Connections waiting to be accepted; a burst beyond it is retried by the kernel of the caller.
BACKLOG = 1024
#: Reads of the ledger at the same time.
READERS = 4

#: Share of the time for a stop after which proxied calls are broken off.
_CALLS_SHARE = 0.9

_log = logging.getLogger(__name__)


class WebServer:
    """The HTTP door."""

    def __init__(self, services: Services, host: str, port: int, ssl_context: ssl.SSLContext | None = None) -> None:
        """Listen at `host` and `port` (0: any free one) once started; with `ssl_context`, speak TLS only."""
        self._services = services
        self._address = Address(host, port)
        self._ssl_context = ssl_context
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="http-read")
        self._runner: web.ServerRunner | None = None
        self._request_ids = RequestIds(services.clock)
        config = services.config
        self._proxies = Proxies(services)
        self._dispatch = Dispatch(
            services,
            routes(metrics_open=self._address.is_loopback),
            Guard(config.http.allowed_hosts),
            self._request_ids,
            self._read,
            config.limits.http_body_bytes,
            self._proxies,
        )

    async def start(self) -> tuple[str, int]:
        """Begin to accept; the (host, port) it listens at. Raises SetupError when the address cannot be had."""
        runner = web.ServerRunner(_Server(self._dispatch, self._request_ids.new))
        await runner.setup()
        self._runner = runner
        site = web.TCPSite(
            runner, self._address.host, self._address.port, ssl_context=self._ssl_context, backlog=BACKLOG
        )
        try:
            await site.start()
        except OSError as error:
            raise SetupError(
                f"HTTP cannot listen at {self._address} ({error.strerror or error}): is another program there? "
                "Choose another address with http.listen (--http-listen)"
            ) from error
        return self._address.host, int(runner.addresses[0][1])

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, close what is idle, give requests under way `grace_s` to be answered."""
        runner, self._runner = self._runner, None
        # Before the server's own patience ends, which takes no notice of how a call ends then.
        self._proxies.stop_within(grace_s * _CALLS_SHARE)
        if runner is not None:
            runner._shutdown_timeout = grace_s  # known only now
            await runner.cleanup()
        await self._proxies.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _read(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))


class _Server(web.Server):
    """Makes a connection's protocol: aiohttp's own, but for its answers to what is not HTTP."""

    def __init__(self, dispatch: Dispatch, new_request_id: Callable[[], str]) -> None:
        super().__init__(dispatch)
        self._new_request_id = new_request_id

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            self._new_request_id,
            loop=self._loop,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            access_log=None,
            auto_decompress=False,  # a proxied body goes on as it came
        )


class _Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_new_request_id",)

    def __init__(self, manager: web.Server, new_request_id: Callable[[], str], **options: Any) -> None:
        super().__init__(manager, **options)
        self._new_request_id = new_request_id

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to a request that aiohttp could not parse, or whose answer failed to be sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was already under way")
        error: BaseException
        if status == 400:
            error = Invalid("", f"the request is malformed: {_complaint(message or 'this is not HTTP')}")
        else:
            _log.error("an answer could not be made", exc_info=exc)
            error = exc or RuntimeError("no answer")
        response = failure(error, request, {}, self._new_request_id())
        response.force_close()
        return response

    def log_exception(self, *args: Any, **options: Any) -> None:
        """What goes wrong in aiohttp; a body that cannot be decoded is its sender's mistake, and was answered."""
        if not isinstance(options.get("exc_info"), RequestPayloadError):
            super().log_exception(*args, **options)


def _complaint(message: str) -> str:
    """The parser's words without the excerpt of the request that follows them."""
    return (message.splitlines() or [""])[0].partition(" when reading")[0].rstrip(": ")[:200]
