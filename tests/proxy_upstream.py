"""A provider for tests of the proxies, as simple as can be: one handler, and what it was sent."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Received(NamedTuple):
    """One request; `target` is its path and query as they were sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    target: str = ""


@dataclass
class Upstream:
    """Where it is, and what it was sent."""

    base: str = ""
    requests: list[Received] = field(default_factory=list)


@contextmanager
def upstream(handler: Handler, keepalive_s: float = 3600, context: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """Answer every request by `handler`, on a loop in a thread of its own; what is idle for `keepalive_s` is closed.

    With a `context` it speaks TLS.
    """
    made = Upstream()
    loop = asyncio.new_event_loop()
    runner: list[web.AppRunner] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        made.requests.append(Received(request.method, request.path, dict(request.headers), body, request.raw_path))
        return await handler(request)

    async def start() -> None:
        application = web.Application(client_max_size=1 << 28)
        application.router.add_route("*", "/{rest:.*}", answer)
        runner.append(web.AppRunner(application, access_log=None, keepalive_timeout=keepalive_s, auto_decompress=False))
        await runner[0].setup()
        site = web.TCPSite(runner[0], "127.0.0.1", 0, ssl_context=context)
        await site.start()
        made.base = f"http{'s' if context else ''}://127.0.0.1:{runner[0].addresses[0][1]}/v1"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(runner[0].cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
