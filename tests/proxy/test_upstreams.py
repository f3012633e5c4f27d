"""Upstreams as they are configured: names, dialects and prices of their own, keys that no service sees, TLS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

import harness
from anthropic_uses import MESSAGE, MODEL
from certificates import make_certs
from fake_provider import ANSWER, FakeProvider
from harness import Daemon
from openai_uses import CHAT
from proxied_calls import KEY, base, made, openai_at, the_record
from proxy_upstream import Upstream, upstream
from wrapping import check

COMPLETION = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": []}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the configuration, a key and certificates are."""
    made: Path = tmp_path_factory.mktemp("upstreams")
    (made / "key").write_text("sk-kept-here\n")
    (made / "key").chmod(0o600)
    return made


@pytest.fixture(scope="module")
def secret(folder: Path) -> Iterator[Upstream]:
    """A provider that speaks TLS, with a certificate that only its own authority vouches for."""
    certs = make_certs(folder / "certs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server-key.pem")

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(COMPLETION)

    with upstream(answer, context=context) as serving:
        yield serving


@pytest.fixture(scope="module")
def proxied(folder: Path, provider: FakeProvider, secret: Upstream) -> Iterator[Daemon]:
    tables: dict[str, dict[str, str]] = {
        "azure": {"base_url": f"http://127.0.0.1:{provider.port}/openai", "provider": "azure"},
        "kept": {"base_url": provider.openai_url, "provider": "openai", "key_file": str(folder / "key")},
        "lost": {"base_url": provider.openai_url, "provider": "openai", "key_file": str(folder / "none")},
        "spoilt": {"base_url": provider.openai_url, "provider": "openai", "key_file": str(folder / "spoilt")},
        "own": {"base_url": provider.openai_url},
        "claude": {"base_url": f"{provider.anthropic_url}/v1", "dialect": "anthropic", "provider": "anthropic"},
        "secret": {"base_url": secret.base, "ca": str(folder / "certs" / "ca.pem")},
        "stranger": {"base_url": secret.base},
    }
    lines = [f"[proxy.upstreams.{name}]\n{_members(said)}" for name, said in tables.items()]
    lines.append(f'[proxy.upstreams.shy]\nbase_url = "{provider.openai_url}"\ninclude_usage = false\n')
    (folder / "costd.toml").write_text("\n".join(lines))
    daemon = harness.start(folder / "data", "--config", str(folder / "costd.toml"))
    yield daemon
    daemon.kill()


def _members(said: dict[str, str]) -> str:
    return "".join(f'{name} = "{value}"\n' for name, value in said.items())


def without_key(daemon: Daemon, name: str) -> openai.OpenAI:
    """A service that has costd's key and no other."""
    return openai.OpenAI(api_key=daemon.admin_key, base_url=base(daemon, name), max_retries=0)


def received(provider: FakeProvider) -> dict[str, str]:
    """The headers of the last request by lower-case name."""
    return {name.lower(): value for name, value in provider.received[-1].headers.items()}


@pytest.mark.parametrize("streams", [False, True])
def test_azure_by_its_deployments(streams: bool, proxied: Daemon, provider: FakeProvider) -> None:
    before, where = made(proxied), f"{base(proxied, 'azure')}/deployments/gpt-4o"
    with openai_at(proxied, base_url=where, default_query={"api-version": "2024-10-21"}) as client:
        answer = client.chat.completions.create(**CHAT, stream=streams)
        assert not streams or len(list(answer)) > 3
    path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert provider.received[-1].path == path
    assert (received(provider)["api-key"], "authorization" in received(provider)) == (KEY, False)
    check(the_record(proxied, before), provider.last, "gpt-4o", provider="azure", context={})


