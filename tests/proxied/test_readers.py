"""What was sold is read out of answers to the token, in whatever pieces they come, and garbage does no harm."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest
from cuts import cut, cuts, unhurried
from hypothesis import given
from hypothesis import strategies as st
from recorded import (
    CHAT_STREAM,
    CHAT_STREAM_UNASKED,
    CHAT_USAGE,
    JSON,
    MESSAGE_EVENTS,
    MESSAGE_STREAM_UNITS,
    MESSAGE_UNITS,
    RECORDED,
    SSE,
    Recorded,
    chat_chunk,
    chunks,
    document,
    named,
    response,
)

from costd.domain.proxied.plain import PLAIN
from costd.domain.proxied.readers import DocumentReader, LineReader, Reader
from costd.domain.proxied.routes import Kind, route_of
from costd.domain.proxied.sold import Bill, Sold, bill

LOADS = pytest.mark.parametrize("loads", [json.loads, msgspec.json.decode], ids=["json", "msgspec"])


def reader_of(answer: Recorded, loads: Any = json.loads, *, hide_usage: bool = False) -> Reader:
    return route_of("POST", answer.path).reader(answer.http_status, answer.content_type, loads, hide_usage=hide_usage)


def read(reader: Reader, pieces: list[bytes], *, is_whole: bool = True) -> tuple[bytes, Sold]:
    passed = b"".join(reader.feed(piece) for piece in pieces) + reader.rest()
    return passed, reader.end(is_whole=is_whole)


@LOADS
@pytest.mark.parametrize("name", RECORDED)
def test_what_was_sold_is_read_to_the_token(name: str, loads: Any) -> None:
    answer = RECORDED[name]
    passed, sold = read(reader_of(answer, loads), [answer.body])
    assert passed == answer.body
    assert bill(sold, answer.provider, lambda: 7) == Bill(answer.units, answer.context, is_estimate=False)
    assert (sold.model, sold.status, sold.response_id) == (answer.model, answer.status, answer.response_id)


@pytest.mark.parametrize("name", RECORDED)
def test_it_does_not_matter_where_an_answer_breaks(name: str) -> None:
    answer = RECORDED[name]
    whole = read(reader_of(answer), [answer.body])
    for position in range(0, len(answer.body), 7):
        assert read(reader_of(answer), [answer.body[:position], answer.body[position:]]) == whole
    assert read(reader_of(answer), [answer.body[at : at + 1] for at in range(len(answer.body))]) == whole


@pytest.mark.parametrize("name", RECORDED)
def test_an_answer_that_is_cut_anywhere_is_incomplete_or_tells_all(name: str) -> None:
    answer = RECORDED[name]
    for length in range(0, len(answer.body) + 1, 3):
        _, sold = read(reader_of(answer, msgspec.json.decode), [answer.body[:length]], is_whole=False)
        cost = bill(sold, answer.provider, lambda: 7)
        if sold.is_complete and not sold.is_error:
            assert cost == Bill(answer.units, answer.context, is_estimate=False)


NAMES = [
    *("usage", "choices", "delta", "message", "response", "type", "model", "id", "error", "output", "prompt_tokens"),
    *("input_tokens", "output_tokens", "content", "text", "status", "service_tier", "x_groq", "duration", "meta"),
    *("result", "body", "action", "background", "billed_units", "other_units", "usageMetadata", "completion_tokens"),
]
TYPES = [event["type"] for event in MESSAGE_EVENTS] + ["response.completed", "error", "x.delta", 7, None]
ODD = [None, True, -1, 10**30, 1.5, float("nan"), float("inf"), "", "x" * 300, "\ud800", [], {}]
PATHS = ["chat/completions", "responses", "messages", "embeddings", "unheard/of"]
_PATHS = st.sampled_from(PATHS)


def nonsense(luck: Random, depth: int = 4) -> Any:
    """JSON with providers' words in places where they do not belong."""
    form = luck.random()
    if depth == 0 or form < 0.3:
        return luck.choice(ODD)
    if form < 0.5:
        return [nonsense(luck, depth - 1) for _ in range(luck.randrange(3))]
    return {luck.choice(NAMES): nonsense(luck, depth - 1) for _ in range(luck.randrange(6))}


@pytest.mark.parametrize("path", PATHS)
def test_nothing_that_a_provider_says_raises(path: str) -> None:
    route = route_of("POST", path)
    for seed in range(400):
        luck = Random(seed)
        payloads = [{**nonsense_fields(luck), "type": luck.choice(TYPES)} for _ in range(4)]
        for payload in payloads:
            _, sold = read(route.reader(200, JSON, json.loads), [document(payload)])
            bill(sold, "anthropic", lambda: 0)
        _, sold = read(route.reader(200, SSE, json.loads, hide_usage=seed % 2 == 0), [chunks(*payloads)])
        bill(sold, "openai", lambda: 0)


