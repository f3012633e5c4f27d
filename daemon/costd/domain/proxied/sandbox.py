"""Answers of a sandbox: what the provider would say in form, without a call, for every metered route, also as a stream.

The forms are those of the providers' references (see the dialects). Each answer says SAID and the counts of nothing at
all: a sandbox costs nothing. What cannot be simulated (routes nobody knows) is answered with a plain object.
"""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

Body = dict[str, Any]

SAID = "This is a sandbox answer."
_SAID_AS_JSON = '{"sandbox":true}'
_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"
_DIMENSIONS = 1536
_MAX_DIMENSIONS = 4096
_MAX_ANSWERS = 128

#: A transparent point.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
#: A sound of no length: the header of a WAV file, 8 kHz, 16 bits, mono.
_WAV = b"RIFF" + struct.pack("<I4s4sIHHIIHH4sI", 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 0)

_NO_CHAT_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_NO_RESPONSE_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}
_NO_MESSAGE_USAGE = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
    "service_tier": "standard",
}


class Answer(NamedTuple):
    """A simulated answer with status 200: its pieces are sent one by one."""

    content_type: str
    pieces: list[bytes]


def answer(endpoint: str, body: Body, ident: str, now_s: int) -> Answer:
    """The answer to a request on an endpoint (routes.Route.endpoint) with this parsed body ({} where it is no JSON).

    `ident` is what ids are made of, `now_s` the time in seconds.
    """
    request = _Request(body, ident, now_s, _model(body), _text(body))
    if body.get("stream") is True and endpoint in _STREAMS:
        return Answer(_SSE, _STREAMS[endpoint](request))
    if endpoint == "audio/speech":
        return Answer("audio/wav", [_WAV])
    form = _FORMS.get(endpoint, _plain)
    return Answer(_JSON, [json.dumps(form(request)).encode()])


class _Request(NamedTuple):
    body: Body
    ident: str
    now_s: int
    model: str
    text: str

    def answers(self) -> int:
        """How many answers are asked for."""
        number = self.body.get("n")
        return min(max(1, number), _MAX_ANSWERS) if isinstance(number, int) else 1


def _model(body: Body) -> str:
    model = body.get("model")
    return model if isinstance(model, str) else "sandbox"


def _text(body: Body) -> str:
    """What is said; JSON for who asked for JSON."""
    wished = body.get("response_format")
    kind = wished.get("type") if isinstance(wished, dict) else ""
    return _SAID_AS_JSON if kind in ("json_object", "json_schema") else SAID


def _plain(request: _Request) -> Body:
    return {"id": f"sandbox_{request.ident}", "object": "sandbox", "data": [], "has_more": False}


def _words(text: str) -> list[str]:
    """The text in pieces, as a stream brings it."""
    return [piece for word in text.split(" ") for piece in (" ", word)][1:]


def _event(said: Body) -> bytes:
    return f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()


def _data(said: Body) -> bytes:
    return f"data: {json.dumps(said)}\n\n".encode()


def _chat(request: _Request) -> Body:
    message: Body = {"role": "assistant", "content": request.text, "refusal": None, "annotations": []}
    choices = [
        {"index": at, "message": message, "logprobs": None, "finish_reason": "stop"} for at in range(request.answers())
    ]
    return {**_chat_head(request, "chat.completion"), "choices": choices, "usage": _NO_CHAT_USAGE}


def _chat_head(request: _Request, kind: str) -> Body:
    return {"id": f"chatcmpl-{request.ident}", "object": kind, "created": request.now_s, "model": request.model}


def _chat_stream(request: _Request) -> list[bytes]:
    head = _chat_head(request, "chat.completion.chunk")
    events = []
    for at in range(request.answers()):
        deltas: list[Body] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in _words(request.text)]
        events += [_choice(at, delta, None) for delta in deltas] + [_choice(at, {}, "stop")]
    chunks = [_data({**head, "choices": [event]}) for event in events]
    return [*chunks, *_usage_chunk(request, head), b"data: [DONE]\n\n"]


