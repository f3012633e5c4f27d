"""Very many streams at once: all of them end, all are billed, and nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import harness
from harness import Daemon, costd
from proxy_upstream import Upstream, upstream

WORDS = 20


async def stream(request: web.Request) -> web.StreamResponse:
    """A slow stream that tells its usage, if asked to."""
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    try:
        for _ in range(WORDS):
            await answer.write(_event({**head, "choices": [{"index": 0, "delta": {"content": "word "}}]}))
            await asyncio.sleep(0.1)
        usage = {"prompt_tokens": 10, "completion_tokens": WORDS, "total_tokens": 10 + WORDS}
        await answer.write(_event({**head, "choices": [], "usage": usage}))
        await answer.write(b"data: [DONE]\n\n")
        await answer.write_eof()
    except ConnectionError:
        pass
    return answer


def _event(said: object) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


async def streams(daemon: Daemon, count: int, rounds: int, leave_every: int = 5) -> int:
    """So many streams at once, so often; every fifth caller leaves after a few words. How many were read to the end."""
    url = f"{str(daemon.client.base_url).rstrip('/')}/api/proxy/v1/openai/chat/completions"
    headers = {"Authorization": f"Bearer {daemon.admin_key}", "X-Provider-Key": "sk-x"}
    body = {
        "model": "gpt-4o-mini",
        "stream": True,
        "max_tokens": WORDS,
        "messages": [{"role": "user", "content": "go"}],
    }
    timeout = aiohttp.ClientTimeout(total=120)

    async def one(session: aiohttp.ClientSession, number: int) -> int:
        async with session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            if number % leave_every == 0:
                await answer.content.readany()
                answer.close()
                return 0
            text = await answer.text()
            assert text.endswith("data: [DONE]\n\n")
            assert "usage" not in text
            return 1

    ended = 0
    for _ in range(rounds):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            ended += sum(await asyncio.gather(*(one(session, number) for number in range(count))))
    return ended


def run(provider: Upstream, folder: Path, count: int, rounds: int) -> None:
    """Make the calls, and look at what is left of them."""
    daemon = harness.start(folder, "--upstream", f"openai={provider.base}")
    made = costd("budgets", "set", "all", "--scope", "model=gpt-4o-mini", "--amount", "1000", "--data-dir", str(folder))
    assert made.returncode == 0, made.stderr
    files = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    ended = asyncio.run(streams(daemon, count, rounds))
    assert ended == count * rounds * 4 // 5
    wanted = count * rounds
    harness.until(lambda: daemon.query("SELECT count(*) FROM event")[0][0] == wanted, "every record", 60)
    sums = daemon.query("SELECT sum(input_tokens), sum(output_tokens) FROM event")[0]
    assert sums == (10 * wanted, WORDS * wanted)
    metrics = daemon.client.get("/metrics").text
    assert 'costd_proxy_in_flight{upstream="openai"} 0.0' in metrics
    assert "costd_reservations_open 0.0" in metrics
    harness.until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= files + 20, "closed sockets", 60)
    assert "Traceback" not in daemon.log
    daemon.kill()


def test_hundreds_of_streams_leave_nothing_behind(tmp_path: Path) -> None:
    """The provider closes what is idle, so that nobody waits here for costd to do so."""
    with upstream(stream, keepalive_s=1) as provider:
        run(provider, tmp_path / "data", count=200, rounds=1)


@pytest.mark.soak
def test_a_thousand_streams_for_a_minute(tmp_path: Path) -> None:
    """The provider closes nothing: costd closes what is idle by itself, within half a minute."""
    with upstream(stream) as provider:
        run(provider, tmp_path / "data", count=1_000, rounds=25)