def nonsense_fields(luck: Random) -> dict[str, Any]:
    return {luck.choice(NAMES): nonsense(luck) for _ in range(luck.randrange(8))}


@unhurried
@given(_PATHS, st.sampled_from([SSE, JSON, "text/plain"]), st.binary(max_size=200), st.data())
def test_garbage_passes_and_never_raises(path: str, content_type: str, garbage: bytes, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([b"", b"data: ", b"{", b'data: {"usage": ', b"[" * 50])) + garbage
    for loads in (json.loads, msgspec.json.decode):
        for hide_usage in (False, True):
            reader = route_of("POST", path).reader(200, content_type, loads, hide_usage=hide_usage)
            passed, sold = read(reader, cut(body, data.draw(cuts(body))))
            assert passed == body
            bill(sold, "openai", lambda: 0)


def test_what_nests_too_deeply_is_no_answer() -> None:
    body = b'{"a":' * 100_000
    for content_type in (JSON, SSE):
        passed, sold = read(
            route_of("POST", "messages").reader(200, content_type, json.loads), [b"data: " + body + b"\n\n"]
        )
        assert len(passed) > 100_000
        assert sold.usage is None


# What was asked for on the way is taken out again.


@unhurried
@given(st.data())
def test_the_usage_of_a_stream_is_hidden_from_who_did_not_ask(data: st.DataObject) -> None:
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    stream, shown = CHAT_STREAM.replace(b"\n", end), CHAT_STREAM_UNASKED.replace(b"\n", end)
    reader = reader_of(RECORDED["chat stream"], hide_usage=True)
    passed, sold = read(reader, cut(stream, data.draw(cuts(stream))))
    assert passed == shown
    assert sold.usage is not None
    assert sold.status == "success"


def test_only_the_usage_alone_is_hidden() -> None:
    for name in ("chat stream with the usage in the last chunk that has choices", "response stream", "message stream"):
        answer = RECORDED[name]
        passed, _ = read(reader_of(answer, hide_usage=True), [answer.body])
        assert passed == answer.body
    first = chat_chunk(choices=[], prompt_filter_results=[{"prompt_index": 0}], usage=None)
    passed, _ = read(reader_of(RECORDED["chat stream"], hide_usage=True), [chunks(first)])
    assert b"prompt_filter_results" in passed


def test_a_hidden_usage_without_an_end_stays_hidden() -> None:
    stream = RECORDED["chat stream without an end of its last event"].body
    passed, sold = read(reader_of(RECORDED["chat stream"], hide_usage=True), [stream])
    assert passed == chunks(chat_chunk("Hi"), done=False)
    assert sold.status == "success"


def test_an_event_passes_as_soon_as_it_is_complete() -> None:
    reader = reader_of(RECORDED["chat stream"], hide_usage=True)
    event = chunks(chat_chunk("Hi"), done=False)
    assert reader.feed(event[:20]) == b""
    assert reader.feed(event[20:]) == event


# The end, and what is billed without it.


@pytest.mark.parametrize("name", ["chat stream", "response stream", "message stream", "transcription stream"])
def test_the_end_of_a_stream_is_told(name: str) -> None:
    answer = RECORDED[name]
    reader = reader_of(answer)
    reader.feed(answer.body[:-40])
    assert not reader.is_finished
    reader.feed(answer.body[-40:])
    assert reader.is_finished
    assert read(reader, [], is_whole=False)[1].status == "success"


def test_after_an_image_another_may_follow() -> None:
    reader = reader_of(RECORDED["image stream"])
    _, sold = read(reader, [RECORDED["image stream"].body], is_whole=False)
    assert not reader.is_finished
    assert sold.status == "success"


def test_a_chat_that_broke_off_is_billed_by_what_was_delivered() -> None:
    stream = chunks(chat_chunk("a" * 41), chat_chunk("b" * 40), done=False)
    _, sold = read(reader_of(RECORDED["chat stream"]), [stream], is_whole=False)
    assert (sold.status, sold.delivered_chars) == ("incomplete", 81)
    units = {"input_tokens": 100, "output_tokens": 21}
    assert bill(sold, "openai", lambda: 100) == Bill(units, (("service_tier", "default"),), is_estimate=True)


def test_a_chat_without_usage_is_billed_by_what_was_delivered() -> None:
    _, sold = read(reader_of(RECORDED["chat stream"]), [chunks(chat_chunk("a" * 40))])
    assert sold.status == "success"
    assert bill(sold, "ollama", lambda: 12) == Bill(
        {"input_tokens": 12, "output_tokens": 10}, DEFAULT_TIER, is_estimate=True
    )


