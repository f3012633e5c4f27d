"""What an order of a batch may use, and where its results are said to be."""

from __future__ import annotations

import json

import pytest

from costd.domain.proxied.batch_orders import MAX_MODELS, ordered, with_results_at
from costd.domain.proxied.readers import BatchObjectReader, DocumentReader
from costd.domain.proxied.routes import result_id, route_of

BASE = "http://localhost:7431/api/proxy/v1/anthropic/v1"
ENDED = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
}


def request(model: object, limit: int) -> dict[str, object]:
    return {"custom_id": "a", "params": {"model": model, "max_tokens": limit, "messages": []}}


def test_an_order_is_what_its_requests_are_by_model() -> None:
    body = {"requests": [request("opus", 100), request("haiku", 10), request("opus", 1)]}
    assert ordered(body, 4096) == {
        "opus": {"input_tokens": 0, "output_tokens": 101},
        "haiku": {"input_tokens": 0, "output_tokens": 10},
    }


def test_models_beyond_the_bound_count_as_the_last() -> None:
    body = {"requests": [request(f"m{number}", 1) for number in range(MAX_MODELS + 3)]}
    found = ordered(body, 4096)
    assert len(found) == MAX_MODELS
    assert sum(units["output_tokens"] for units in found.values()) == MAX_MODELS + 3


@pytest.mark.parametrize(
    "body", [{}, {"requests": 1}, {"requests": [1, {}, {"params": []}]}, {"input_file_id": "f"}, {"requests": None}]
)
def test_an_order_without_requests_says_nothing(body: dict[str, object]) -> None:
    assert ordered(body, 4096) == {}


def test_requests_that_name_no_model_are_those_of_the_last() -> None:
    assert ordered({"requests": [request(7, 5), request("m", 1), request(None, 2)]}, 1)["m"]["output_tokens"] == 3


def test_results_are_said_to_be_at_costd_and_nothing_else_changes() -> None:
    text = json.dumps({"data": [ENDED, {**ENDED, "results_url": None}], "has_more": False}, indent=1).encode()
    assert with_results_at(BASE.encode(), text) == text.replace(b"https://api.anthropic.com/v1", BASE.encode())
    odd = b'{"x": "\\"results_url\\":\\"https://h/messages/batches/1/results\\""}'
    assert with_results_at(BASE.encode(), odd) == odd


def test_an_object_in_pieces_is_read_and_passed_whole() -> None:
    text = json.dumps(ENDED).encode()
    reader = route_of("GET", "messages/batches/msgbatch_1").reader(200, "application/json", json.loads, results_at=BASE)
    assert isinstance(reader, BatchObjectReader)
    assert b"".join(reader.feed(text[at : at + 7]) for at in range(0, len(text), 7)) == b""
    assert json.loads(reader.rest())["results_url"] == f"{BASE}/messages/batches/msgbatch_1/results"
    sold = reader.end(is_whole=True)
    assert (sold.response_id, sold.result_id, sold.is_pending, sold.is_complete) == (
        "msgbatch_1",
        "msgbatch_1",
        False,
        True,
    )


def test_what_is_too_long_passes_as_it_came() -> None:
    text = json.dumps([ENDED] * 3).encode()
    reader = BatchObjectReader(route_of("POST", "messages/batches").dialect, json.loads, BASE, max_bytes=200)
    assert b"".join(reader.feed(text[at : at + 50]) for at in range(0, len(text), 50)) + reader.rest() == text


def test_openais_results_are_in_a_file() -> None:
    route = route_of("GET", "batches/batch_1")
    for status, file, pending in (("in_progress", None, True), ("completed", "file-9", False), ("failed", None, False)):
        reader = route.reader(200, "application/json", json.loads, results_at=BASE)
        assert isinstance(reader, DocumentReader)
        reader.feed(json.dumps({"id": "batch_1", "status": status, "output_file_id": file}).encode())
        sold = reader.end(is_whole=True)
        assert (sold.is_pending, sold.result_id) == (pending, file or "")


@pytest.mark.parametrize(
    ("path", "ident"),
    [
        ("files/file-9/content", "file-9"),
        ("v1/messages/batches/msgbatch_1/results", "msgbatch_1"),
        ("messages/batches/msgbatch_1", ""),
    ],
)
def test_what_results_are_of(path: str, ident: str) -> None:
    assert result_id(path) == ident
