"""Callers that are no SDKs: WebSockets, HTTP/1.0, bodies in chunks or too long, requests one upon another."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import pytest
from aiohttp import web

import harness
from harness import Daemon
from proxy_upstream import Upstream, upstream

BODY = b'{"model":"gpt-4o-mini","messages":[]}'
ANSWER = {"id": "c", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [{"index": 0}]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
SAID = json.dumps({**ANSWER, "usage": USAGE}).encode()
EVENTS = b"data: " + SAID + b"\n\ndata: [DONE]\n\n"
CHAT = "/api/proxy/v1/openai/v1/chat/completions"
SLUG = "/proxy/odd/v1/messages"
HANDSHAKE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
PATIENCE_S = 30


async def chat(request: web.Request) -> web.StreamResponse:
    """A completion; a stream in pieces of no known length where one is asked for."""
    if b'"bomb"' in await request.read():
        packed = {"content-encoding": "br", "content-type": "application/json"}
        return web.Response(body=brotli_bomb(), headers=packed)
    if b'"stream"' not in await request.read():
        return web.Response(body=SAID, content_type="application/json", headers={"X-Organization": "Søren's"})
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(EVENTS[:40])
    await answer.write(EVENTS[40:])
    return answer


@lru_cache
def brotli_bomb() -> bytes:
    """Half a GiB in less than a KiB."""
    packer = brotli.Compressor(quality=1)
    return b"".join(packer.process(bytes(1 << 20)) for _ in range(512)) + packer.finish()


def gzip_bomb() -> bytes:
    """The same, packed three times."""
    return gzip.compress(gzip.compress(gzip.compress(bytes(16 << 20)) * 32))


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream(chat) as made:
        yield made


@pytest.fixture(scope="module")
def proxied(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    where = (f"{name}={provider.base}" for name in ("openai", "anthropic"))
    flags = [flag for each in where for flag in ("--upstream", each)]
    daemon = harness.start(tmp_path_factory.mktemp("odd") / "data", *flags)
    assert daemon.client.post("/api/proxy-endpoints", json={"name": "odd"}).status_code == 200
    yield daemon
    daemon.kill()


def request(daemon: Daemon, line: str, *headers: str, body: bytes = b"") -> bytes:
    """A request as it stands on the wire."""
    keys = (f"Host: {daemon.ready['http']}", f"Authorization: Bearer {daemon.admin_key}", "X-Provider-Key: sk-x")
    return "\r\n".join((line, *keys, *headers, "", "")).encode() + body


def posted(daemon: Daemon, *headers: str, version: str = "1.1", path: str = CHAT, body: bytes = BODY) -> bytes:
    """A JSON body with its length."""
    kind = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return request(daemon, f"POST {path} HTTP/{version}", *kind, *headers, body=body)


def answers(daemon: Daemon, *sent: bytes, until: bytes = b"") -> bytes:
    """Everything that comes back, until the connection closes or `until` was seen."""
    host, _, port = daemon.ready["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        got = b""
        for piece in sent:
            connection.sendall(piece)
        while not (until and until in got) and (piece := connection.recv(1 << 16)):
            got += piece
    return got


@pytest.mark.parametrize("path", ["/api/proxy/v1/openai/v1/realtime?model=x", "/api/proxy/v1/openai/responses", SLUG])
def test_a_websocket_is_refused_with_what_to_do_instead(path: str, proxied: Daemon, provider: Upstream) -> None:
    """By 426, after which Codex goes on over HTTP; by anything else it would try again and again."""
    before = len(provider.requests)
    head, _, body = answers(proxied, request(proxied, f"GET {path} HTTP/1.1", *HANDSHAKE)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 426 ")
    error = json.loads(body)["error"]
    assert "over HTTP" in error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(provider.requests) == before
    assert 'status="426"' in proxied.client.get("/metrics").text


def test_an_offer_of_http_2_is_no_websocket(proxied: Daemon) -> None:
    """Java's client makes one with every first call."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    assert answers(proxied, posted(proxied, *offer), until=SAID).startswith(b"HTTP/1.1 200 ")