def test_a_key_that_is_kept_here_is_no_business_of_services(
    proxied: Daemon, provider: FakeProvider, folder: Path
) -> None:
    """It is read again when its file changes; a service that brings a key of its own uses that."""
    with without_key(proxied, "kept") as client:
        client.chat.completions.create(**CHAT)
        assert received(provider)["authorization"] == "Bearer sk-kept-here"
        (folder / "key").write_text("sk-renewed\n")
        os.utime(folder / "key", (1, 1))
        client.chat.completions.create(**CHAT)
        assert received(provider)["authorization"] == "Bearer sk-renewed"
        client.chat.completions.create(**CHAT, extra_headers={"X-Provider-Key": KEY})
        assert received(provider)["authorization"] == f"Bearer {KEY}"
    asked = len(provider.received)
    with without_key(proxied, "lost") as client, pytest.raises(openai.InternalServerError) as lost:
        client.chat.completions.create(**CHAT)
    assert (lost.value.status_code, len(provider.received)) == (502, asked)
    assert "key file of lost" in str(lost.value)
    metrics = proxied.client.get("/metrics").text
    assert 'costd_proxy_upstream_errors_total{reason="key",upstream="lost"} 1.0' in metrics
    for text in ("sk-kept-here", "sk-renewed", str(folder)):
        assert text not in str(lost.value)
        assert text not in metrics
    assert "sk-" not in proxied.log


@pytest.mark.parametrize("content", [b"", b"two words\n", b"sk-one\rsk-two\n", b"sk-\xff\n", b"sk-\x00\n"])
def test_a_key_file_without_a_key_is_said_to_be_so(
    content: bytes, proxied: Daemon, provider: FakeProvider, folder: Path
) -> None:
    asked = len(provider.received)
    (folder / "spoilt").write_bytes(content)
    os.utime(folder / "spoilt", (1, asked + sum(content)))
    with without_key(proxied, "spoilt") as client, pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(**CHAT)
    assert (refused.value.status_code, len(provider.received)) == (502, asked)
    assert "the key file of spoilt must hold a key and nothing else" in str(refused.value)
    assert "sk-" not in proxied.log + str(refused.value)


def test_a_trace_which_would_show_a_kept_key_is_not_passed_on(
    proxied: Daemon, provider: FakeProvider, folder: Path
) -> None:
    asked = len(provider.received)
    answer = proxied.client.request("TRACE", "/api/proxy/v1/kept/models")
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR")
    assert len(provider.received) == asked


def test_a_server_of_ones_own_needs_no_key(proxied: Daemon, provider: FakeProvider) -> None:
    before = made(proxied)
    with without_key(proxied, "own") as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == ANSWER
    assert not {"authorization", "x-api-key", "api-key"} & received(provider).keys()
    record = the_record(proxied, before)
    assert {name: int(count) for name, count in record.units.items()} == provider.last.units


def test_who_refuses_to_be_asked_for_usage_is_not_asked(proxied: Daemon, provider: FakeProvider) -> None:
    """The record is then what was delivered, a token for every four characters."""
    before = made(proxied)
    with openai_at(proxied, base_url=base(proxied, "shy")) as client:
        chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert b"stream_options" not in provider.received[-1].body
    record = the_record(proxied, before)
    assert (record.status, int(record.units["output_tokens"])) == ("success", -(-len(ANSWER) // 4))


def test_another_name_of_anthropic(proxied: Daemon, provider: FakeProvider) -> None:
    before, headers = made(proxied), {"Authorization": f"Bearer {proxied.admin_key}", "X-Provider-Key": KEY}
    url = base(proxied, "claude")
    with anthropic.Anthropic(api_key="unused", base_url=url, default_headers=headers, max_retries=0) as client:
        client.messages.create(**MESSAGE)
        assert received(provider)["x-api-key"] == KEY
        check(the_record(proxied, before), provider.last, MODEL, provider="anthropic", context={})
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.messages.create(**MESSAGE, extra_body={"_aipromptcost": 7})
    body: Any = refused.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")


def test_whose_certificate_nobody_vouches_for_is_not_called(proxied: Daemon, secret: Upstream) -> None:
    with without_key(proxied, "secret") as client:
        assert client.chat.completions.create(**CHAT).model == "gpt-4o"
    asked = len(secret.requests)
    with without_key(proxied, "stranger") as client, pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(**CHAT)
    assert (refused.value.status_code, len(secret.requests)) == (502, asked)
