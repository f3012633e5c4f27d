"""Proxy endpoints: made, listed, removed; called with the provider's key alone; bodies stored only where wanted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web

import harness
from harness import Daemon, costd
from proxy_upstream import Upstream, upstream

MARKER = "the-secret-of-the-prompt"
COUNT = "v1/messages/count_tokens"


async def message(request: web.Request) -> web.Response:
    """An answer of Anthropic's."""
    sent = await request.json()
    usage = {"input_tokens": 42, "output_tokens": 120, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 0}
    if request.path.endswith("count_tokens"):
        return web.json_response({"input_tokens": 42})
    content = [{"type": "text", "text": "hello"}]
    return web.json_response(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": sent["model"],
            "content": content,
            "usage": usage,
        }
    )


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream(message) as made:
        yield made


@pytest.fixture
def proxied(provider: Upstream, tmp_path: Path) -> Iterator[Daemon]:
    limits = ("--proxy-requests-per-minute", "5", "--proxy-counts-per-minute", "2")
    daemon = harness.start(tmp_path / "data", "--upstream", f"anthropic={provider.base}", *limits)
    yield daemon
    daemon.kill()


def call(daemon: Daemon, slug: str, route: str = "v1/messages") -> httpx.Response:
    body = {"model": "claude-sonnet-4-20250514", "max_tokens": 10, "messages": [{"role": "user", "content": MARKER}]}
    url = f"{daemon.client.base_url}/proxy/{slug}/{route}".replace("//proxy", "/proxy")
    return httpx.post(url, json=body, headers={"x-api-key": "sk-ant-own", "x-other": "1", "anthropic-beta": "b"})


def recorded(daemon: Daemon) -> list[dict[str, object]]:
    harness.until(lambda: daemon.client.get("/api/usage").json()["items"], "a record", 30)
    items: list[dict[str, object]] = daemon.client.get("/api/usage").json()["items"]
    return items


def test_an_endpoint_is_called_with_the_providers_key_alone(proxied: Daemon, provider: Upstream) -> None:
    made = proxied.client.post("/api/proxy-endpoints", json={"name": "My Project"}).json()
    assert made["slug"] == "my-project"
    assert made["url"].endswith("/proxy/my-project")
    assert call(proxied, "my-project", "v1/messages/count_tokens").json() == {"input_tokens": 42}
    answer = call(proxied, "my-project")
    assert answer.json()["usage"]["output_tokens"] == 120
    sent = provider.requests[-1]
    assert sent.headers["x-api-key"] == "sk-ant-own"
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.headers["anthropic-beta"] == "b"
    assert "x-other" not in sent.headers
    (item,) = recorded(proxied)
    assert item["proxy_endpoint_id"] == made["id"]
    assert item["api_key_id"] is None
    assert (item["input_tokens"], item["output_tokens"], item["status_code"]) == (50, 120, 200)
    assert len(proxied.client.get("/api/usage", params={"proxy_endpoint_id": made["id"]}).json()["items"]) == 1
    detail = proxied.client.get(f"/api/usage/{item['id']}").json()
    assert (detail["cache_read_input_tokens"], detail["request_body"], detail["response_body"]) == (8, None, None)
    assert MARKER not in proxied.log_path.read_text()
    assert MARKER.encode() not in (proxied.data_dir / "costd.db").read_bytes()


def test_bodies_are_stored_where_the_endpoint_says_so_and_shown_to_admins_alone(proxied: Daemon) -> None:
    made = proxied.client.post(
        "/api/proxy-endpoints", json={"name": "seen", "store_bodies": True, "body_bytes": 50}
    ).json()
    call(proxied, made["slug"])
    (item,) = recorded(proxied)
    url = f"/api/usage/{item['id']}"
    harness.until(lambda: proxied.client.get(url).json()["request_body"], "the bodies", 30)
    detail = proxied.client.get(url).json()
    assert detail["request_body"].startswith('{"model":"claude-sonnet-4')
    assert len(detail["request_body"]) == 50
    assert len(detail["response_body"]) == 50
    key = costd("keys", "create", "reader", "--role", "read", "--json", "--data-dir", str(proxied.data_dir))
    reader = {"Authorization": f"Bearer {json.loads(key.stdout)['key']}"}
    assert httpx.get(f"{proxied.client.base_url}{url}", headers=reader).json()["request_body"] is None


