"""The protocol around the surfaces: unknown paths, request ids, limits, and everything that is not quite HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
from harness import Daemon

RECORD = {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "units": {"input_tokens": 1}}
LIMIT = 1024 * 1024


def converse(daemon: Daemon, *parts: bytes, timeout_s: float = 10.0) -> bytes:
    """Send bytes as they are, and return everything until the daemon closes the connection."""
    host, _, port = daemon.ready["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionError:  # the daemon may hang up while we still send
            pass
        return received


def split(raw: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, json.loads(body) if body else None


def head(daemon: Daemon, *lines: str, path: str = "/v1/usage/record", method: str = "POST") -> bytes:
    first = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-API-Key: {daemon.admin_key}", "Connection: close"]
    return "\r\n".join([*first, *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/health/", "/nothing", "/api/costs", "/api/costs/a/b", "/v1/../v1/health"]
)
def test_an_unknown_path_is_a_404_in_our_form(daemon: Daemon, path: str) -> None:
    status, headers, body = split(converse(daemon, head(daemon, path=path, method="GET")))
    assert (status, body["code"], body["success"]) == (404, "NOT_FOUND", False)
    assert headers["x-request-id"] == body["requestId"]


def test_a_wrong_method_is_a_405_that_says_what_is_allowed(daemon: Daemon) -> None:
    response = daemon.client.delete("/api/ingest")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD, POST")
    body = response.json()
    assert body["error"] == "Method not allowed"
    assert "DELETE" in body["message"]
    assert daemon.client.get("/v1/preflight").headers["Allow"] == "POST"


def test_head_is_get_without_the_body(daemon: Daemon) -> None:
    response = daemon.client.head("/v1/health")
    assert (response.status_code, response.content) == (200, b"")
    assert daemon.client.head("/nothing").status_code == 404


def test_a_percent_encoded_path_is_the_same_path(daemon: Daemon) -> None:
    assert daemon.client.get("/v1/%68ealth").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/health", 405),
        ("POST", "/v1/usage/record", 400),
        ("GET", "/api/tokens?billingStartDate=x", 400),
    ],
)
def test_every_answer_carries_the_callers_request_id(daemon: Daemon, method: str, path: str, status: int) -> None:
    response = daemon.client.request(method, path, headers={"X-Request-Id": "trace/42 ok"})
    assert (response.status_code, response.headers["X-Request-Id"]) == (status, "trace/42 ok")
    made_up = daemon.client.request(method, path).headers["X-Request-Id"]
    assert len(made_up) == 36


@pytest.mark.parametrize("odd", ["x" * 129, "tab\there", "caf\xe9"])
def test_an_odd_request_id_is_replaced(daemon: Daemon, odd: str) -> None:
    response = daemon.client.get("/v1/health", headers={"X-Request-Id": odd.encode("latin-1")})
    assert (response.status_code, len(response.headers["X-Request-Id"])) == (200, 36)


def test_answers_are_not_for_caches_and_do_not_name_our_libraries(daemon: Daemon) -> None:
    headers = daemon.client.get("/v1/health").headers
    assert (headers["Cache-Control"], headers["Server"]) == ("no-store", "costd")


def padded(size: int) -> bytes:
    body = json.dumps(RECORD).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(daemon: Daemon) -> None:
    assert daemon.client.post("/v1/usage/record", content=padded(LIMIT)).status_code == 200
    response = daemon.client.post("/v1/usage/record", content=padded(LIMIT + 1))
    assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"10000\r\n" + b" " * 65536 + b"\r\n"


def test_a_body_without_a_length_is_cut_off_at_the_limit(daemon: Daemon) -> None:
    status, _, body = split(converse(daemon, head(daemon, "Transfer-Encoding: chunked"), *chunks(64)))
    assert (status, body["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_length_beyond_the_limit_is_refused_before_the_body_comes(daemon: Daemon) -> None:
    status, _, body = split(converse(daemon, head(daemon, "Content-Length: 2000000000"), b"{"))
    assert (status, body["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_compressed_bodies_are_taken_and_bombs_are_not(daemon: Daemon) -> None:
    def post(content: bytes, encoding: str) -> httpx.Response:
        return daemon.client.post("/v1/usage/record", content=content, headers={"Content-Encoding": encoding})

    body = json.dumps(RECORD).encode()
    assert post(gzip.compress(body), "gzip").status_code == 200
    assert post(zlib.compress(body), "deflate").status_code == 200
    assert post(gzip.compress(b" " * 50_000_000), "gzip").status_code == 413
    for content, encoding in ((body, "gzip"), (gzip.compress(body)[:20], "gzip"), (b"\x00" * 10, "deflate")):
        response = post(content, encoding)
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
    assert "Traceback" not in daemon.log


def test_chunked_bodies_are_taken(daemon: Daemon) -> None:
    body = json.dumps(RECORD).encode()
    framed = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert split(converse(daemon, head(daemon, "Transfer-Encoding: chunked"), framed))[0] == 200


def test_a_caller_that_waits_for_100_continue_gets_it(daemon: Daemon) -> None:
    body = json.dumps(RECORD).encode()
    host, _, port = daemon.ready["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head(daemon, "Expect: 100-continue", f"Content-Length: {len(body)}"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


MALFORMED = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "garbage": b"hello\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /v1/health HTTP/1.1\r\n\r\n",
    "long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 500 + b"\r\n",
    "bad length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "two framings": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "raw path": b"GET /api/costs/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "broken url": b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "control in header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x01\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_gets_a_400_in_our_form_and_the_connection_is_closed(daemon: Daemon, name: str) -> None:
    status, headers, body = split(converse(daemon, MALFORMED[name]))
    assert status in {400, 404}
    assert body["success"] is False
    assert headers["x-request-id"] == body["requestId"]
    assert "aaaa" not in body["message"]


BAD_JSON = {
    "nothing": b"",
    "text": b"hello",
    "nul": b"\x00",
    "cut": b'{"model": "m"',
    "trailing": b"{} {}",
    "bytes": b'{"model": "\xff\xfe"}',
    "utf-16": '{"model": "m"}'.encode("utf-16"),
    "bom": b"\xef\xbb\xbf{}",
    "lone surrogate": b'{"model": "\\ud800"}',
    "lone surrogate key": b'{"\\ud800": NaN}',
    "leading zero": b'{"model": 01}',
    "huge exponent": b'{"cost_usd": 1e99999999999999999999}',
    "many digits": b'{"cost_usd": ' + b"1" * 100_000 + b"}",
    "many decimals": b'{"cost_usd": 0.' + b"1" * 100_000 + b"}",
    "deep array": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep unknown": b'{"zzz":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep usage": b'{"usage":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "null": b"null",
    "list": b"[]",
    "number": b"1e400",
    "nan": b"NaN",
}
POSTS = [
    "/v1/preflight",
    "/v1/usage/record",
    "/v1/usage/records",
    "/v1/users/upsert",
    "/v1/projects/upsert",
    "/api/ingest",
    "/api/ingest/generate-key",
    "/api/tokens/track",
    "/api/costs/manual",
]


@pytest.mark.parametrize("path", POSTS)
def test_bad_json_is_never_more_than_a_400(daemon: Daemon, path: str) -> None:
    for name, content in BAD_JSON.items():
        response = daemon.client.post(path, content=content)
        if path == "/v1/usage/records" and response.status_code == 200:
            assert response.json()["recorded"] == 0, name
            continue
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR"), (name, response.text)


def test_a_repeated_field_counts_once_the_last(daemon: Daemon) -> None:
    content = b'{"user_external_id":"u","source_app":"a","model":"x","model":"gpt-4o","units":{"input_tokens":4}}'
    assert daemon.client.post("/v1/usage/record", content=content).json()["cost_usd"] == 0.00001


def test_a_slow_body_does_not_hold_up_others(daemon: Daemon) -> None:
    host, _, port = daemon.ready["http"].rpartition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head(daemon, "Content-Length: 100") + b"{")
        assert daemon.client.post("/v1/usage/record", json=RECORD).status_code == 200


def test_a_client_that_hangs_up_leaves_no_trace(daemon: Daemon) -> None:
    host, _, port = daemon.ready["http"].rpartition(":")
    for sent in (b"", b"POST /v1/us", head(daemon, "Content-Length: 100") + b"{"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    assert daemon.client.get("/v1/health").status_code == 200
    assert "Traceback" not in daemon.log


def test_pipelined_requests_are_answered_in_order(daemon: Daemon) -> None:
    first = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %d\r\n\r\n"
    last = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: 3\r\nConnection: close\r\n\r\n"
    received = converse(daemon, first % 1 + first % 2 + last)
    ids = [line.split()[1] for line in received.split(b"\r\n") if line.startswith(b"X-Request-Id:")]
    assert ids == [b"1", b"2", b"3"]


def test_many_idle_connections_leave_room_for_others(daemon: Daemon) -> None:
    host, _, port = daemon.ready["http"].rpartition(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    try:
        assert daemon.client.get("/v1/health").status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_stopping_answers_what_is_under_way_and_closes_what_is_idle(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    idle = httpx.Client(base_url=daemon.http_url, trust_env=False)
    idle.get("/v1/health")
    answers: list[int] = []
    going = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=daemon.http_url, trust_env=False, headers={"X-API-Key": daemon.admin_key}) as client:
            try:
                while True:
                    answers.append(client.post("/v1/usage/record", json=RECORD).status_code)
                    going.set()
            except httpx.TransportError:
                return

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert going.wait(10)
    started_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started_s < 8
    for thread in threads:
        thread.join()
    idle.close()
    assert set(answers) <= {200, 503}
    assert daemon.query("SELECT count(*) FROM event")[0][0] >= answers.count(200)


def test_a_port_in_use_is_said_with_the_way_out(launch: Callable[..., Daemon], tmp_path: Any) -> None:
    taken = launch().ready["http"]
    result = harness.costd(
        "run", "--data-dir", str(tmp_path / "other"), "--grpc-listen", "off", "--http-listen", taken, timeout_s=30
    )
    assert result.returncode != 0
    assert taken in result.stderr
    assert "--http-listen" in result.stderr
    assert "Traceback" not in result.stderr


def test_concurrent_callers_share_commits(daemon: Daemon) -> None:
    before = daemon.query("SELECT count(*) FROM ledger_commit")[0][0]

    async def burst() -> list[int]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=daemon.http_url, limits=limits, trust_env=False, headers={"X-API-Key": daemon.admin_key}
        ) as client:
            responses = await asyncio.gather(*(client.post("/v1/usage/record", json=RECORD) for _ in range(256)))
            return [response.status_code for response in responses]

    assert asyncio.run(burst()) == [200] * 256
    assert daemon.query("SELECT count(*) FROM ledger_commit")[0][0] - before < 256
