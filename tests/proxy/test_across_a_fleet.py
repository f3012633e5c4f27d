"""Proxied calls at a hub and at its sidecars: one key, one budget, one bill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
from aiohttp import web

from budget_calls import set_budget
from fleet import Fleet, fleet
from harness import Daemon, until
from proxy_upstream import Upstream, upstream

#: At gpt-4o-mini's rates of $0.15 and $0.60 for a million tokens: $0.0075 a call.
USAGE = {"prompt_tokens": 10_000, "completion_tokens": 10_000, "total_tokens": 20_000}
COST_NANO = 7_500_000


async def completion(request: web.Request) -> web.Response:
    sent = json.loads(await request.read())
    message = {"role": "assistant", "content": "hello"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    said = {"id": "c", "object": "chat.completion", "created": 1, "model": sent["model"]}
    return web.json_response({**said, "choices": choices, "usage": USAGE})


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream(completion) as made:
        yield made


@pytest.fixture
def members(provider: Upstream, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, flags=("--upstream", f"openai={provider.base}")) as running:
        running.add("web", "--upstream", f"openai={provider.base}")
        yield running


def call(daemon: Daemon, key: str) -> None:
    """One call as a service makes it."""
    headers = {"X-Provider-Key": "sk-own"}
    url = f"{daemon.http_url}/api/proxy/v1/openai"
    with closing(openai.OpenAI(base_url=url, api_key=key, default_headers=headers)) as client:
        answer = client.chat.completions.create(
            model="gpt-4o-mini", max_tokens=10_000, messages=[{"role": "user", "content": "hi"}]
        )
    assert answer.choices[0].message.content == "hello"


def test_calls_at_hub_and_sidecar_are_one_bill_and_one_budget(members: Fleet, provider: Upstream) -> None:
    hub, sidecar = members.hub, members.sidecars[0].running
    key = hub.key("service", source_app="service")
    until(lambda: sidecar.query("SELECT 1 FROM api_key WHERE name = 'service'"), "the hub's key at the sidecar")
    call(hub, key)
    call(sidecar, key)
    members.drain()
    until(lambda: hub.query("SELECT count(*) FROM event") == [(2,)], "both records at the hub")
    rows = hub.query("SELECT s.endpoint, s.source_app, e.cost_nano FROM event e JOIN series s ON s.id = e.series_id")
    assert rows == [("chat/completions", "service", COST_NANO)] * 2

    set_budget(hub, "all", 2, scope={"model": "gpt-4o-mini"})  # two cents, of which three quarters are spent
    until(lambda: sidecar.query("SELECT 1 FROM budget WHERE name = 'all'"), "the budget at the sidecar")
    made = len(provider.requests)
    for daemon in (sidecar, hub):
        with pytest.raises(openai.RateLimitError) as refused:
            call(daemon, key)
        assert refused.value.response.json()["budget"]["name"] == "all"
    assert len(provider.requests) == made, "a refused call went upstream, or was tried again"