def test_limits_of_a_slug_and_what_is_removed(proxied: Daemon) -> None:
    folder = ["--data-dir", str(proxied.data_dir)]
    assert costd("proxy", "endpoints", "create", "cli", *folder).returncode == 0
    listed = json.loads(costd("proxy", "endpoints", "list", "--json", *folder).stdout)["endpoints"]
    assert [one["slug"] for one in listed] == ["cli"]
    for _ in range(5):
        assert call(proxied, "cli").status_code == 200
    for _ in range(2):
        assert call(proxied, "cli", COUNT).status_code == 200
    for route, limit in (("v1/messages", "5"), (COUNT, "2")):
        limited = call(proxied, "cli", route)
        assert (limited.status_code, limited.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(limited.headers["Retry-After"]) <= 60
        told = [limited.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining")]
        assert told == [limit, "0"]
        assert 0 < int(limited.headers["X-RateLimit-Reset"]) - time.time() <= 62
    assert proxied.client.post("/api/proxy-endpoints", json={"name": "CLI"}).status_code == 409
    assert costd("proxy", "endpoints", "remove", "cli", *folder).returncode == 0
    assert call(proxied, "cli").status_code == 404
    assert proxied.client.get("/api/proxy-endpoints").json() == {"items": [], "nextCursor": None, "hasMore": False}


def test_pages_of_endpoints_and_bad_ones(proxied: Daemon) -> None:
    for number in range(5):
        proxied.client.post("/api/proxy-endpoints", json={"name": f"p{number}"})
    first = proxied.client.get("/api/proxy-endpoints", params={"limit": 3}).json()
    rest = proxied.client.get("/api/proxy-endpoints", params={"limit": 3, "cursor": first["nextCursor"]}).json()
    assert [one["name"] for one in first["items"] + rest["items"]] == ["p4", "p3", "p2", "p1", "p0"]
    assert (first["hasMore"], rest["hasMore"]) == (True, False)
    for body, field in (({"name": ""}, "name"), ({"name": "a", "retention_days": 0}, "retention_days"), ({}, "name")):
        refused = proxied.client.post("/api/proxy-endpoints", json=body)
        assert (refused.status_code, refused.json()["details"]["field"]) == (400, field)


def test_prompts_are_there_from_their_first_use_and_compared_by_version(proxied: Daemon) -> None:
    usage = {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "units": {"input_tokens": 1_000_000}}
    for version in (1, 1, 2):
        body = usage | {"prompt_key": "sum", "prompt_version": version}
        assert proxied.client.post("/v1/usage/record", json=body).status_code == 200
    (prompt,) = proxied.client.get("/api/prompts").json()["data"]["prompts"]
    assert (prompt["prompt_key"], prompt["active_version"], prompt["versions"]) == ("sum", "1", ["1", "2"])
    found = proxied.client.get("/api/aggregations/version-comparison", params={"prompt_key": "sum"}).json()
    rows = [
        (row["version_number"], row["request_count"], row["total_cost"], row["avg_cost_per_request"])
        for row in found["versions"]
    ]
    assert rows == [(1, 2, 5, 2.5), (2, 1, 2.5, 2.5)]
    refused = proxied.client.get("/api/aggregations/version-comparison")
    assert (refused.status_code, refused.json()["details"]["field"]) == (400, "prompt_key")


def test_what_a_slug_is_told_and_whose_user_it_is(proxied: Daemon, provider: Upstream) -> None:
    """The limits stand in every answer; a session that a client names behind its user is no user of its own."""
    proxied.client.post("/api/proxy-endpoints", json={"name": "claude"})
    url = f"{str(proxied.client.base_url).rstrip('/')}/proxy/claude/v1/messages"
    for session in ("1", "2"):
        body = {"model": "claude-sonnet-4-20250514", "max_tokens": 5, "messages": [], "metadata": {}}
        body["metadata"] = {"user_id": f"user_a_account_b_session_{session}"}
        answer = httpx.post(url, json=body, headers={"x-api-key": "k"})
    assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("5", "3")
    harness.until(lambda: proxied.query("SELECT count(*) FROM event")[0][0] == 2, "the records")
    assert proxied.query("SELECT DISTINCT user FROM series") == [("user_a_account_b",)]
    bomb = httpx.post(
        url, content=b"x", headers={"x-api-key": "k", "content-encoding": "br", "content-type": "application/json"}
    )
    assert (bomb.status_code, bomb.json()["details"]["field"]) == (400, "Content-Encoding")