def test_callers_of_http_1_0_get_streams_that_end_with_the_connection(proxied: Daemon) -> None:
    got = answers(proxied, posted(proxied, version="1.0", body=BODY[:-1] + b',"stream":true}'))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert b"chunked" not in head.lower()
    assert body == EVENTS


def test_requests_sent_one_upon_another_are_answered_in_their_order(proxied: Daemon) -> None:
    last = request(proxied, "GET /api/proxy/v1/openai/models HTTP/1.1", "Connection: close")
    got = answers(proxied, posted(proxied) + posted(proxied, path=CHAT + "/") + last)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", got) == [b"200", b"400", b"200"]


def test_a_body_in_chunks_is_read_and_sent_on_whole(proxied: Daemon, provider: Upstream) -> None:
    chunked = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    body = b"7\r\n" + BODY[:7] + b"\r\n%x\r\n" % (len(BODY) - 7) + BODY[7:] + b"\r\n0\r\n\r\n"
    assert b" 200 " in answers(proxied, request(proxied, f"POST {CHAT} HTTP/1.1", *chunked, body=body), until=SAID)
    assert provider.requests[-1].body == BODY
    assert provider.requests[-1].headers["Content-Length"] == str(len(BODY))


@pytest.mark.parametrize("route", ["chat/completions", "files"])
def test_whoever_asks_before_he_sends_is_told_to_go_on(route: str, proxied: Daemon, provider: Upstream) -> None:
    whole = posted(proxied, "Expect: 100-continue", path=f"/api/proxy/v1/openai/{route}")
    host, _, port = proxied.ready["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(whole[: -len(BODY)])
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert provider.requests[-1].body == BODY
    assert "Expect" not in provider.requests[-1].headers


def test_whoever_may_not_call_is_told_before_he_sends(proxied: Daemon) -> None:
    asked = posted(proxied, "Expect: 100-continue")[: -len(BODY)]
    got = answers(proxied, asked.replace(proxied.admin_key.encode(), b"ct_live_wrong"), until=b"}")
    assert got.startswith(b"HTTP/1.1 401 ")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(("path", "kind"), [(CHAT, "invalid_request_error"), (SLUG, "request_too_large")])
@pytest.mark.parametrize("how", ["declared", "chunked"])
def test_a_body_that_is_too_long_is_refused_in_the_providers_form(
    how: str, path: str, kind: str, proxied: Daemon
) -> None:
    """Before it is sent where its length is said, and its sender sees the answer though he still sends."""
    size = (32 << 20) + 1
    said = f"Content-Length: {size}" if how == "declared" else "Transfer-Encoding: chunked"
    sent = request(proxied, f"POST {path} HTTP/1.1", "Content-Type: application/json", said)
    if how == "chunked":
        sent += b"%x\r\n" % size + b"x" * size
    head, _, body = answers(proxied, sent, until=b"}").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert (json.loads(body)["error"]["type"], json.loads(body)["code"]) == (kind, "PAYLOAD_TOO_LARGE")


def test_a_body_passes_whatever_the_method(proxied: Daemon, provider: Upstream) -> None:
    path = "/api/proxy/v1/openai/models"
    for method in ("GET", "DELETE", "PATCH"):
        assert b" 200 " in answers(proxied, posted(proxied, path=path).replace(b"POST", method.encode(), 1), until=SAID)
        assert (provider.requests[-1].method, provider.requests[-1].body) == (method, BODY)


def test_headers_that_are_no_ascii_pass_both_ways(proxied: Daemon, provider: Upstream) -> None:
    got = answers(proxied, posted(proxied, "X-Title: Übersicht"), until=SAID)
    assert "\r\nX-Organization: Søren's\r\n".encode() in got
    assert provider.requests[-1].headers["X-Title"] == "Übersicht"


@contextmanager
def answering(said: bytes) -> Iterator[str]:
    """A server that answers the first request with these bytes, whatever it is; its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while not connection.recv(1 << 16).endswith(BODY):
                    pass
                connection.sendall(said)
                connection.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        thread.join(PATIENCE_S)


#: What an upstream says, and what its caller gets for it.
ODD_ANSWERS = {
    "control": (b"HTTP/1.1 200 OK\r\nX-Bad: a\x01b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", b"200"),
    "hints": (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", b"204"),
    "switching": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", b"502"),
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"502"),
}


def test_whatever_an_upstream_says_its_caller_gets_an_answer(launch: Callable[..., Daemon]) -> None:
    with ExitStack() as servers:
        bases = {name: servers.enter_context(answering(said)) for name, (said, _) in ODD_ANSWERS.items()}
        daemon = launch(*(flag for name, base in bases.items() for flag in ("--upstream", f"{name}={base}")))
        for name, (_, status) in ODD_ANSWERS.items():
            path = CHAT.replace("openai", name)
            got = answers(daemon, posted(daemon, "Connection: close", path=path))
            assert got.split(b" ")[1] == status, name
            assert b"X-Bad: ab" in got or name != "control"
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def most_memory_bytes(daemon: Daemon) -> int:
    """The most that the daemon ever had."""
    return int(Path(f"/proc/{daemon.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks the kernel for the daemon's memory")
def test_bombs_are_not_unpacked(proxied: Daemon, provider: Upstream) -> None:
    """Neither one of somebody who knows no more than a slug, nor one of an upstream, which passes as it came."""
    before, sent = most_memory_bytes(proxied), len(provider.requests)
    packed = posted(proxied, "Content-Encoding: gzip, gzip, gzip", "Connection: close", path=SLUG, body=gzip_bomb())
    assert answers(proxied, packed).startswith(b"HTTP/1.1 413 ")
    assert len(provider.requests) == sent
    passed = answers(proxied, posted(proxied, "Connection: close", body=b'{"model":"bomb","messages":[]}'))
    assert passed.startswith(b"HTTP/1.1 200 ")
    assert passed.endswith(brotli_bomb())
    assert most_memory_bytes(proxied) - before < 200 << 20


@pytest.mark.parametrize("part", [b'{"a":[]},', b"1,"])
def test_a_body_of_millions_of_parts_is_not_read(part: bytes, proxied: Daemon, provider: Upstream) -> None:
    """To read it would take seconds, and all others would wait."""
    sent = len(provider.requests)
    body = b'{"model":"m","messages":[' + part * 2_000_001 + b"1]}"
    packed = gzip.compress(body[: 30 << 20], 1)
    refused = answers(proxied, posted(proxied, "Content-Encoding: gzip", "Connection: close", path=SLUG, body=packed))
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert b"objects and arrays" in refused
    assert len(provider.requests) == sent


def test_what_asks_for_no_body_gets_none(proxied: Daemon) -> None:
    for line, status in ((f"HEAD {CHAT} HTTP/1.1", b"200"), ("HEAD /proxy/none HTTP/1.1", b"404")):
        got = answers(proxied, request(proxied, line, "Connection: close"))
        assert got.startswith(b"HTTP/1.1 " + status)
        assert got.endswith(b"\r\n\r\n")
    assert b" 200 " in answers(proxied, request(proxied, f"OPTIONS {CHAT} HTTP/1.1"), until=SAID)


@pytest.mark.parametrize(
    "headers",
    [("X-Long: " + "x" * 9000,), ("Content-Length: 5", "Transfer-Encoding: chunked")],
    ids=["long", "smuggled"],
)
def test_what_is_not_http_or_too_much_of_it_is_a_bad_request(
    headers: tuple[str, ...], proxied: Daemon, provider: Upstream
) -> None:
    before = len(provider.requests)
    got = answers(proxied, request(proxied, f"POST {CHAT} HTTP/1.1", *headers, body=b"0\r\n\r\n"))
    assert got.split(b" ")[1] == b"400"
    assert len(provider.requests) == before