DEFAULT_TIER = (("service_tier", "default"),)


def test_a_response_that_broke_off_is_billed_with_the_searches_it_made() -> None:
    searched = {"type": "web_search_call", "action": {"type": "search"}}
    opened = {"type": "web_search_call", "action": {"type": "open_page"}}
    stream = named(
        {"type": "response.created", "response": response(status="in_progress", output=[], usage=None)},
        *({"type": "response.output_item.done", "item": item} for item in (searched, opened, searched)),
        {"type": "response.output_text.delta", "delta": "x" * 40},
    )
    _, sold = read(reader_of(RECORDED["response stream"]), [stream], is_whole=False)
    assert sold.status == "incomplete"
    units = {"web_searches": 2, "input_tokens": 9, "output_tokens": 10}
    assert bill(sold, "openai", lambda: 9) == Bill(units, (("service_tier", "flex"),), is_estimate=True)


def test_an_answer_that_does_not_say_what_it_is_is_tried_as_json() -> None:
    _, sold = read(route_of("POST", "embeddings").reader(200, "", json.loads), [RECORDED["embeddings"].body])
    assert bill(sold, "openai", lambda: 0).units == {"input_tokens": 8}


def test_a_message_that_broke_off_keeps_the_input_it_told() -> None:
    cut_events = [
        *MESSAGE_EVENTS[:7],
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x" * 400}},
    ]
    _, sold = read(reader_of(RECORDED["message stream"]), [named(*cut_events)], is_whole=True)
    assert sold.status == "incomplete"
    expected = MESSAGE_UNITS | {"output_tokens": 103}
    assert bill(sold, "anthropic", lambda: 9) == Bill(expected, (), is_estimate=True)


def test_a_message_that_told_all_before_it_broke_off_is_complete() -> None:
    _, sold = read(reader_of(RECORDED["message stream"]), [named(*MESSAGE_EVENTS[:-1])], is_whole=False)
    assert sold.status == "success"
    assert bill(sold, "anthropic", lambda: 9) == Bill(MESSAGE_STREAM_UNITS, (), is_estimate=False)


def test_an_error_in_the_midst_of_a_message_bills_what_was_delivered() -> None:
    stream = named(*MESSAGE_EVENTS[:8], {"type": "error", "error": {"type": "overloaded_error", "message": "no"}})
    reader = reader_of(RECORDED["message stream"])
    _, sold = read(reader, [stream])
    assert reader.is_finished
    assert sold.status == "error"
    assert bill(sold, "anthropic", lambda: 9) == Bill(MESSAGE_UNITS | {"output_tokens": 4}, (), is_estimate=True)


def test_a_document_that_broke_off_is_billed_by_its_length() -> None:
    body = RECORDED["message"].body[:200]
    _, sold = read(reader_of(RECORDED["message"]), [body], is_whole=False)
    assert sold.status == "incomplete"
    assert bill(sold, "anthropic", lambda: 9) == Bill({"input_tokens": 9, "output_tokens": 50}, (), is_estimate=True)


def test_a_document_that_is_all_there_is_complete_however_the_connection_ended() -> None:
    for name, status in (("message", "success"), ("response that failed", "error")):
        _, sold = read(reader_of(RECORDED[name]), [RECORDED[name].body], is_whole=False)
        assert sold.status == status
        assert sold.is_complete == (status == "success")


def test_a_tier_may_be_told_late() -> None:
    early, late = chat_chunk("Hi", service_tier=None), chat_chunk(choices=[], usage=CHAT_USAGE, service_tier="priority")
    _, sold = read(reader_of(RECORDED["chat stream"]), [chunks(early, late)])
    assert bill(sold, "openai", lambda: 9).context == (("service_tier", "priority"),)


def test_an_error_is_told_by_the_name_of_its_event() -> None:
    _, sold = read(reader_of(RECORDED["message stream"]), [b'event: error\ndata: {"message": "no"}\n\n'])
    assert sold.status == "error"


def test_vectors_that_broke_off_cost_their_input() -> None:
    _, sold = read(reader_of(RECORDED["embeddings"]), [RECORDED["embeddings"].body[:90]], is_whole=False)
    assert bill(sold, "openai", lambda: 9) == Bill({"input_tokens": 9}, (), is_estimate=True)


def test_what_is_not_understood_costs_its_input_when_it_breaks_off() -> None:
    reader = route_of("POST", "chat/completions").reader(200, "text/plain", json.loads)
    _, sold = read(reader, [b"Hi", b" there"], is_whole=False)
    assert bill(sold, "openai", lambda: 9) == Bill({"input_tokens": 9}, (), is_estimate=True)
    assert bill(sold, "openai", lambda: 0) == Bill({}, (), is_estimate=True)


