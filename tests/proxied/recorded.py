"""Answers in the form the providers record them in their references, shortened, and what each of them sold."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

Units = dict[str, int]


class Recorded(NamedTuple):
    """An answer: the route it is for, its bytes, and what must be read out of them."""

    path: str
    content_type: str
    body: bytes
    units: Units
    context: tuple[tuple[str, str], ...] = ()
    model: str = ""
    status: str = "success"
    provider: str = "openai"
    http_status: int = 200
    response_id: str = ""


def chunks(*payloads: Any, done: bool = True, end: str = "\n") -> bytes:
    """Data-only events."""
    text = [f"data: {json.dumps(payload, separators=(',', ':'))}{end}{end}" for payload in payloads]
    return "".join([*text, f"data: [DONE]{end}{end}" if done else ""]).encode()


def named(*payloads: Any, end: str = "\n") -> bytes:
    """Events with a name, which is the payload's type."""
    return "".join(f"event: {said['type']}{end}data: {json.dumps(said)}{end}{end}" for said in payloads).encode()


def document(said: Any) -> bytes:
    """A JSON body, as providers indent it."""
    return json.dumps(said, indent=2).encode()


def chat_chunk(content: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    delta = {} if content is None else {"content": content}
    return {
        "id": "chatcmpl-9",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
        **fields,
    }


CHAT_USAGE = {
    "prompt_tokens": 1117,
    "completion_tokens": 46,
    "total_tokens": 1163,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 12, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}
CHAT_UNITS = {"input_tokens": 1117, "output_tokens": 46, "cache_read_tokens": 1024, "output_reasoning_tokens": 12}
DEFAULT = (("service_tier", "default"),)
FINISH = {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
ARGUMENTS = {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}
TOOL_DELTA = {"choices": [{"index": 0, "delta": ARGUMENTS, "finish_reason": None}]}
CHAT_STREAM = chunks(
    chat_chunk("", usage=None),
    chat_chunk('Grüezi, "usage":null, 你好', usage=None),
    chat_chunk(usage=None, **TOOL_DELTA),
    chat_chunk(usage=None, **FINISH),
    chat_chunk(usage=CHAT_USAGE, choices=[]),
)
#: The same stream for who did not ask for its usage.
CHAT_STREAM_UNASKED = chunks(
    chat_chunk(""),
    chat_chunk('Grüezi, "usage":null, 你好'),
    chat_chunk(**TOOL_DELTA),
    chat_chunk(**FINISH),
)

RESPONSE_USAGE = {
    "input_tokens": 328,
    "input_tokens_details": {"cached_tokens": 256, "cache_write_tokens": 0},
    "output_tokens": 52,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 380,
}
RESPONSE_UNITS = {
    "input_tokens": 328,
    "output_tokens": 52,
    "cache_read_tokens": 256,
    "output_reasoning_tokens": 20,
}


def response(**fields: Any) -> dict[str, Any]:
    """A response object."""
    return {
        "id": "resp_67cc",
        "object": "response",
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": "gpt-5-2025-08-07",
        "output": [
            {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}},
            {"id": "ws_2", "type": "web_search_call", "status": "completed", "action": {"type": "open_page"}},
            {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["x"]},
            {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]},
        ],
        "service_tier": "flex",
        "usage": RESPONSE_USAGE,
        **fields,
    }


def response_stream(last: str, end: str = "\n", **fields: Any) -> bytes:
    """A stream of a response that ends with the event `last`."""
    begun = response(status="in_progress", output=[], usage=None)
    return named(
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.in_progress", "sequence_number": 1, "response": begun},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hi"},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "{}"},
        {"type": "response.output_text.done", "item_id": "msg_1", "text": "Hi"},
        {"type": f"response.{last}", "sequence_number": 9, "response": response(status=last, **fields)},
        end=end,
    )


