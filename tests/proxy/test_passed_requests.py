"""Requests on their way up: what a provider receives is what a caller sent, to the byte, less what is costd's."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import zstandard
from aiohttp import web

import harness
from harness import Daemon
from proxied_calls import HOP_BY_HOP, KEY, base
from proxy_upstream import Received, Upstream, upstream

SAID = b'"_aipromptcost"\t:\n{"prompt_key": "p", "feature_tags": ["]", "}"], "version": 2}'
#: What is sent, and what is received of it.
BODIES: dict[str, tuple[bytes, bytes]] = {
    "said first": (b'{%s,"model":"m","x":1}' % SAID, b'{"model":"m","x":1}'),
    "said in the middle": (b'{ "model":"m", %s , "x" :1}' % SAID, b'{ "model":"m", "x" :1}'),
    "said last": (b'{"model":"m" , "x":[1 , 2.0e-7]\t,%s }' % SAID, b'{"model":"m" , "x":[1 , 2.0e-7] }'),
    "said twice": (b'{%s,"model":"m",%s}' % (SAID, SAID), b'{"model":"m"}'),
    "said in escapes": (b'{"\\u005faipromptcost":{},"model":"m"}', b'{"model":"m"}'),
    "said alone": (b"{%s}" % SAID, b"{}"),
}
KEPT: dict[str, bytes] = {
    "unicode": '{"model":"m","é漢":"😀\\ud83d\\ude00\\u0000\\/\u2028"}'.encode(),
    "half a pair": b'{"model":"m","x":"\\ud800"}',
    "no UTF-8": b'{"model":"m","x":"\xff\xfe"}',
    "a mark of the order of bytes": b'\xef\xbb\xbf{"model":"m"}',
    "numbers": b'{"model":"m","n":123456789012345678901234567890,"f":1E400,"z":-0.0,"t":0.10,"e":1.0e0}',
    "names twice": b'{"model":"a","model":"m","x":1,"x":2}',
    "space": b' \r\n\t{ "model" : "m" ,\r\n "x":[ ] }\n\n ',
    "an order of its own": b'{"z":1,"model":"m","a":2}',
    "said where it means nothing": b'{"model":"m","x":{"_aipromptcost":{"version":2}},"y":"\\"_aipromptcost\\":1"}',
    "a list": b'[{"_aipromptcost":{"prompt_key":"q"}}]',
    "half a body": b'{"model":"m","x":',
    "a megabyte": b'{"model":"m","x":"%s"}' % (b"\\n\xc3\xa9" * 250_000),
}
BODIES |= {name: (body, body) for name, body in KEPT.items()}
ROUTES = ("openai/chat/completions", "openai/responses", "openai/embeddings", "anthropic/v1/messages", "openai/unheard")
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


async def answer(request: web.Request) -> web.StreamResponse:
    """The same for all; nothing here is about what comes back."""
    return web.json_response({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream(answer) as made:
        yield made


@pytest.fixture(scope="module")
def proxied(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("passed") / "data"
    flags = [flag for name in ("openai", "anthropic") for flag in ("--upstream", f"{name}={provider.base}")]
    daemon = harness.start(folder, *flags)
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def client(proxied: Daemon) -> Iterator[httpx.Client]:
    """A caller with both keys, and headers of its own."""
    keys = {"Authorization": f"Bearer {proxied.admin_key}", "X-Provider-Key": KEY}
    odd = {"X-Odd": "kept; é".encode(), "OpenAI-Organization": "org-1", "anthropic-beta": "b", "Cookie": "c=1"}
    with httpx.Client(base_url=base(proxied, ""), headers={**keys, **odd}, timeout=30, trust_env=False) as made:
        yield made


def end_to_end(received: Received) -> dict[str, str]:
    """Headers that say something of a request, but for where it goes and with whose key."""
    out = {*HOP_BY_HOP, "host", "authorization", "x-provider-key", "x-api-key"}
    return {name.lower(): value for name, value in received.headers.items() if name.lower() not in out}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_goes_up_as_it_came(name: str, route: str, client: httpx.Client, provider: Upstream) -> None:
    sent, wanted = BODIES[name]
    kind = {"content-type": "application/json; charset=utf-8"}
    said = client.post(route, content=sent, headers=kind)
    assert said.status_code == 200, said.text
    received = provider.requests.pop()
    assert received.body == wanted
    assert client.post(f"{provider.base}/direct", content=wanted, headers=kind).status_code == 200
    version = {"anthropic-version": "2023-06-01"} if route.startswith("anthropic") else {}
    assert end_to_end(received) == end_to_end(provider.requests.pop()) | version


@pytest.mark.parametrize("packed", PACKERS)
def test_a_packed_body_stays_packed_unless_it_has_to_be_changed(
    packed: str, client: httpx.Client, provider: Upstream
) -> None:
    kind = {"content-type": "application/json", "content-encoding": packed}
    for name in ("numbers", "said last"):
        sent, wanted = BODIES[name]
        content = PACKERS[packed](sent)
        assert client.post("openai/chat/completions", content=content, headers=kind).status_code == 200
        received = provider.requests.pop()
        is_kept = sent == wanted
        assert received.body == (content if is_kept else wanted)
        assert end_to_end(received).get("content-encoding") == (packed if is_kept else None)
        assert end_to_end(received)["content-length"] == str(len(received.body))


def test_a_body_without_a_length_and_other_kinds_of_it(client: httpx.Client, provider: Upstream) -> None:
    """In pieces; as a form that no SDK made; as something that is no JSON; none at all."""
    sent, wanted = BODIES["said last"]
    pieces = (sent[at : at + 3] for at in range(0, len(sent), 3))
    assert client.post("openai/responses", content=pieces, headers={"content-type": "application/json"}).is_success
    assert provider.requests.pop().body == wanted
    for kind in ("multipart/form-data; boundary=x", "application/octet-stream", "text/plain"):
        assert client.post("openai/images/edits", content=SAID * 3, headers={"content-type": kind}).is_success
        received = provider.requests.pop()
        assert (received.body, end_to_end(received)["content-type"]) == (SAID * 3, kind)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, "openai/unheard").is_success
        assert provider.requests[-1].method == method
        assert provider.requests.pop().body == b""


@pytest.mark.parametrize("target", ["models/a%2Fb?x=%2F%20+&x=2&&y", "models/ft:gpt-4o@x,(1)?a=b#c"])
def test_a_path_and_its_query_go_up_as_they_came(target: str, client: httpx.Client, provider: Upstream) -> None:
    assert client.get(f"openai/{target}").is_success
    proxied = provider.requests.pop()
    httpx.get(f"{provider.base}/{target}", trust_env=False)
    assert proxied.target == provider.requests.pop().target