def test_an_answer_that_never_began_costs_nothing() -> None:
    for name in ("chat", "chat stream", "embeddings", "speech"):
        _, sold = read(reader_of(RECORDED[name]), [], is_whole=False)
        assert sold.status == "incomplete"
        assert bill(sold, "openai", lambda: 9) == Bill({}, (), is_estimate=False)


def test_counts_that_make_no_sense_are_none() -> None:
    body = document({"object": "list", "usage": {"prompt_tokens": -8, "total_tokens": "many"}})
    _, sold = read(reader_of(RECORDED["embeddings"]), [body])
    assert bill(sold, "openai", lambda: 9) == Bill({}, (), is_estimate=False)


def test_a_long_document_tells_its_usage_at_its_end() -> None:
    body = document({"model": "m", "data": [{"embedding": "A" * 300_000}], "usage": {"prompt_tokens": 8}})
    for size in (1_000, 70_000, 400_000):
        reader = DocumentReader(PLAIN, json.loads, max_bytes=200_000)
        passed, sold = read(reader, [body[at : at + size] for at in range(0, len(body), size)])
        assert passed == body
        assert (sold.model, sold.usage, sold.status) == ("m", {"prompt_tokens": 8}, "success")


# Jobs: what is told later, and more than once.


def test_a_response_in_the_background_is_billed_when_it_is_fetched() -> None:
    accepted = response(status="queued", background=True, output=[], usage=None)
    _, sold = read(route_of("POST", "responses").reader(200, JSON, json.loads), [document(accepted)])
    assert sold.is_pending
    assert bill(sold, "openai", lambda: 9).units == {}
    fetch = route_of("GET", "responses/resp_67cc")
    assert fetch.kind is Kind.RESULT
    _, sold = read(fetch.reader(200, JSON, json.loads), [document(response(background=True))])
    assert (sold.once_id, sold.is_pending) == ("resp_67cc", False)
    assert bill(sold, "openai", lambda: 9).units["input_tokens"] == 328


def test_a_response_that_was_paid_for_is_not_told_again() -> None:
    _, sold = read(route_of("GET", "responses/resp_67cc").reader(200, JSON, json.loads), [document(response())])
    assert sold.once_id == ""


OPENAI_LINE = {
    "id": "batch_req_1",
    "custom_id": "a",
    "response": {"status_code": 200, "request_id": "r", "body": chat_chunk(choices=[], usage=CHAT_USAGE)},
    "error": None,
}
LINES = [
    OPENAI_LINE | {"response": {"body": chat_chunk(object="chat.completion", usage=CHAT_USAGE)}},
    {"id": "batch_req_2", "custom_id": "b", "response": {"status_code": 200, "body": response()}, "error": None},
    {"id": "batch_req_3", "response": None, "error": {"code": "batch_expired", "message": "no"}},
    {
        "custom_id": "c",
        "result": {"type": "succeeded", "message": RECORDED["message"].body and json.loads(RECORDED["message"].body)},
    },
    {"custom_id": "d", "result": {"type": "errored", "error": {"type": "error"}}},
    {"custom_id": "d", "result": {"type": "succeeded", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}},
    {"custom_id": "e", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o"}},
]


@unhurried
@given(st.booleans(), st.data())
def test_results_of_a_batch_are_billed_line_by_line(has_end: bool, data: st.DataObject) -> None:
    body = b"\n".join(json.dumps(line).encode() for line in LINES) + (b"\n" if has_end else b"")
    reader = route_of("GET", "files/file-1/content").reader(200, "application/octet-stream", json.loads)
    found: list[Sold] = []
    for piece in cut(body, data.draw(cuts(body))):
        assert reader.feed(piece) == piece
        found += reader.take()
    assert reader.rest() == b""
    found += reader.take()
    assert [sold.once_id for sold in found] == ["batch_req_1", "batch_req_2", "msg_01"]
    assert {bill(sold, "openai", lambda: 0).context for sold in found} == {(("processing", "batch"),)}
    assert bill(found[1], "openai", lambda: 0).units["web_searches"] == 1
    assert bill(found[2], "anthropic", lambda: 0).units == MESSAGE_UNITS | {"output_tokens": 3}
    assert reader.end(is_whole=True).status == "success"


def test_a_line_that_is_too_long_is_passed_over() -> None:
    lines = [json.dumps(line).encode() for line in (OPENAI_LINE, OPENAI_LINE | {"custom_id": "x" * 5_000}, OPENAI_LINE)]
    reader = LineReader(json.loads, max_bytes=2_000)
    for at in range(0, len(b"\n".join(lines)), 100):
        reader.feed(b"\n".join(lines)[at : at + 100])
    reader.rest()
    assert len(reader.take()) == 2
