"""Calls over the connections to an upstream, against a server that says byte for byte what a test has it say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path

import aiohttp
import pytest
import uvloop
from multidict import CIMultiDict

from certificates import make_certs
from costd.wire.proxy.pool import KEEPALIVE_S, Answer, Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LARGE = b"x" * (16 << 20)
LIMIT_S = 60

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[None]]


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @wraps(test)
    def run(*args: object, **named: object) -> None:
        uvloop.run(asyncio.wait_for(test(*args, **named), LIMIT_S))  # as the daemon has it

    return run


class Server:
    """What came: connections, and the requests of each as (head, body)."""

    def __init__(self, *answers: bytes) -> None:
        """Answer each request by the next of `answers`; b"" closes the connection, and so do more requests."""
        self.answers = list(answers)
        self.connections: list[list[tuple[bytes, bytes]]] = []
        self.closed = 0

    async def serve(self, reader: Reader, writer: Writer) -> None:
        came: list[tuple[bytes, bytes]] = []
        self.connections.append(came)
        while head := await _head(reader):
            length = next((int(line[16:]) for line in head.splitlines() if line.startswith(b"Content-Length: ")), 0)
            came.append((head, await reader.readexactly(length)))
            answer = self.answers.pop(0) if self.answers else b""
            if not answer:
                break
            writer.write(answer)
        self.closed += 1


async def _head(reader: Reader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def pool_to(
    serve: Serve,
    *,
    answer_s: float = 30.0,
    keepalive_s: float = KEEPALIVE_S,
    tls: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | bool = True,
) -> AsyncIterator[Pool]:
    """A pool of connections to a server, which speaks TLS where `tls` is given."""

    async def serve_and_close(reader: Reader, writer: Writer) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0, limit=1 << 26, ssl=tls)
    place = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    pool = Pool(f"{place}/base/v1", trust=trust, connect_s=30, answer_s=answer_s, keepalive_s=keepalive_s)
    try:
        yield pool
    finally:
        await pool.close()
        server.close()


async def whole(answer: Answer) -> tuple[int, bytes]:
    """The status and all of the body."""
    try:
        return answer.status, await answer.content.read()
    finally:
        answer.close()


@on_a_loop
async def test_a_call_is_its_bytes_and_the_next_takes_the_same_connection() -> None:
    server = Server(OK, OK, OK)
    async with pool_to(server.serve) as pool:
        sent = CIMultiDict({"X-B": "1", "x-a": "2"})
        assert await whole(await pool.call("POST", "messages?beta=true", sent, b"{}")) == (200, b"{}")
        assert await whole(await pool.call("GET", "models", CIMultiDict(), None)) == (200, b"{}")
        assert await whole(await pool.call("DELETE", "/files/1", CIMultiDict(), None)) == (200, b"{}")
    [[(post, body), (get, _), (delete, _)]] = server.connections
    host = next(line for line in post.split(b"\r\n") if line.startswith(b"Host: 127.0.0.1:"))
    lines = (b"POST /base/v1/messages?beta=true HTTP/1.1", host, b"X-B: 1", b"x-a: 2", b"Content-Length: 2", b"", b"")
    assert (post, body) == (b"\r\n".join(lines), b"{}")
    assert get == b"GET /base/v1/models HTTP/1.1\r\n" + host + b"\r\n\r\n"
    assert delete == b"DELETE /base/files/1 HTTP/1.1\r\n" + host + b"\r\nContent-Length: 0\r\n\r\n"


@on_a_loop
async def test_the_head_of_a_document_is_no_document() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", OK)
    async with pool_to(server.serve) as pool:
        assert await whole(await pool.call("HEAD", "models", CIMultiDict(), None)) == (200, b"")
        assert await whole(await pool.call("GET", "models", CIMultiDict(), None)) == (200, b"{}")
    assert len(server.connections) == 1


@on_a_loop
async def test_announcements_before_an_answer_are_none() -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with pool_to(Server(hints + OK).serve) as pool:
        assert await whole(await pool.call("POST", "x", CIMultiDict(), b"{}")) == (200, b"{}")


@on_a_loop
async def test_a_connection_whose_answer_was_not_read_is_not_used_again() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun", OK)
    async with pool_to(server.serve) as pool:
        begun = await pool.call("POST", "x", CIMultiDict(), b"{}")
        begun.close()
        assert await whole(await pool.call("POST", "x", CIMultiDict(), b"{}")) == (200, b"{}")
    assert len(server.connections) == 2


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False)])
@on_a_loop
async def test_only_what_may_be_made_twice_is_sent_again_on_a_connection_that_was_closed(
    method: str, again: bool
) -> None:
    server = Server(OK, b"", OK)
    async with pool_to(server.serve) as pool:
        await whole(await pool.call("GET", "x", CIMultiDict(), None))
        if again:
            assert await whole(await pool.call(method, "x", CIMultiDict(), b"{}")) == (200, b"{}")
        else:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await pool.call(method, "x", CIMultiDict(), b"{}")
    assert len(server.connections) == 1 + again


@on_a_loop
async def test_what_comes_unasked_is_not_taken_for_the_next_answer() -> None:
    async with pool_to(Server(OK + OK.replace(b"{}", b"[]"), OK).serve) as pool:
        assert await whole(await pool.call("POST", "x", CIMultiDict(), b"{}")) == (200, b"{}")
        assert await whole(await pool.call("POST", "x", CIMultiDict(), b"{}")) == (200, b"{}")


@on_a_loop
async def test_after_a_peak_the_connections_that_are_not_needed_are_closed() -> None:
    server = Server(*[OK] * 1000)
    async with pool_to(server.serve, keepalive_s=0.5) as pool:
        for answer in await asyncio.gather(*(pool.call("GET", "x", CIMultiDict(), None) for _ in range(20))):
            await whole(answer)
        while server.closed < 19:
            await whole(await pool.call("GET", "x", CIMultiDict(), None))
            await asyncio.sleep(0.01)
        assert sorted(map(len, server.connections))[:19] == [1] * 19


@on_a_loop
async def test_an_answer_may_come_before_the_body_was_read() -> None:
    async def refuse(reader: Reader, writer: Writer) -> None:
        await _head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.Event().wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield LARGE[: 1 << 16]

    async with pool_to(refuse) as pool:
        for body in (LARGE, endless()):
            assert await whole(await pool.call("POST", "files", CIMultiDict(), body)) == (413, b"{}")


@on_a_loop
async def test_a_body_in_pieces_is_sent_in_chunks_or_by_the_length_that_is_known() -> None:
    seen: list[bytes] = []

    async def serve(reader: Reader, writer: Writer) -> None:
        seen.append(await _head(reader) + await reader.readuntil(b"END"))
        writer.write(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two END"

    async with pool_to(serve) as pool:
        assert await whole(await pool.call("POST", "files", CIMultiDict(), pieces())) == (200, b"{}")
        length = CIMultiDict({"Content-Length": "11"})
        assert await whole(await pool.call("POST", "files", length, pieces())) == (200, b"{}")
    assert seen[0].endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none \r\n7\r\ntwo END")
    assert seen[1].endswith(b"\r\nContent-Length: 11\r\n\r\none two END")


@on_a_loop
async def test_a_body_that_breaks_off_ends_the_call() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ConnectionResetError

    async with pool_to(Server(OK).serve) as pool:
        with pytest.raises(aiohttp.ClientError):
            await pool.call("POST", "files", CIMultiDict({"Content-Length": "100"}), broken())


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
@on_a_loop
async def test_what_is_no_http_is_an_error(answer: bytes) -> None:
    async with pool_to(Server(answer).serve) as pool:
        with pytest.raises(aiohttp.ClientError):
            await pool.call("POST", "x", CIMultiDict(), b"{}")


@on_a_loop
async def test_an_answer_that_does_not_begin_in_time_is_a_timeout() -> None:
    async def silent(reader: Reader, _writer: Writer) -> None:
        await reader.read()

    async with pool_to(silent, answer_s=0.05) as pool:
        with pytest.raises(TimeoutError):
            await pool.call("POST", "x", CIMultiDict(), b"{}")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certs(tmp_path_factory.mktemp("certs"))


@on_a_loop
async def test_tls_is_spoken_with_whom_the_authorities_vouch_for(certs: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certs / "server.pem", certs / "server-key.pem")
    server = Server(OK, OK, OK)
    async with pool_to(server.serve, tls=tls, trust=ssl.create_default_context(cafile=certs / "ca.pem")) as pool:
        for body in (b"{}", LARGE):
            assert await whole(await pool.call("POST", "messages", CIMultiDict(), body)) == (200, b"{}")
    assert [len(body) for came in server.connections for _, body in came] == [2, len(LARGE)]
    async with pool_to(server.serve, tls=tls) as pool:
        with pytest.raises(aiohttp.ClientConnectorError):
            await pool.call("POST", "messages", CIMultiDict(), b"{}")
