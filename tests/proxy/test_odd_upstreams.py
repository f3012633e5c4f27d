"""Upstreams that are no model of manners: what they say passes as it was said, and no call gets another's answer."""

from __future__ import annotations

import gzip
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

import harness
from harness import Daemon
from proxied_calls import HOP_BY_HOP, KEY, base
from scraping import Page

BODY = b'{"is": "said"}'
LONG = b"x" * 50_000


def head(status: str, *headers: bytes, version: str = "1.1") -> bytes:
    """The head of an answer."""
    return b"\r\n".join([f"HTTP/{version} {status}".encode(), *headers, b"", b""])


LENGTH = b"Content-Length: %d" % len(BODY)
JSON = b"Content-Type: application/json"
CLOSE = b"Connection: close"
CHUNKS = b"5;odd=1\r\n" + BODY[:5] + b"\r\n9\r\n" + BODY[5:] + b"\r\n0\r\nX-Trailer: t\r\n\r\n"


class Said(NamedTuple):
    """What an upstream sends for an answer, whether it closes then, and what a caller is to see of it."""

    sent: bytes
    closes: bool = False
    status: int = 200
    body: bytes = BODY
    #: Whether the answer has its proper end.
    is_whole: bool = True
    method: str = "GET"


ANSWERS = {
    "plain": Said(head("200 OK", JSON, LENGTH) + BODY),
    "a reason of its own": Said(head("299 Fine By Me", JSON, LENGTH) + BODY, status=299),
    "no reason": Said(head("200 ", JSON, LENGTH) + BODY),
    "headers twice": Said(
        head("201 Created", b"X-A: 1", b"x-a: 2", b"Set-Cookie: a", b"Set-Cookie: b", LENGTH) + BODY
    )._replace(status=201),
    "a header as long as they come": Said(head("200 OK", b"X-Long: " + LONG, LENGTH) + BODY),
    "no content": Said(head("204 No Content", b"ETag: e"), status=204, body=b""),
    "not modified": Said(head("304 Not Modified", b"ETag: e"), status=304, body=b""),
    "elsewhere": Said(head("307 Temporary Redirect", b"Location: http://127.0.0.1:9/", LENGTH) + BODY, status=307),
    "hints before": Said(head("103 Early Hints", b"Link: </a>") + head("200 OK", LENGTH) + BODY),
    "to be continued": Said(head("100 Continue") + head("200 OK", LENGTH) + BODY),
    "up to its close": Said(head("200 OK", JSON, CLOSE) + BODY, closes=True),
    "of long ago": Said(head("200 OK", JSON, version="1.0") + BODY, closes=True),
    "in chunks": Said(head("200 OK", JSON, b"Transfer-Encoding: chunked", b"Trailer: X-Trailer") + CHUNKS),
    "only its head": Said(head("200 OK", JSON, b"Content-Length: 1234"), method="HEAD", body=b""),
    "packed, it says": Said(head("200 OK", b"Content-Encoding: gzip", LENGTH) + BODY),
    "packed": Said(
        head("200 OK", b"Content-Encoding: gzip", b"Content-Length: %d" % len(gzip.compress(BODY, mtime=0)))
        + gzip.compress(BODY, mtime=0)
    )._replace(body=gzip.compress(BODY, mtime=0)),
    "no more than its beginning": Said(head("200 OK", b"Content-Length: 999") + BODY, closes=True, is_whole=False),
    "chunks without an end": Said(
        head("200 OK", b"Transfer-Encoding: chunked") + CHUNKS[:16], closes=True, is_whole=False, body=BODY[:5]
    ),
    "one word too many": Said(head("200 OK", LENGTH) + BODY + head("200 OK", b"Content-Length: 4") + b"evil"),
    "nothing": Said(b"", closes=True, status=502),
    "half a head": Said(b"HTTP/1.1 200 OK\r\nX-A", closes=True, status=502),
    "no HTTP": Said(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", closes=True, status=502),
    "a head without an end": Said(head("200 OK", b"X-Long: " + LONG * 4, LENGTH) + BODY, closes=True, status=502),
    "two lengths": Said(head("200 OK", LENGTH, b"Content-Length: 3") + BODY, closes=True, status=502),
}


class Upstream:
    """A server that answers by what stands last in the path; every connection is served by a thread."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        #: The name of each call, with the number of its connection.
        self.calls: list[tuple[str, int]] = []
        self._connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self._connections += 1
                threading.Thread(target=self._serve, args=(connection, self._connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError):
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    piece = connection.recv(1 << 16)
                    if not piece:
                        return
                    received += piece
                asked, _, received = received.partition(b"\r\n\r\n")
                name = asked.split()[1].decode().rpartition("/")[2].replace("_", " ")
                self.calls.append((name, number))
                if name == "refused unread":
                    connection.sendall(head("413 Payload Too Large", CLOSE, LENGTH) + BODY)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass
                    return
                length = re.search(rb"(?i)content-length: (\d+)", asked)
                while len(received) < int(length[1] if length else 0):
                    received += connection.recv(1 << 16)
                received = b""
                connection.sendall(ANSWERS[name].sent)
                if ANSWERS[name].closes:
                    return


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.listener.close()


@pytest.fixture(scope="module")
def proxied(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("odd") / "data"
    daemon = harness.start(folder, "--upstream", f"openai={provider.base}")
    yield daemon
    daemon.kill()


def call(daemon: Daemon, name: str, method: str, content: bytes | None = None) -> tuple[httpx.Response, bytes, bool]:
    """The answer to a call, its bytes, and whether it had its proper end."""
    keys = {"X-Provider-Key": KEY, "content-type": "application/json"}
    url, got = f"{base(daemon, 'openai')}/unheard/{name.replace(' ', '_')}", b""
    with daemon.client.stream(method, url, content=content, headers=keys) as answer:
        try:
            for piece in answer.iter_raw():
                got += piece
        except httpx.RemoteProtocolError:
            return answer, got, False
        return answer, got, True


def said_of(sent: bytes) -> list[tuple[bytes, bytes]]:
    """The end-to-end headers of an answer as it was sent, in their order."""
    lines = sent.rpartition(b"HTTP/1.")[2].partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return [pair for pair in pairs if pair[0].decode() not in {*HOP_BY_HOP, "trailer"}]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_passes_as_it_was_said(name: str, method: str, proxied: Daemon, provider: Upstream) -> None:
    said = ANSWERS[name]
    method = said.method if said.method != "GET" else method
    answer, got, is_whole = call(proxied, name, method, BODY if method == "POST" else None)
    assert answer.status_code == said.status
    if said.status != 502:
        assert (got, is_whole) == (said.body, said.is_whole)
        ours = {b"x-costd-request-id", b"x-request-id", b"date", b"server", *(each.encode() for each in HOP_BY_HOP)}
        shown = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in ours]
        sent = said.sent.removesuffix(head("200 OK", b"Content-Length: 4") + b"evil")
        assert [pair for pair in shown if pair in said_of(sent)] == said_of(sent)
        assert {pair[0] for pair in shown} == {pair[0] for pair in said_of(sent)}
    else:
        assert answer.headers["content-type"].startswith("application/json")
        assert b"INTEGRATION_ERROR" in got
    # And whoever calls next gets an answer of his own.
    answer, got, is_whole = call(proxied, "plain", method if method != "HEAD" else "GET", None)
    assert (answer.status_code, got, is_whole) == (200, BODY, True)


def test_a_connection_is_used_again_where_nothing_speaks_against_it(proxied: Daemon, provider: Upstream) -> None:
    for name, is_kept in {"plain": True, "in chunks": True, "no content": True, "only its head": True}.items():
        call(proxied, name, ANSWERS[name].method)
        call(proxied, "plain", "GET")
        (_, first), (_, second) = provider.calls[-2:]
        assert (name, first == second) == (name, is_kept)
    for name in ("one word too many", "up to its close"):
        call(proxied, name, "GET")
        call(proxied, "plain", "GET")
        (_, first), (_, second) = provider.calls[-2:]
        assert (name, first == second) == (name, False)


def test_a_body_that_is_refused_unread_is_refused_and_no_more(proxied: Daemon, provider: Upstream) -> None:
    answer, got, is_whole = call(proxied, "refused unread", "POST", b"x" * (8 << 20))
    assert (answer.status_code, got, is_whole) == (413, BODY, True)
    assert call(proxied, "plain", "POST", BODY)[1] == BODY


def test_only_what_may_be_repeated_is_sent_twice(proxied: Daemon, provider: Upstream) -> None:
    """A connection that is closed when it is used: a POST may have been heard."""
    for method, most in (("GET", 2), ("POST", 1)):
        before = len(provider.calls)
        assert call(proxied, "nothing", method)[0].status_code == 502
        assert 1 <= len(provider.calls) - before <= most
    page = Page.of(proxied)
    assert page.value("costd_proxy_in_flight", upstream="openai") == 0
    assert "Traceback" not in proxied.log
