"""What the provider for tests answers where nothing is sold at once: models, files, uploads, batches, moderations.

The answers are always the same. Both providers have some of the paths; Anthropic's SDK says its version in a header.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

Json = dict[str, Any]

AT = 1_790_000_000
DAY = "2026-11-01T00:00:00Z"
#: What a file holds: not text, and lines of no use to anybody.
CONTENT = bytes(range(256)) * 40 + b'\n{"response": 7}\n\n'

MODEL = {"id": "gpt-4o", "object": "model", "created": AT, "owned_by": "system"}
FILE = {"id": "file-1", "object": "file", "bytes": len(CONTENT), "created_at": AT, "filename": "a.jsonl"}
FILE |= {"purpose": "batch", "status": "processed"}
UPLOAD = {"id": "upload_1", "object": "upload", "bytes": 5, "created_at": AT, "expires_at": AT + 9, "filename": "b"}
UPLOAD |= {"purpose": "batch", "status": "pending", "file": None}
PART = {"id": "part_1", "object": "upload.part", "created_at": AT, "upload_id": "upload_1"}
BATCH = {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1"}
BATCH |= {"completion_window": "24h", "status": "completed", "created_at": AT, "output_file_id": "file-out"}
BATCH |= {"request_counts": {"total": 2, "completed": 2, "failed": 0}, "metadata": {"a": "b"}}

CLAUDE = {"id": "claude-opus-5", "type": "model", "display_name": "Opus", "created_at": DAY, "lifecycle": "active"}
CLAUDE_FILE = {"id": "file_1", "type": "file", "filename": "a.txt", "mime_type": "text/plain", "size_bytes": 5}
CLAUDE_FILE |= {"created_at": DAY, "downloadable": True}


def _openai_list(*items: Json) -> Json:
    return {"object": "list", "data": list(items), "first_id": None, "last_id": None, "has_more": False}


def _claude_list(*items: Json) -> Json:
    return {"data": list(items), "first_id": "a", "last_id": "b", "has_more": False}


def _categories(value: object) -> Json:
    return dict.fromkeys(("harassment", "hate", "violence"), value)


MODERATION = {"id": "modr-1", "model": "omni-moderation-latest"}
MODERATION |= {
    "results": [
        {
            "flagged": False,
            "categories": _categories(False),
            "category_scores": _categories(0.0001),
            "category_applied_input_types": _categories(["text"]),
        }
    ]
}


def _lines(*said: Json) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in said)


#: What two requests of a batch used, and what they cost at half the price of gpt-4o and claude-opus-5.
BATCH_UNITS = {"input_tokens": 1_000, "output_tokens": 100}
_CHAT = {"id": "chatcmpl-1", "object": "chat.completion", "created": AT, "model": "gpt-4o", "choices": []}
_CHAT |= {"usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}}
BATCH_OUTPUT = _lines(
    *(
        {"id": f"batch_req_{n}", "custom_id": str(n), "response": {"status_code": 200, "body": _CHAT}, "error": None}
        for n in (1, 2)
    ),
    {"id": "batch_req_3", "custom_id": "3", "response": {"status_code": 400, "body": {"error": {}}}, "error": None},
)
_MESSAGE = {"type": "message", "role": "assistant", "model": "claude-opus-5", "content": [], "stop_reason": "end_turn"}
_MESSAGE |= {"stop_sequence": None, "usage": {"input_tokens": 1_000, "output_tokens": 100}}
BATCH_RESULTS = _lines(
    *(
        {"custom_id": str(n), "result": {"type": "succeeded", "message": {**_MESSAGE, "id": f"msg_batched_{n}"}}}
        for n in (1, 2)
    ),
    {"custom_id": "3", "result": {"type": "expired"}},
)
CLAUDE_BATCH = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress", "created_at": DAY}
CLAUDE_BATCH |= {"expires_at": "2026-11-02T00:00:00Z", "ended_at": None, "archived_at": None, "results_url": None}
CLAUDE_BATCH |= {"cancel_initiated_at": None, "request_counts": {"processing": 3, "succeeded": 0, "errored": 0}}
CLAUDE_BATCH["request_counts"] |= {"canceled": 0, "expired": 0}
#: Its results are where nothing here may go: whoever fetches them must do so by another address.
_AWAY = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
CLAUDE_ENDED = CLAUDE_BATCH | {"processing_status": "ended", "ended_at": DAY, "results_url": _AWAY}

UNHEARD = {"POST unheard/of": {"is": "heard"}}
#: What is not below /v1, for whoever asks.
OUTSIDE: dict[str, object] = {
    "HEAD /": {},
    "GET /api/hello": {"message": "hello"},
    "POST /api/event_logging/batch": {"is": "heard"},
    "POST /api/claude_cli_feedback": {"is": "heard"},
}
OPENAI: dict[str, object] = {
    **UNHEARD,
    "GET models": _openai_list(MODEL),
    "GET models/gpt-4o": MODEL,
    "DELETE models/ft:gpt-4o": {"id": "ft:gpt-4o", "object": "model", "deleted": True},
    "GET files": _openai_list(FILE),
    "POST files": FILE,
    "GET files/file-1": FILE,
    "GET files/file-1/content": CONTENT,
    "DELETE files/file-1": {"id": "file-1", "object": "file", "deleted": True},
    "POST uploads": UPLOAD,
    "POST uploads/upload_1/parts": PART,
    "POST uploads/upload_1/complete": UPLOAD | {"status": "completed", "file": FILE},
    "POST batches": BATCH | {"status": "validating", "output_file_id": None},
    "GET batches": _openai_list(BATCH),
    "GET batches/batch_1": BATCH,
    "GET files/file-out/content": BATCH_OUTPUT,
    "POST batches/batch_1/cancel": BATCH | {"status": "cancelling"},
    "POST moderations": MODERATION,
    "POST responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 11},
    "DELETE responses/resp_1": {"id": "resp_1", "object": "response", "deleted": True},
    "POST conversations": {"id": "conv_1", "object": "conversation", "created_at": AT, "metadata": {}},
    "GET fine_tuning/jobs": _openai_list(),
}

ANTHROPIC: dict[str, object] = {
    **UNHEARD,
    "GET models": _claude_list(CLAUDE),
    "GET models/claude-opus-5": CLAUDE,
    "GET files": _claude_list(CLAUDE_FILE),
    "POST files": CLAUDE_FILE,
    "GET files/file_1": CLAUDE_FILE,
    "GET files/file_1/content": CONTENT,
    "DELETE files/file_1": {"id": "file_1", "type": "file_deleted"},
    "POST messages/batches": CLAUDE_BATCH,
    "GET messages/batches": _claude_list(CLAUDE_ENDED),
    "GET messages/batches/msgbatch_1": CLAUDE_ENDED,
    "GET messages/batches/msgbatch_1/results": BATCH_RESULTS,
    "POST messages/batches/msgbatch_1/cancel": CLAUDE_BATCH | {"processing_status": "canceling"},
    "POST messages/count_tokens": {"input_tokens": 2_095},
}


async def answer(request: web.Request) -> web.Response:
    """The answer to a request; 404 in the provider's own form where it has none."""
    is_anthropic = "anthropic-version" in request.headers
    called = f"{request.method} {request.path.removeprefix('/v1/')}"
    said = (OUTSIDE | (ANTHROPIC if is_anthropic else OPENAI)).get(called)
    if isinstance(said, bytes):
        return web.Response(body=said, content_type="application/octet-stream")
    if said is not None:
        return web.Response(text=json.dumps(said), content_type="application/json")
    error = {"type": "not_found_error", "message": f"there is no {called}"}
    if is_anthropic:
        return web.json_response({"type": "error", "error": error, "request_id": "req_1"}, status=404)
    return web.json_response({"error": {**error, "param": None, "code": None}}, status=404)
