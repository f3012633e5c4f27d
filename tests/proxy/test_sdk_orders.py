"""Batches and background responses as the SDKs order and fetch them: recorded when they are fetched, once."""

from __future__ import annotations

import json
from typing import Any

import anthropic

import fake_storage
from anthropic_uses import MESSAGE
from fake_provider import ANSWER, PROMPT, FakeProvider
from harness import Daemon
from proxied_calls import KEY, anthropic_at, made, newest, openai_at
from wrapping import check, cost_nano, same


def by_slug(daemon: Daemon) -> anthropic.Anthropic:
    """The SDK at a proxy endpoint, with the provider's key alone."""
    endpoint = daemon.client.post("/api/proxy-endpoints", json={"name": "orders"}).json()
    url = f"{daemon.http_url}/proxy/{endpoint['slug']}"
    return anthropic.Anthropic(api_key=KEY, base_url=url, max_retries=0)


def are_of_a_batch(records: list[Any], model: str, provider: str) -> None:
    """That every record has the units of one request, at the price of batches."""
    context = {"processing": "batch"}
    for record in records:
        assert {name: int(count) for name, count in record.units.items()} == fake_storage.BATCH_UNITS
        said = [record.dimensions[name] for name in ("endpoint", "model", "provider", "status")]
        assert said == ["batches", model, provider, "success"]
        assert dict(record.price_context) == context
        whole = cost_nano(fake_storage.BATCH_UNITS, model, provider, {}, record.time_ms)
        assert record.cost_nano_usd * 2 == whole


def test_a_batch_of_messages(proxied: Daemon, provider: FakeProvider) -> None:
    """Its results lie at an absolute address, which is costd's own here. Fetched again, by a slug, it costs nothing."""
    before = made(proxied)
    params: Any = MESSAGE
    for make in (anthropic_at, by_slug):
        with make(proxied) as client:
            batch = client.messages.batches.create(requests=[{"custom_id": "1", "params": params}])
            assert batch.to_dict(mode="json", exclude_unset=True)["id"] == fake_storage.CLAUDE_BATCH["id"]
            assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
            assert [one.id for one in client.messages.batches.list()] == [batch.id]
            results = list(client.messages.batches.results(batch.id))
        assert [json.loads(line)["custom_id"] for line in fake_storage.BATCH_RESULTS.splitlines()] == [
            one.custom_id for one in results
        ]
        assert [one.result.type for one in results] == ["succeeded", "succeeded", "expired"]
        assert provider.received[-1].path == "/v1/messages/batches/msgbatch_1/results"
        keys = [value for value in provider.received[-1].headers.values() if value.removeprefix("Bearer ") == KEY]
        assert len(keys) == 1
        assert proxied.admin_key not in str(provider.received[-1])
        are_of_a_batch(newest(proxied, before, 2), MESSAGE["model"], "anthropic")


def test_a_batch_of_a_file(proxied: Daemon, provider: FakeProvider) -> None:
    before = made(proxied)
    with openai_at(proxied) as client:
        upload = client.files.create(file=("in.jsonl", b"{}\n"), purpose="batch")
        batch = client.batches.create(input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h")
        ended = client.batches.retrieve(batch.id)
        assert ended.output_file_id == "file-out"
        for _ in range(2):
            assert client.files.content(ended.output_file_id).read() == fake_storage.BATCH_OUTPUT
            are_of_a_batch(newest(proxied, before, 2), "gpt-4o", "openai")
    # What is fetched again was not sent wrongly by anybody.
    metrics = proxied.client.get("/metrics").text
    assert 'costd_records_duplicate_total{door="proxy"}' in metrics
    assert 'costd_records_rejected_total{door="proxy",reason="conflict"}' not in metrics
    assert provider.received[-1].path == "/v1/files/file-out/content"


def test_a_response_in_the_background(proxied: Daemon, provider: FakeProvider) -> None:
    """Recorded when it has been worked on, however often it is looked at."""
    before = made(proxied)
    provider.next(looks=1, cached=5)
    with openai_at(proxied) as client:
        ordered = client.responses.create(model="gpt-5", input=PROMPT, background=True)
        assert (ordered.status, made(proxied)) == ("queued", before)
        assert client.responses.retrieve(ordered.id).status == "in_progress"
        done = client.responses.retrieve(ordered.id)
        assert (done.status, done.output_text) == ("completed", ANSWER)
        assert same(client.responses.retrieve(ordered.id), done)
    (record,) = newest(proxied, before)
    check(record, provider.last, "gpt-5", provider="openai", context={})
    assert provider.received[-1].path == f"/v1/responses/{ordered.id}"
