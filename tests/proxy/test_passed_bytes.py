"""What passes through, byte for byte: bodies on their way up, answers however they are packed and cut, late ends."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import anthropic
import brotli
import httpx
import openai
import pytest
import zstandard
from aiohttp import web

import harness
from anthropic_uses import MODEL
from budget_calls import set_budget
from harness import Daemon, costd
from proxy_upstream import Upstream, upstream

KEY = "sk-the-providers-own"
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
WORD = {**HEAD, "choices": [{"index": 0, "delta": {"content": "wörd "}, "finish_reason": None}]}
USAGE = {**HEAD, "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}
DONE = b"data: [DONE]\r\n\r\n"
STREAM = b"".join(b"data: " + json.dumps(said).encode() + b"\r\n\r\n" for said in (WORD, WORD, WORD, USAGE)) + DONE
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
#: Odd on purpose: spaces, escapes, an order and numbers that nothing would write again as they are.
ODD = b'{ "model" :"gpt-4o-mini","_aipromptcost": {"prompt_key":"p"}, "n":1.0e0,\n "messages":[{"role":"user",'
ODD += b'"content":"\\u00e9 {\\"_aipromptcost\\": 1}"}], "stream":true, "stream_options":{"include_usage":true} }'
KEPT = ODD.replace(b'"_aipromptcost": {"prompt_key":"p"}, ', b"")


async def answer(request: web.Request) -> web.StreamResponse:
    """Whatever the `x-wanted` header says."""
    wanted = request.headers.get("x-wanted", "")
    if wanted == "silent":
        await asyncio.sleep(3)
    if wanted == "overloaded":
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return web.json_response({"type": "error", "error": error, "request_id": "req_1"}, status=529)
    if wanted == "odd counts":
        usage = {"prompt_tokens": 11, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 9}}
        return web.json_response({**HEAD, "object": "chat.completion", "choices": [], "usage": usage})
    if request.path.endswith("/files"):
        return web.json_response({"id": "file-1", "object": "file", "bytes": len(await request.read())})
    headers = {"content-type": "text/event-stream"}
    body = STREAM
    if wanted in PACKERS:
        headers["content-encoding"] = wanted
        body = PACKERS[wanted](STREAM)
    out = web.StreamResponse(headers=headers)
    await out.prepare(request)
    size = 1 if wanted != "late" else len(body)
    for start in range(0, len(body), size):
        await out.write(body[start : start + size])
        await asyncio.sleep(0)
    if wanted == "late":
        await asyncio.sleep(4)
    return out


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream(answer) as made:
        yield made


@pytest.fixture(scope="module")
def proxied(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("passed")
    tables = [f'[proxy.upstreams.{name}]\nbase_url = "{provider.base}"\n' for name in ("openai", "anthropic", "hasty")]
    (folder / "costd.toml").write_text("\n".join([*tables, "answer_s = 1"]))  # of the last of them
    daemon = harness.start(folder / "data", "--config", str(folder / "costd.toml"))
    set_budget(daemon, "all", 10_000, scope={"model": "gpt-4o-mini"})  # so that every call reserves
    yield daemon
    daemon.kill()


def url(daemon: Daemon, rest: str) -> str:
    return f"{str(daemon.client.base_url).rstrip('/')}/api/proxy/v1/{rest}"


def headers(daemon: Daemon, wanted: str = "") -> dict[str, str]:
    said = {"Authorization": f"Bearer {daemon.admin_key}", "X-Provider-Key": KEY, "x-wanted": wanted}
    return {**said, "content-type": "application/json"}


def sums(daemon: Daemon) -> tuple[int, int, int]:
    """How many records there are, and their tokens."""
    found: tuple[int, int, int] = daemon.query(
        "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM event"
    )[0]
    return found


def is_sold_once_more(daemon: Daemon, before: tuple[int, int, int]) -> None:
    wanted = (before[0] + 1, before[1] + 11, before[2] + 3)
    harness.until(lambda: sums(daemon)[0] > before[0], "the record", 30)
    assert sums(daemon) == wanted


@pytest.mark.parametrize("packed", ["", *PACKERS])
def test_a_stream_cut_at_every_byte_passes_as_it_came(packed: str, proxied: Daemon, provider: Upstream) -> None:
    before = sums(proxied)
    with httpx.stream(
        "POST", url(proxied, "openai/chat/completions"), content=ODD, headers=headers(proxied, packed), timeout=30
    ) as got:
        assert got.headers.get("content-encoding", "") == packed
        assert b"".join(got.iter_raw()) == (PACKERS[packed](STREAM) if packed else STREAM)
    is_sold_once_more(proxied, before)
    assert provider.requests[-1].body == KEPT


def test_usage_that_costd_alone_asked_for_is_taken_out(proxied: Daemon, provider: Upstream) -> None:
    before = sums(proxied)
    plain = KEPT.replace(b', "stream_options":{"include_usage":true}', b"")
    got = httpx.post(url(proxied, "openai/chat/completions"), content=plain, headers=headers(proxied), timeout=30)
    assert got.content == STREAM.replace(b"data: " + json.dumps(USAGE).encode() + b"\r\n\r\n", b"")
    is_sold_once_more(proxied, before)
    assert json.loads(provider.requests[-1].body) == {**json.loads(plain), "stream_options": {"include_usage": True}}


def test_counts_that_cannot_be_are_recorded_without_what_makes_them_so(proxied: Daemon) -> None:
    """More reasoning than output: the record is kept all the same, once, with its tokens."""
    before = sums(proxied)
    said = headers(proxied, "odd counts")
    got = httpx.post(url(proxied, "openai/chat/completions"), content=KEPT, headers=said, timeout=30)
    assert got.json()["usage"]["completion_tokens_details"] == {"reasoning_tokens": 9}
    is_sold_once_more(proxied, before)
    assert "recorded in part" in proxied.log


def test_the_end_of_a_stream_does_not_wait_for_an_upstream_that_stays_open(proxied: Daemon) -> None:
    before = sums(proxied)
    got = b""
    with httpx.stream(
        "POST", url(proxied, "openai/chat/completions"), content=ODD, headers=headers(proxied, "late"), timeout=2
    ) as stream:
        for piece in stream.iter_raw():
            got += piece
            if got.endswith(DONE):
                break
    assert got == STREAM
    is_sold_once_more(proxied, before)


def test_an_upstream_that_says_nothing_is_a_504(proxied: Daemon) -> None:
    keys = {"X-Provider-Key": KEY, "x-wanted": "silent"}
    client = openai.OpenAI(
        api_key=proxied.admin_key, base_url=url(proxied, "hasty"), default_headers=keys, max_retries=0
    )
    with client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
    assert raised.value.status_code == 504
    assert "costd_reservations_open 0.0" in proxied.client.get("/metrics").text


def test_an_overloaded_anthropic_is_the_sdks_own_error(proxied: Daemon) -> None:
    client = anthropic.Anthropic(
        api_key="unused", base_url=url(proxied, "anthropic"), default_headers=headers(proxied, "overloaded")
    )
    with client, pytest.raises(anthropic.APIStatusError) as raised:
        client.with_options(max_retries=0).messages.create(
            model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "hi"}]
        )
    assert raised.value.status_code == 529
    assert raised.value.response.json()["request_id"] == "req_1"


def test_an_upload_larger_than_any_body_that_is_read_streams_through(proxied: Daemon, provider: Upstream) -> None:
    """40 MiB, where 32 are the most that would be read into memory; sent without a length."""
    piece = b"x" * (1 << 20)
    said = {**headers(proxied), "content-type": "application/octet-stream"}
    got = httpx.post(url(proxied, "openai/files"), content=(piece for _ in range(40)), headers=said, timeout=60)
    assert got.json()["bytes"] == 40 << 20
    assert provider.requests.pop().body == piece * 40
    assert proxied.query("SELECT count(*) FROM series WHERE endpoint = 'files'") == [(0,)]


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_where_budgets_have_no_room_to_answer_a_call_is_made_or_refused_as_said(
    on_failure: str, provider: Upstream, tmp_path: Path
) -> None:
    """One call holds the only reservation there is room for."""
    room = ("--budgets-max-reservations", "1", "--proxy-on-failure", on_failure)
    daemon = harness.start(tmp_path / "data", "--upstream", f"openai={provider.base}", *room)
    amount = ("--scope", "model=gpt-4o-mini", "--amount", "100", "--data-dir", str(tmp_path / "data"))
    assert costd("budgets", "set", "all", *amount).returncode == 0
    asked = {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "request_id": "first",
        "user_external_id": "u",
        "source_app": "a",
    }
    first = daemon.client.post("/v1/preflight", json={**asked, "estimated_units": {"input_tokens": 10}})
    assert first.json()["allow"] is True, first.text
    before = len(provider.requests)
    got = httpx.post(url(daemon, "openai/chat/completions"), content=ODD, headers=headers(daemon), timeout=30)
    if on_failure == "open":
        assert (got.status_code, got.content) == (200, STREAM)
    else:
        assert (got.status_code, len(provider.requests)) == (503, before), got.text
        assert got.json()["error"]["message"]
    daemon.kill()
