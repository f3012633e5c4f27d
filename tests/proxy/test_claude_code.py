"""What Claude Code does with ANTHROPIC_BASE_URL=…/proxy/SLUG and its own key or login."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from anthropic_uses import MESSAGE
from fake_provider import FakeProvider
from harness import Daemon
from proxied_calls import made, newest
from scraping import Page
from wrapping import check

KEY = "sk-ant-api03-own"
LOGIN = "sk-ant-oat01-own"
BETAS = ["claude-code-20250219", "oauth-2025-04-20", "interleaved-thinking-2025-05-14"]
HEADERS = {
    "User-Agent": "claude-cli/2.0.0 (external, cli)",
    "x-app": "cli",
    "anthropic-dangerous-direct-browser-access": "true",
}
TELEMETRY = b'{"events": [ {"event_type":"ClaudeCodeInternalEvent", "n": 1.0e0} ]}'


@pytest.fixture(scope="module")
def url(proxied: Daemon) -> str:
    """A proxy endpoint's."""
    made = proxied.client.post("/api/proxy-endpoints", json={"name": "claude-code"})
    assert made.json()["slug"] == "claude-code", made.text
    return f"{proxied.http_url}/proxy/claude-code"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A caller with the headers of Claude Code, and no key of costd's."""
    with httpx.Client(headers=HEADERS, timeout=30, trust_env=False) as made:
        yield made


def own(headers: dict[str, str]) -> dict[str, str]:
    """The headers of a request by lower-case name."""
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("auth", [{"authorization": f"Bearer {LOGIN}"}, {"x-api-key": KEY}], ids=["login", "key"])
@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
def test_its_messages_pass_with_its_own_key_and_betas(
    auth: dict[str, str], streams: bool, url: str, proxied: Daemon, provider: FakeProvider
) -> None:
    before = made(proxied)
    said: dict[str, Any] = MESSAGE | {"betas": BETAS, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    said["system"] = [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}]
    said["metadata"] = {"user_id": "user_a1_account__session_b2"}
    provider.next(cached=300, written=40, thinking="Hm", reasoning=9)
    omitted = dict.fromkeys({"authorization", "x-api-key"} - auth.keys(), anthropic.omit)
    with anthropic.Anthropic(api_key="none", base_url=url, default_headers=HEADERS, max_retries=0) as client:
        answer = client.beta.messages.create(
            **said, stream=streams, extra_headers={**auth, **omitted}, extra_query={"beta": "true"}
        )
        if streams:
            assert [event.type for event in answer][-2:] == ["message_delta", "message_stop"]
        else:
            assert [block.type for block in answer.content] == ["thinking", "redacted_thinking", "text"]
    received = provider.received[-1]
    assert received.path == "/v1/messages?beta=true"
    headers = own(dict(received.headers))
    assert {name: headers[name] for name in headers.keys() & {"authorization", "x-api-key"}} == auth
    assert headers["anthropic-beta"] == ",".join(BETAS)
    assert {name: headers[name.lower()] for name in HEADERS} == HEADERS
    (record,) = newest(proxied, before)
    check(record, provider.last, MESSAGE["model"], provider="anthropic", context={})
    assert (record.dimensions["project"], record.dimensions["user"]) == ("claude-code", "user_a1_account_")


def test_what_it_asks_besides_passes_and_costs_nothing(
    url: str, proxied: Daemon, provider: FakeProvider, client: httpx.Client
) -> None:
    before = made(proxied)
    said = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "anthropic-beta": ",".join(BETAS)}
    counted = {name: value for name, value in MESSAGE.items() if name != "max_tokens"}
    answer = client.post(f"{url}/v1/messages/count_tokens?beta=true", json=counted, headers=said)
    assert answer.json() == {"input_tokens": 2_095}
    assert provider.received[-1].path == "/v1/messages/count_tokens?beta=true"
    assert client.get(f"{url}/v1/models?limit=1000", headers=said).json()["data"][0]["id"] == "claude-opus-5"
    assert provider.received[-1].path == "/v1/models?limit=1000"
    direct = client.get(f"{provider.anthropic_url}/v1/models/none", headers=said)
    missing = client.get(f"{url}/v1/models/none", headers=said)
    assert (missing.status_code, missing.content) == (404, direct.content)
    paid = client.post(f"{url}/v1/messages", json=MESSAGE, headers=said)
    assert paid.headers["x-ratelimit-limit"] == "300"
    (record,) = newest(proxied, before)  # of the last call, and of nothing before it
    assert record.dimensions["endpoint"] == "messages"


@pytest.mark.parametrize("at", ["", "/"])
def test_it_finds_out_whether_anybody_is_there(at: str, url: str, provider: FakeProvider, client: httpx.Client) -> None:
    answer = client.head(f"{url}{at}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "2")
    assert provider.received[-1][:2] == ("HEAD", "/")
    assert client.get(f"{url}/api/hello").json() == {"message": "hello"}
    assert provider.received[-1][:2] == ("GET", "/api/hello")


@pytest.mark.parametrize("path", ["api/event_logging/batch", "v1/unheard/of", "api/claude_cli_feedback"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_it_posts_besides_passes_and_is_not_dropped(
    path: str, packed: bool, url: str, proxied: Daemon, provider: FakeProvider, client: httpx.Client
) -> None:
    """To where it would go without costd, byte for byte; it may cost, for all that is known, and is counted."""
    before, unmetered = made(proxied), Page.of(proxied).total("costd_proxy_unmetered_total")
    kind = "application/octet-stream" if packed else "application/json"
    content = bytes(range(256)) if packed else TELEMETRY
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": kind}
    answer = client.post(f"{url}/{path}?a=%2Fb&c", content=content, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"is": "heard"})
    received = provider.received[-1]
    assert received[:2] == ("POST", f"/{path}?a=%2Fb&c")
    assert received.body == content
    assert own(dict(received.headers))["x-api-key"] == KEY
    assert made(proxied) == before
    assert Page.of(proxied).total("costd_proxy_unmetered_total") == unmetered + 1


@pytest.mark.parametrize("rest", ["//evil.example/x", "/v1//x", "/%2e%2e/x", "/api/%252e%252e/x", "/a%5c..%5cb"])
def test_no_path_leads_anywhere_else(rest: str, url: str, provider: FakeProvider, client: httpx.Client) -> None:
    asked = len(provider.received)
    assert client.get(f"{url}{rest}").status_code == 400
    assert len(provider.received) == asked
