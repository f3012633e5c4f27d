"""Proxied calls at a sidecar that has a hub."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from aiohttp import web

from budget_calls import set_budget
from fleet import Fleet, fleet
from harness import Daemon, until
from proxy_upstream import Upstream, upstream

MODEL = "claude-sonnet-4-20250514"


async def message(request: web.Request) -> web.Response:
    """An answer of Anthropic's."""
    usage = {"input_tokens": 42, "output_tokens": 120}
    said = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": usage}
    return web.json_response(said)


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream(message) as made:
        yield made


@pytest.fixture(scope="module")
def members(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A hub and a sidecar."""
    where = ("--upstream", f"anthropic={provider.base}")
    with fleet(tmp_path_factory.mktemp("fleet"), flags=where) as made:
        made.add("web", *where)
        yield made


def call(daemon: Daemon) -> httpx.Response:
    """A message, by the prompt proxy."""
    body = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    keys = {"X-Provider-Key": "sk-ant-own"}
    return daemon.client.post("/api/proxy/v1/anthropic/v1/messages", json=body, headers=keys)


def test_a_refusal_says_that_the_hub_is_away_where_that_is_why(members: Fleet) -> None:
    """And no SDK tries again."""
    set_budget(members.hub, "all", 500, scope={"model": MODEL})
    sidecar = members.sidecars[0]
    web = sidecar.running
    until(lambda: web.client.get("/api/budgets/all").status_code == 200, "the hub's budget", 30)
    sidecar.proxy.refuse()
    sidecar.proxy.cut()
    until(lambda: "the hub is out of reach" in call(web).text, "the hub to be missed", 30)
    refused = call(web)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert refused.json()["deny_reason"] == "lease_unavailable"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    sidecar.proxy.heal()
    until(lambda: call(web).status_code == 200, "the hub to grant again", 30)
