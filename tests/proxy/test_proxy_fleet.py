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

#: What is promised: a change is in force on every connected daemon within this.
PROMISED_S = 5.0
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


def by_slug(daemon: Daemon, slug: str) -> httpx.Response:
    """A message, with the provider's key alone."""
    body = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{daemon.http_url}/proxy/{slug}/v1/messages", json=body, headers={"x-api-key": "sk-ant-own"})


def test_an_endpoint_made_at_the_hub_works_at_its_sidecars_and_is_removed_there_too(members: Fleet) -> None:
    web = members.sidecars[0].running
    made = members.hub.client.post("/api/proxy-endpoints", json={"name": "everywhere"}).json()
    until(lambda: by_slug(web, "everywhere").status_code == 200, "the slug", PROMISED_S)
    (listed,) = web.client.get("/api/proxy-endpoints").json()["items"]
    assert (listed["id"], listed["slug"]) == (made["id"], "everywhere")
    wanted = {"proxy_endpoint_id": made["id"]}
    until(lambda: members.hub.client.get("/api/usage", params=wanted).json()["items"], "the record at the hub", 30)
    refused = web.client.delete(f"/api/proxy-endpoints/{made['id']}")
    assert (refused.status_code, "is the hub's" in refused.text) == (403, True)
    assert members.hub.client.delete("/api/proxy-endpoints/everywhere").status_code == 200
    until(lambda: by_slug(web, "everywhere").status_code == 404, "the removal", PROMISED_S)


def test_what_changed_while_a_sidecar_was_down_holds_once_it_is_back_and_its_own_stays(members: Fleet) -> None:
    """A slug of its own is not the hub's, and what it knows of the hub's it knows without it."""
    sidecar = members.sidecars[0]
    own = sidecar.running.client.post("/api/proxy-endpoints", json={"name": "own"}).json()
    for name in ("own", "gone", "kept"):
        assert members.hub.client.post("/api/proxy-endpoints", json={"name": name}).status_code == 200
    until(lambda: by_slug(sidecar.running, "kept").status_code == 200, "the slugs", PROMISED_S)
    sidecar.kill()
    members.hub.client.delete("/api/proxy-endpoints/gone")
    sidecar.proxy.refuse()
    web = sidecar.start()
    assert by_slug(web, "kept").status_code == by_slug(web, "gone").status_code == 200
    sidecar.proxy.heal()
    until(lambda: by_slug(web, "gone").status_code == 404, "the removal", 30)
    held = {each["slug"]: each["id"] for each in web.client.get("/api/proxy-endpoints").json()["items"]}
    assert held.keys() == {"own", "kept"}
    assert held["own"] == own["id"]


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