def _choice(at: int, delta: Body, finish_reason: str | None) -> Body:
    return {"index": at, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage_chunk(request: _Request, head: Body) -> list[bytes]:
    options = request.body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    return [_data({**head, "choices": [], "usage": _NO_CHAT_USAGE})] if asked else []


def _completion_head(request: _Request) -> Body:
    return {
        "id": f"cmpl-{request.ident}",
        "object": "text_completion",
        "created": request.now_s,
        "model": request.model,
    }


def _completion(request: _Request) -> Body:
    choices = [
        {"index": at, "text": request.text, "logprobs": None, "finish_reason": "stop"}
        for at in range(request.answers())
    ]
    return {**_completion_head(request), "choices": choices, "usage": _NO_CHAT_USAGE}


def _completion_stream(request: _Request) -> list[bytes]:
    head = _completion_head(request)
    pieces = [*((piece, None) for piece in _words(request.text)), ("", "stop")]
    chunks = [
        _data({**head, "choices": [{"index": 0, "text": piece, "logprobs": None, "finish_reason": reason}]})
        for piece, reason in pieces
    ]
    return [*chunks, *_usage_chunk(request, head), b"data: [DONE]\n\n"]


def _response(request: _Request, *, is_done: bool = True) -> Body:
    return {
        "id": f"resp_{request.ident}",
        "object": "response",
        "created_at": request.now_s,
        "status": "completed" if is_done else "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": request.model,
        "output": [_item(request, is_done=True)] if is_done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": _NO_RESPONSE_USAGE if is_done else None,
    }


def _item(request: _Request, *, is_done: bool) -> Body:
    content = [_part(request.text)] if is_done else []
    status = "completed" if is_done else "in_progress"
    return {
        "id": f"msg_{request.ident}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_stream(request: _Request) -> list[bytes]:
    begun, text = _response(request, is_done=False), request.text
    place = {"item_id": f"msg_{request.ident}", "output_index": 0, "content_index": 0}
    item = {"output_index": 0}
    events: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", **item, "item": _item(request, is_done=False)},
        {"type": "response.content_part.added", **place, "part": _part("")},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in _words(text)),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _part(text)},
        {"type": "response.output_item.done", **item, "item": _item(request, is_done=True)},
        {"type": "response.completed", "response": _response(request)},
    ]
    return [_event({**event, "sequence_number": number}) for number, event in enumerate(events)]


def _message(request: _Request) -> Body:
    return {
        "id": f"msg_{request.ident}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [{"type": "text", "text": request.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _NO_MESSAGE_USAGE,
    }


def _message_stream(request: _Request) -> list[bytes]:
    begun = {**_message(request), "content": [], "stop_reason": None}
    texts = ({"type": "text_delta", "text": word} for word in _words(request.text))
    events: list[Body] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in texts),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 0},
        },
        {"type": "message_stop"},
    ]
    return [_event(event) for event in events]


def _embeddings(request: _Request) -> Body:
    wished, given = request.body.get("dimensions"), request.body.get("input")
    size = wished if isinstance(wished, int) and 0 < wished <= _MAX_DIMENSIONS else _DIMENSIONS
    texts = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
    vector: Any = [1.0] + [0.0] * (size - 1)
    if request.body.get("encoding_format") == "base64":
        vector = b64encode(struct.pack(f"<{size}f", *vector)).decode()
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(min(texts, _MAX_ANSWERS))]
    return {"object": "list", "data": data, "model": request.model, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def _image(request: _Request) -> Body:
    return {"created": request.now_s, "data": [{"b64_json": _PNG} for _ in range(request.answers())]}


def _transcription(request: _Request) -> Body:
    return {"text": request.text}


def _moderation(request: _Request) -> Body:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return {"id": f"modr-{request.ident}", "model": request.model, "results": [result]}


def _models(request: _Request) -> Body:
    model = {"id": "sandbox", "object": "model", "created": request.now_s, "owned_by": "sandbox"}
    return {"object": "list", "data": [model]}


def _no_tokens(_request: _Request) -> Body:
    return {"input_tokens": 0}


_FORMS: dict[str, Callable[[_Request], Body]] = {
    "chat/completions": _chat,
    "fim/completions": _chat,
    "completions": _completion,
    "responses": _response,
    "messages": _message,
    "embeddings": _embeddings,
    "images/generations": _image,
    "images/edits": _image,
    "images/variations": _image,
    "audio/transcriptions": _transcription,
    "audio/translations": _transcription,
    "moderations": _moderation,
    "models": _models,
    "count_tokens": _no_tokens,
    "input_tokens": _no_tokens,
}
_STREAMS: dict[str, Callable[[_Request], list[bytes]]] = {
    "chat/completions": _chat_stream,
    "fim/completions": _chat_stream,
    "completions": _completion_stream,
    "responses": _response_stream,
    "messages": _message_stream,
}
