"""A stop in the middle of proxied streams: they are broken off within the grace, and what was delivered is recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from costd.app.core import Core
from costd.clock import Clock
from costd.config import SIDECAR, load
from costd.wire.web.server import WebServer
from proxy_upstream import Upstream, upstream

WORD = b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"some words"}}]}\n\n'


async def endless(request: web.Request) -> web.StreamResponse:
    """A stream that says something and never ends, but with its connection."""
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(WORD)
    while request.transport is not None:
        await asyncio.sleep(0.02)
    return answer


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream(endless) as made:
        yield made


@pytest.fixture
def core(provider: Upstream, tmp_path: Path) -> Iterator[Core]:
    flags = {"data_dir": str(tmp_path / "data"), "proxy.upstreams": f"openai={provider.base}", "auth": "off"}
    made = Core(load(flags, {}, mode=SIDECAR).config, Clock())
    yield made
    assert made.close(20)


async def stopped_in_mid_stream(core: Core, *, leaves: bool) -> None:
    """Begin a stream, and stop the server before it ends; its caller sees a broken connection, or has left before."""
    server = WebServer(core.services, "127.0.0.1", 0)
    host, port = await server.start()
    body = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "go"}]}
    url = f"http://{host}:{port}/api/proxy/v1/openai/chat/completions"
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url, json=body, headers={"X-Provider-Key": "sk-x"})
        assert await answer.content.readany() == WORD
        if leaves:
            answer.close()
            await asyncio.sleep(0)
        await server.stop(0.5)
        if not leaves:
            with pytest.raises(aiohttp.ClientError):
                await answer.read()


@pytest.mark.parametrize("leaves", [False, True])
def test_a_stop_breaks_streams_off_and_records_them(
    leaves: bool, core: Core, provider: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Also that of a caller who has left, which is read on for its usage and of which the HTTP server knows no more."""
    with caplog.at_level(logging.WARNING):
        asyncio.run(stopped_in_mid_stream(core, leaves=leaves))
    (sample,) = core.services.metrics.proxy.incomplete.family().samples
    assert (sample.labels["by"], sample.value) == ("stop", 1)
    with core.readers.snapshot() as connection:
        read = "SELECT status, output_tokens FROM event JOIN series ON series.id = series_id"
        told = connection.execute(read).fetchall()
    assert told == [("incomplete", 3)]
    assert core.services.tills.open_reservations == 0
    assert "the stop breaks off proxied calls" in caplog.text