MESSAGE_USAGE = {
    "input_tokens": 2679,
    "cache_creation_input_tokens": 1500,
    "cache_read_input_tokens": 900,
    "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 500},
    "output_tokens": 3,
    "service_tier": "standard",
}
MESSAGE_UNITS = {
    "input_tokens": 2679 + 1500 + 900,
    "cache_write_tokens": 1500,
    "cache_write_5m_tokens": 1000,
    "cache_write_1h_tokens": 500,
    "cache_read_tokens": 900,
}
MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": MESSAGE_USAGE,
}
MESSAGE_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me see…"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbc"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "server_tool_use", "id": "t", "input": {}}},
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"q": "x"}'},
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": None, "stop_sequence": None},
        "usage": {"output_tokens": 100, "cache_read_input_tokens": None},
    },
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {
            "input_tokens": 2779,
            "cache_creation_input_tokens": 1500,
            "cache_read_input_tokens": 900,
            "output_tokens": 510,
            "output_tokens_details": {"thinking_tokens": 60},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        },
    },
    {"type": "message_stop"},
]
MESSAGE_STREAM_UNITS = MESSAGE_UNITS | {
    "input_tokens": 2779 + 1500 + 900,
    "output_tokens": 510,
    "output_reasoning_tokens": 60,
    "web_searches": 2,
}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}

IMAGE_USAGE = {
    "total_tokens": 4210,
    "input_tokens": 50,
    "output_tokens": 4160,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
IMAGE_UNITS = {"input_tokens": 50, "output_tokens": 4160, "input_text_tokens": 10, "input_image_tokens": 40}
SPOKEN_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
    "output_tokens": 45,
    "total_tokens": 59,
}
SPOKEN_UNITS = {"input_tokens": 14, "output_tokens": 45, "input_audio_tokens": 14}

JSON = "application/json; charset=utf-8"
SSE = "text/event-stream; charset=utf-8"

GPT_4O = {"model": "gpt-4o-2024-08-06", "response_id": "chatcmpl-9"}
GPT_5 = {"model": "gpt-5-2025-08-07", "response_id": "resp_67cc"}
CLAUDE = {"model": "claude-sonnet-4-5-20250929", "response_id": "msg_01", "provider": "anthropic"}
FLEX = (("service_tier", "flex"),)
SEARCHES = {"web_searches": 1, "storage_searches": 1}

