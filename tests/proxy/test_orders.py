"""Batches and background responses: asked of budgets when they are ordered, billed when their results are fetched."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web

import harness
from budget_calls import USD_NANO, set_budget, standing
from harness import Daemon
from proxy_upstream import Upstream, upstream

MODEL = "claude-sonnet-4-5"  # $3 for a million input tokens, $15 of output; half of that in a batch
RESPONSE = {"object": "response", "model": "gpt-4o", "background": True, "output": [], "usage": None}
USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
LIMIT = "65536"


def batch(state: str) -> dict[str, Any]:
    """A batch object of Anthropic's."""
    url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
    said = {"id": "msgbatch_1", "type": "message_batch", "processing_status": state}
    return {**said, "results_url": url if state == "ended" else None}


def line(number: int) -> bytes:
    """The result of one request of it."""
    usage = {"input_tokens": 1000, "output_tokens": 100}
    message = {"id": f"msg_{number}", "type": "message", "model": MODEL, "content": [], "usage": usage}
    return json.dumps({"custom_id": str(number), "result": {"type": "succeeded", "message": message}}).encode() + b"\n"


async def background(request: web.Request) -> web.StreamResponse:
    """Works in the background; as a stream it breaks off after the first event."""
    sent = await request.json()
    said = {**RESPONSE, "id": f"resp_{sent['input']}", "status": "queued"}
    if not sent.get("stream"):
        return web.json_response(said)
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(b"data: " + json.dumps({"type": "response.created", "response": said}).encode() + b"\n\n")
    delta = {"type": "response.output_text.delta", "delta": "some words that were seen"}
    await answer.write(b"data: " + json.dumps(delta).encode() + b"\n\n")
    await asyncio.sleep(0.05)
    assert request.transport is not None
    request.transport.abort()
    return answer


