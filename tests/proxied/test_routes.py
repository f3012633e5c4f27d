"""Which calls cost and how they are read, and that no path leads out of an upstream."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

import pytest
from cuts import unhurried
from hypothesis import given
from hypothesis import strategies as st

from costd.domain.proxied.readers import DocumentReader, EventReader, OpaqueReader
from costd.domain.proxied.routes import ENDPOINTS, Kind, clean_path, route_of, seller


@pytest.mark.parametrize(
    ("method", "path", "kind", "endpoint"),
    [
        ("POST", "chat/completions", Kind.METERED, "chat/completions"),
        ("POST", "deployments/gpt-4o/chat/completions", Kind.METERED, "chat/completions"),
        ("POST", "openai/deployments/x/embeddings", Kind.METERED, "embeddings"),
        ("POST", "openai/v1/responses", Kind.METERED, "responses"),
        ("POST", "messages", Kind.METERED, "messages"),
        ("POST", "completions", Kind.METERED, "completions"),
        ("POST", "images/edits", Kind.METERED, "images/edits"),
        ("POST", "audio/speech", Kind.METERED, "audio/speech"),
        ("POST", "threads/t_1/messages", Kind.UNKNOWN, "other"),
        ("POST", "models/gemini-2.5-pro:generateContent", Kind.UNKNOWN, "other"),
        ("POST", "chat%2Fcompletions", Kind.UNKNOWN, "other"),
        ("POST", "videos", Kind.UNKNOWN, "other"),
        ("POST", "messages/count_tokens", Kind.FREE, "count_tokens"),
        ("POST", "messages/batches", Kind.ORDER, "batches"),
        ("POST", "messages/batches/msgbatch_1/cancel", Kind.RESULT, "batches"),
        ("POST", "batches", Kind.ORDER, "batches"),
        ("POST", "openai/v1/batches", Kind.ORDER, "batches"),
        ("POST", "batches/batch_1/cancel", Kind.RESULT, "batches"),
        ("GET", "batches/batch_1", Kind.RESULT, "batches"),
        ("GET", "batches", Kind.FREE, "batches"),
        ("GET", "messages/batches", Kind.FREE, "batches"),
        ("DELETE", "messages/batches/msgbatch_1", Kind.FREE, "batches"),
        ("POST", "files", Kind.UPLOAD, "files"),
        ("GET", "files", Kind.FREE, "files"),
        ("POST", "uploads/u_1/parts", Kind.FREE, "uploads"),
        ("POST", "moderations", Kind.FREE, "moderations"),
        ("POST", "responses/input_tokens", Kind.FREE, "input_tokens"),
        ("POST", "responses/resp_1/cancel", Kind.RESULT, "responses"),
        ("GET", "responses/resp_1", Kind.RESULT, "responses"),
        ("GET", "responses/resp_1/input_items", Kind.FREE, "responses"),
        ("DELETE", "responses/resp_1", Kind.FREE, "responses"),
        ("GET", "files/file-1/content", Kind.BATCH, "batches"),
        ("GET", "messages/batches/msgbatch_1/results", Kind.BATCH, "batches"),
        ("GET", "messages/batches/msgbatch_1", Kind.RESULT, "batches"),
        ("GET", "models", Kind.FREE, "models"),
        ("GET", "models/meta-llama%2FLlama-3", Kind.FREE, "models"),
        ("GET", "chat/completions", Kind.FREE, "chat/completions"),
        ("GET", "fine_tuning/jobs", Kind.FREE, "other"),
    ],
)
def test_a_route_is_known_for_what_it_costs(method: str, path: str, kind: Kind, endpoint: str) -> None:
    assert clean_path(path) == path
    route = route_of(method, path)
    assert (route.kind, route.endpoint) == (kind, endpoint)
    assert route.endpoint in ENDPOINTS
    assert route.is_paid == (kind in {Kind.METERED, Kind.UNKNOWN})
    assert route.is_asked == (kind in {Kind.METERED, Kind.UNKNOWN, Kind.ORDER})


def test_what_sdks_add_is_left_out() -> None:
    assert clean_path("/v1/messages") == "messages"
    assert clean_path("v1/chat/completions") == "chat/completions"
    assert clean_path("chat/completions") == "chat/completions"
    assert clean_path("openai/v1/responses") == "openai/v1/responses"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "v1/",
        "//evil.example/x",
        "chat//completions",
        "chat/completions/",
        "..",
        "../admin",
        "v1/../admin",
        "files/../../admin",
        "files/./x",
        "files/%2e%2e/x",
        "files/%2E./x",
        "files/%252e%252e/x",
        "files/%25252e%25252e/x",
        "files/%2525252525252e",
        "files/..%2fadmin",
        "files%2f..%2fadmin",
        "files/..;/admin",
        "files/..%3bx/admin",
        "files\\..\\admin",
        "files/%5c../admin",
        "https://evil.example/",
        "http:%2f%2fevil.example",
        "@evil.example//x",
        "files/%00",
        "files/%0d%0aHost:%20evil",
        "files/a b",
        "files/a#b",
        "files/a?b",
        "files/\u00e4",
        "files/%ff",
        "files/%zz",
        "files/%",
        "x" * 1025,
    ],
)
def test_no_path_leads_out(path: str) -> None:
    assert clean_path(path) is None


@unhurried
@given(st.text(alphabet="ab./\\%2ef5c;:@?#\x00é", max_size=20), st.integers(0, 3))
def test_whatever_may_be_called_stays_below(path: str, encodings: int) -> None:
    for _ in range(encodings):
        path = quote(path, safe="/%")
    cleaned = clean_path(path)
    if cleaned is None:
        return
    for _ in range(6):
        segments = cleaned.replace("\\", "/").split("/")
        assert all(segment.split(";")[0] not in {"", ".", ".."} for segment in segments)
        cleaned = unquote(cleaned)


def test_decisions_are_sold_at_prices_of_their_own() -> None:
    assert seller("openai", "decisions") == "openai-decisions"
    assert seller("openai", "responses") == "openai"
    assert seller("perplexity", "decisions") == "perplexity"


def test_usage_is_hidden_where_it_is_asked_for() -> None:
    hiding = {endpoint for endpoint in ENDPOINTS if route_of("POST", endpoint).can_hide_usage}
    assert hiding == {"chat/completions", "completions"}


def test_the_answer_says_how_it_is_read() -> None:
    route = route_of("POST", "chat/completions")
    assert isinstance(route.reader(200, "application/json", json.loads, streams=True), DocumentReader)
    assert isinstance(route.reader(200, "text/plain", json.loads, streams=True), EventReader)
    assert isinstance(route.reader(200, "Text/Event-Stream", json.loads), EventReader)
    assert isinstance(route.reader(200, "text/plain", json.loads), OpaqueReader)
    assert isinstance(route.reader(400, "text/event-stream", json.loads), OpaqueReader)
    assert isinstance(route_of("GET", "models").reader(200, "application/json", json.loads), OpaqueReader)