RECORDED: dict[str, Recorded] = {
    "chat": Recorded(
        "chat/completions",
        JSON,
        document(
            chat_chunk(
                choices=[{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                usage=CHAT_USAGE,
                service_tier="priority",
            )
        ),
        CHAT_UNITS,
        (("service_tier", "priority"),),
        **GPT_4O,
    ),
    "chat stream": Recorded("chat/completions", SSE, CHAT_STREAM, CHAT_UNITS, DEFAULT, **GPT_4O),
    "chat stream, CRLF": Recorded(
        "chat/completions", SSE, CHAT_STREAM.replace(b"\n", b"\r\n"), CHAT_UNITS, DEFAULT, **GPT_4O
    ),
    "chat stream, CR": Recorded(
        "chat/completions", SSE, CHAT_STREAM.replace(b"\n", b"\r"), CHAT_UNITS, DEFAULT, **GPT_4O
    ),
    "chat stream after a mark and comments": Recorded(
        "chat/completions",
        SSE,
        b"\xef\xbb\xbf: OPENROUTER PROCESSING\n\n" + CHAT_STREAM.replace(b"data: ", b":keep\nid: 7\ndata:"),
        CHAT_UNITS,
        DEFAULT,
        **GPT_4O,
    ),
    "chat stream without an end of its last event": Recorded(
        "chat/completions",
        SSE,
        chunks(chat_chunk("Hi"), chat_chunk(usage=CHAT_USAGE, choices=[]), done=False)[:-2],
        CHAT_UNITS,
        DEFAULT,
        **GPT_4O,
    ),
    "chat stream with the usage in the last chunk that has choices": Recorded(
        "chat/completions",
        SSE,
        chunks(chat_chunk("Hi", service_tier=None), chat_chunk(usage=CHAT_USAGE, service_tier=None, **FINISH)),
        CHAT_UNITS,
        provider="deepseek",
        **GPT_4O,
    ),
    "chat stream that counts as it goes": Recorded(
        "chat/completions",
        SSE,
        chunks(
            chat_chunk("Hi", service_tier=None, usage={"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}),
            chat_chunk("Hi", service_tier=None, usage={"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}),
            chat_chunk(service_tier=None, choices=[], usage={"prompt_tokens": 8, "completion_tokens": 3}),
        ),
        {"input_tokens": 8, "output_tokens": 3},
        provider="vllm",
        **GPT_4O,
    ),
    "chat stream of Groq": Recorded(
        "chat/completions",
        SSE,
        chunks(
            chat_chunk("Hi", service_tier="on_demand", x_groq={"id": "req_1"}),
            chat_chunk(service_tier="on_demand", x_groq={"id": "req_1", "usage": CHAT_USAGE}, **FINISH),
        ),
        CHAT_UNITS,
        provider="groq",
        **GPT_4O,
    ),
    "chat stream that fails": Recorded(
        "chat/completions",
        SSE,
        chunks({"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}),
        {},
        status="error",
    ),
    "completion": Recorded(
        "completions",
        JSON,
        document(
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "model": "gpt-3.5-turbo-instruct",
                "choices": [{"text": "Hi", "index": 0, "logprobs": None, "finish_reason": "length"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
            }
        ),
        {"input_tokens": 5, "output_tokens": 7},
        model="gpt-3.5-turbo-instruct",
        response_id="cmpl-1",
    ),
    "completion stream": Recorded(
        "completions",
        SSE,
        chunks(
            {"id": "cmpl-1", "model": "gpt-3.5-turbo-instruct", "choices": [{"text": "Hi", "finish_reason": None}]},
            {"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}},
        ),
        {"input_tokens": 5, "output_tokens": 7},
        model="gpt-3.5-turbo-instruct",
        response_id="cmpl-1",
    ),
    "response": Recorded("responses", JSON, document(response()), RESPONSE_UNITS | SEARCHES, FLEX, **GPT_5),
    "response that failed": Recorded(
        "responses",
        JSON,
        document(response(status="failed", output=[], usage=None, error={"code": "server_error", "message": "no"})),
        {},
        FLEX,
        status="error",
        **GPT_5,
    ),
    "response stream": Recorded(
        "responses", SSE, response_stream("completed"), RESPONSE_UNITS | SEARCHES, FLEX, **GPT_5
    ),
    "response stream, CRLF": Recorded(
        "responses", SSE, response_stream("completed", "\r\n"), RESPONSE_UNITS | SEARCHES, FLEX, **GPT_5
    ),
    "response stream that reached its limit": Recorded(
        "responses", SSE, response_stream("incomplete"), RESPONSE_UNITS | SEARCHES, FLEX, **GPT_5
    ),
    "response stream that failed": Recorded(
        "responses",
        SSE,
        response_stream("failed", error={"code": "server_error", "message": "no"}),
        RESPONSE_UNITS | SEARCHES,
        FLEX,
        status="error",
        **GPT_5,
    ),
    "response stream with an error": Recorded(
        "responses",
        SSE,
        named({"type": "error", "code": "rate_limit_exceeded", "message": "no", "param": None, "sequence_number": 1}),
        {},
        status="error",
    ),
    "embeddings": Recorded(
        "embeddings",
        JSON,
        document(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -2e-3]}],
                "model": "text-embedding-3-small",
                "usage": {"prompt_tokens": 8, "total_tokens": 8},
            }
        ),
        {"input_tokens": 8},
        model="text-embedding-3-small",
    ),
    "image": Recorded(
        "images/generations",
        JSON,
        document({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": IMAGE_USAGE}),
        IMAGE_UNITS,
    ),
    "image stream": Recorded(
        "images/edits",
        SSE,
        named(
            {"type": "image_edit.partial_image", "b64_json": "AA", "partial_image_index": 0},
            {"type": "image_edit.completed", "b64_json": "AAAA", "usage": IMAGE_USAGE},
        ),
        IMAGE_UNITS,
    ),
    "transcription": Recorded(
        "audio/transcriptions", JSON, document({"text": "Hi there", "usage": SPOKEN_USAGE}), SPOKEN_UNITS
    ),
    "transcription by the second": Recorded(
        "audio/transcriptions",
        JSON,
        document({"text": "Hi there", "usage": {"type": "duration", "seconds": 9}}),
        {"audio_seconds": 9},
    ),
    "transcription in many words": Recorded(
        "audio/translations",
        JSON,
        document({"task": "translate", "language": "german", "duration": 8, "text": "Hi there", "segments": []}),
        {"audio_seconds": 8},
    ),
    "transcription stream": Recorded(
        "audio/transcriptions",
        SSE,
        chunks(
            {"type": "transcript.text.delta", "delta": "Hi", "logprobs": []},
            {"type": "transcript.text.done", "text": "Hi", "usage": SPOKEN_USAGE},
            done=False,
        ),
        SPOKEN_UNITS,
    ),
    "speech stream": Recorded(
        "audio/speech",
        SSE,
        chunks(
            {"type": "speech.audio.delta", "audio": "AAAA"},
            {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
            done=False,
        ),
        {"input_tokens": 14, "output_tokens": 101},
    ),
    "speech": Recorded("audio/speech", "audio/mpeg", b"\xff\xf3\xe4" * 20, {}),
    "message": Recorded(
        "messages",
        JSON,
        document(MESSAGE | {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}),
        MESSAGE_UNITS | {"output_tokens": 3},
        **CLAUDE,
    ),
    "message stream": Recorded("messages", SSE, named(*MESSAGE_EVENTS), MESSAGE_STREAM_UNITS, **CLAUDE),
    "message stream, CRLF": Recorded(
        "messages", SSE, named(*MESSAGE_EVENTS, end="\r\n"), MESSAGE_STREAM_UNITS, **CLAUDE
    ),
    "message stream that is overloaded": Recorded(
        "messages", SSE, named(OVERLOADED), {}, status="error", provider="anthropic"
    ),
    "a failure": Recorded(
        "chat/completions",
        JSON,
        document({"error": {"message": "no", "type": "insufficient_quota", "param": None, "code": None}}),
        {},
        status="error",
        http_status=429,
    ),
    "a failure of Anthropic's": Recorded(
        "messages", JSON, document(OVERLOADED), {}, status="error", provider="anthropic", http_status=529
    ),
    "a failure of something in between": Recorded(
        "messages", "text/html", b"<html>Bad gateway</html>", {}, status="error", provider="anthropic", http_status=502
    ),
    "documents read": Recorded(
        "ocr",
        JSON,
        document(
            {
                "pages": [{"index": 0, "markdown": "#"}],
                "model": "mistral-ocr-latest",
                "usage_info": {"pages_processed": 3, "doc_size_bytes": 9},
            }
        ),
        {"input_document_pages": 3},
        model="mistral-ocr-latest",
        provider="mistral",
    ),
    "Gemini's own stream": Recorded(
        "models/gemini-2.5-pro:streamGenerateContent",
        SSE,
        chunks(
            {
                "candidates": [],
                "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
                "modelVersion": "gemini-2.5-pro",
            },
            {
                "candidates": [],
                "usageMetadata": {
                    "promptTokenCount": 8,
                    "candidatesTokenCount": 5,
                    "thoughtsTokenCount": 30,
                    "totalTokenCount": 43,
                },
                "modelVersion": "gemini-2.5-pro",
            },
            done=False,
        ),
        {"input_tokens": 8, "output_tokens": 35, "output_reasoning_tokens": 30},
        model="gemini-2.5-pro",
        provider="google",
    ),
    "Cloudflare's own answer": Recorded(
        "run/@cf/meta/llama-3",
        JSON,
        document({"result": {"response": "Hi", "usage": {"prompt_tokens": 4, "completion_tokens": 2}}, "errors": []}),
        {"input_tokens": 4, "output_tokens": 2},
        provider="cloudflare",
    ),
    "Cohere's embeddings": Recorded(
        "embed",
        JSON,
        document({"id": "e1", "meta": {"api_version": {}, "billed_units": {"input_tokens": 12}}}),
        {"input_tokens": 12},
        provider="cohere",
        response_id="e1",
    ),
}