async def order(request: web.Request) -> web.StreamResponse:
    """OpenAI's and Anthropic's, as far as they are ordered and fetched."""
    path = request.path.removeprefix("/v1/")
    if path == "responses":
        return await background(request)
    if found := re.fullmatch(r"responses/(\w+)", path):
        return web.json_response({**RESPONSE, "id": found[1], "status": "completed", "usage": USAGE})
    if path == "files":
        return web.json_response({"id": "file_1", "object": "file", "purpose": "batch", "status": "processed"})
    if path == "batches":
        return web.json_response({"id": "batch_1", "object": "batch", "status": "validating", "output_file_id": None})
    if path == "batches/batch_1":
        return web.json_response(
            {"id": "batch_1", "object": "batch", "status": "completed", "output_file_id": "file_9"}
        )
    if path == "files/file_9/content":
        body = {"object": "chat.completion", "model": "gpt-4o", "usage": {"prompt_tokens": 5, "completion_tokens": 5}}
        text = json.dumps({"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200, "body": body}})
        return web.Response(body=text.encode() + b"\n", content_type="application/jsonl")
    if path.endswith("/results"):
        return web.Response(body=line(1) + line(2), content_type="application/x-jsonl")
    if path == "messages/batches" and request.method == "GET":
        return web.json_response({"data": [batch("ended")], "has_more": False})
    return web.json_response(batch("ended" if request.method == "GET" else "in_progress"))


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream(order) as made:
        yield made


@pytest.fixture(scope="module")
def proxied(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    where = (f"{name}={provider.base}" for name in ("openai", "anthropic"))
    flags = [flag for each in where for flag in ("--upstream", each)]
    daemon = harness.start(tmp_path_factory.mktemp("orders") / "data", *flags, "--proxy-body-bytes", LIMIT)
    set_budget(daemon, "all", 10_000, scope={"source_app": "proxy"})
    yield daemon
    daemon.kill()


def call(daemon: Daemon, method: str, route: str, body: object = None, **said: str) -> httpx.Response:
    headers = {"X-Provider-Key": "sk-x", **said}
    return daemon.client.request(method, f"/api/proxy/v1/{route}", json=body, headers=headers)


def requests(*limits: int, text: str = "hi") -> dict[str, Any]:
    """A batch whose requests have these limits of output."""
    messages = [{"role": "user", "content": text}]
    params = ({"model": MODEL, "max_tokens": limit, "messages": messages} for limit in limits)
    return {"requests": [{"custom_id": str(n), "params": each} for n, each in enumerate(params)]}


def gauge(daemon: Daemon, name: str) -> dict[str, float]:
    """The samples of a gauge, by their labels as text."""
    found = re.findall(rf"^{name}(\S*) (\S+)$", daemon.client.get("/metrics").text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def awaited(daemon: Daemon, upstream: str, endpoint: str) -> float:
    labels = f'{{endpoint="{endpoint}",upstream="{upstream}"}}'
    return gauge(daemon, "costd_proxy_results_awaited").get(labels, 0.0)


def reservations(daemon: Daemon) -> float:
    return gauge(daemon, "costd_reservations_open")[""]


def records(daemon: Daemon, endpoint: str) -> list[tuple[Any, ...]]:
    """(input, output, status) of all of them."""
    return daemon.query(
        "SELECT input_tokens, output_tokens, status FROM event JOIN series ON series.id = series_id WHERE endpoint = ?",
        endpoint,
    )


def test_a_batch_of_messages_reserves_what_its_requests_may_cost_until_its_results_are_fetched(proxied: Daemon) -> None:
    made = call(proxied, "POST", "anthropic/v1/messages/batches", requests(1_000_000, 1_000_000))
    assert made.json() == batch("in_progress")
    reserved = standing(proxied, "all").reserved_nano_usd
    assert 15 * USD_NANO <= reserved < 15.001 * USD_NANO, "at the price of batches"
    assert (reservations(proxied), awaited(proxied, "anthropic", "batches")) == (1.0, 1.0)
    looked = call(proxied, "GET", "anthropic/v1/messages/batches/msgbatch_1").json()
    own = f"{str(proxied.client.base_url).rstrip('/')}/api/proxy/v1/anthropic/v1/messages/batches/msgbatch_1/results"
    assert looked == {**batch("ended"), "results_url": own}
    behind = {"X-Forwarded-Proto": "https"}
    told = call(proxied, "GET", "anthropic/v1/messages/batches/msgbatch_1", **behind).json()
    assert told["results_url"] == own.replace("http://", "https://")
    assert call(proxied, "GET", "anthropic/v1/messages/batches").json()["data"] == [looked]
    assert (reservations(proxied), awaited(proxied, "anthropic", "batches")) == (1.0, 1.0)
    for _ in range(2):
        got = proxied.client.get(looked["results_url"], headers={"X-Provider-Key": "sk-x"})
        assert got.content == line(1) + line(2)
    harness.until(lambda: len(records(proxied, "batches")) == 2, "the records", 30)
    assert set(records(proxied, "batches")) == {(1000, 100, "success")}
    assert (reservations(proxied), awaited(proxied, "anthropic", "batches")) == (0.0, 0.0)


def test_a_batch_of_an_unknown_file_reserves_next_to_nothing_until_its_results_are_fetched(
    proxied: Daemon,
) -> None:
    body = {"input_file_id": "file_0", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert call(proxied, "POST", "openai/v1/batches", body).json()["status"] == "validating"
    assert standing(proxied, "all").reserved_nano_usd == 1
    assert awaited(proxied, "openai", "batches") == 1
    assert call(proxied, "GET", "openai/v1/batches/batch_1").json()["output_file_id"] == "file_9"
    assert (reservations(proxied), awaited(proxied, "openai", "batches")) == (1.0, 1.0)
    before = len(records(proxied, "batches"))
    assert call(proxied, "GET", "openai/v1/files/file_9/content").status_code == 200
    harness.until(lambda: len(records(proxied, "batches")) == before + 1, "the record", 30)
    assert (reservations(proxied), awaited(proxied, "openai", "batches")) == (0.0, 0.0)


def upload(daemon: Daemon, *requests: dict[str, Any]) -> httpx.Response:
    """The input file of a batch, as SDKs upload it."""
    lines = (
        json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": each}) for each in requests
    )
    form = {"file": ("in.jsonl", "\n".join(lines).encode(), "application/jsonl")}
    url = "/api/proxy/v1/openai/v1/files"
    return daemon.client.post(url, data={"purpose": "batch"}, files=form, headers={"X-Provider-Key": "sk-x"})


def test_a_batch_whose_file_was_uploaded_here_reserves_what_is_in_it(proxied: Daemon, provider: Upstream) -> None:
    """Of gpt-4o, $10 for a million output tokens, half of that in a batch; one that there is no money for is denied."""
    body = {"input_file_id": "file_1", "endpoint": "/v1/responses", "completion_window": "24h"}
    request = {"model": "gpt-4o", "input": "hi", "max_output_tokens": 1_000_000}
    assert upload(proxied, request, request).json()["id"] == "file_1"
    assert call(proxied, "POST", "openai/v1/batches", body).status_code == 200
    assert 10 * USD_NANO <= standing(proxied, "all").reserved_nano_usd < 10.001 * USD_NANO
    call(proxied, "GET", "openai/v1/batches/batch_1")
    assert call(proxied, "GET", "openai/v1/files/file_9/content").status_code == 200
    assert upload(proxied, *[request] * 100).json()["id"] == "file_1"
    before = len(provider.requests)
    denied = call(proxied, "POST", "openai/v1/batches", body)
    assert (denied.status_code, denied.json()["budget"]["name"], len(provider.requests)) == (429, "all", before)
    assert reservations(proxied) == 0


def test_a_batch_larger_than_what_is_read_passes_and_is_asked_of_budgets_all_the_same(
    proxied: Daemon, provider: Upstream
) -> None:
    body = requests(*range(1, 9), text="x" * (int(LIMIT) // 8))
    assert call(proxied, "POST", "anthropic/v1/messages/batches", body).status_code == 200
    assert json.loads(provider.requests[-1].body) == body
    assert standing(proxied, "all").reserved_nano_usd == 1
    assert call(proxied, "GET", "anthropic/v1/messages/batches/msgbatch_1/results").status_code == 200
    assert reservations(proxied) == 0


@pytest.mark.parametrize("streams", [False, True])
def test_a_background_response_stays_reserved_and_is_billed_once_when_it_is_fetched(
    streams: bool, proxied: Daemon
) -> None:
    """Also one whose stream broke off: its caller takes it up again later, and then there is its usage."""
    ident = f"s{int(streams)}"
    before = len(records(proxied, "responses"))
    body = {"model": "gpt-4o", "input": ident, "background": True, "stream": streams, "max_output_tokens": 1000}
    if streams:
        with pytest.raises(httpx.RemoteProtocolError):
            call(proxied, "POST", "openai/v1/responses", body)
    else:
        assert call(proxied, "POST", "openai/v1/responses", body).json()["status"] == "queued"
    assert (reservations(proxied), awaited(proxied, "openai", "responses")) == (1.0, 1.0)
    assert standing(proxied, "all").reserved_nano_usd > USD_NANO // 1000
    for _ in range(2):
        assert call(proxied, "GET", f"openai/v1/responses/resp_{ident}").json()["usage"] == USAGE
    harness.until(lambda: len(records(proxied, "responses")) > before, "the record", 30)
    assert records(proxied, "responses")[before:] == [(1000, 100, "success")]
    assert (reservations(proxied), awaited(proxied, "openai", "responses")) == (0.0, 0.0)


ORDERS: dict[str, tuple[str, object]] = {
    "messages": ("anthropic/v1/messages/batches", requests(10)),
    "file": ("openai/v1/batches", {"input_file_id": "file_0", "endpoint": "/v1/responses"}),
    "background": ("openai/v1/responses", {"model": "gpt-4o", "input": "x", "background": True}),
}


@pytest.mark.parametrize("kind", sorted(ORDERS))
def test_nothing_is_ordered_once_a_hard_budget_is_spent(kind: str, proxied: Daemon, provider: Upstream) -> None:
    set_budget(proxied, "spent", 1, scope={"team": "spent"})
    headers = {"Authorization": f"Bearer {proxied.key(kind, team='spent')}", "X-Provider-Key": "sk-x"}
    used = {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "units": {"input_tokens": 4000}}
    assert proxied.client.post("/v1/usage/record", json=used, headers=headers).json()["cost_usd"] == 0.01
    before = len(provider.requests)
    route, body = ORDERS[kind]
    denied = proxied.client.post(f"/api/proxy/v1/{route}", json=body, headers=headers)
    assert (denied.status_code, denied.headers["x-should-retry"]) == (429, "false"), denied.text
    error = denied.json()["error"]
    assert error["type"] == ("rate_limit_error" if kind == "messages" else "insufficient_quota")
    assert len(provider.requests) == before
    assert reservations(proxied) == 0


def test_a_batch_that_one_of_its_models_has_no_money_for_reserves_nothing(proxied: Daemon) -> None:
    set_budget(proxied, "opus", 1, scope={"model": "claude-opus-4-1"})
    body = requests(10, 10)
    body["requests"][1]["params"]["model"] = "claude-opus-4-1"
    body["requests"][1]["params"]["max_tokens"] = 1_000_000
    denied = call(proxied, "POST", "anthropic/v1/messages/batches", body)
    assert (denied.status_code, denied.json()["budget"]["name"]) == (429, "opus")
    assert reservations(proxied) == 0
