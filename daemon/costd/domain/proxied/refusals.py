"""Refusals of a proxy in the shape of the provider's own errors, so that its SDKs raise what their users expect.

Formats: https://platform.openai.com/docs/guides/error-codes ({"error": {message, type, param, code}}) and
https://docs.anthropic.com/en/api/errors ({"type": "error", "error": {type, message}, "request_id"}). Both SDKs try
again after 408, 409, 429 and 5xx, unless `x-should-retry: false` says not to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from math import ceil
from typing import Any, NamedTuple


class Speech(Enum):
    """Whose SDK listens."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


def speech_of(dialect: str, endpoint: str) -> Speech:
    """Whose SDK called: told by the endpoint where only one has it, else by the upstream's dialect ("anthropic", …)."""
    if endpoint in {"messages", "count_tokens"}:
        return Speech.ANTHROPIC
    if endpoint in {"chat/completions", "responses", "embeddings", "completions"}:
        return Speech.OPENAI
    return Speech.ANTHROPIC if dialect == "anthropic" else Speech.OPENAI


class Refusal(NamedTuple):
    """A refusal: its status, the sentence for people, and what SDKs do about it.

    `code` is OpenAI's word for machines where there is one ("insufficient_quota", "rate_limit_exceeded",
    "invalid_api_key"), `param` the member of the body that was wrong. A refusal of a budget is `may_retry=False`.
    """

    status: int
    message: str
    code: str = ""
    param: str = ""
    may_retry: bool = True
    retry_after_s: float | None = None

    def headers(self) -> dict[str, str]:
        """Headers beside the usual ones."""
        headers = {} if self.may_retry else {"x-should-retry": "false"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, ceil(self.retry_after_s)))
        return headers

    def body(self, speech: Speech, request_id: str, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The error body; `ours` are the fields of costd's own error body, of which `error` gives way."""
        if speech is Speech.ANTHROPIC:
            error = {"type": _ANTHROPIC_TYPES.get(self.status, "api_error"), "message": self.message}
            return {**ours, "type": "error", "error": error, "request_id": request_id}
        kind = "insufficient_quota" if self.code == "insufficient_quota" else _OPENAI_TYPES.get(self.status)
        said = {
            "message": self.message,
            "type": kind or ("server_error" if self.status >= 500 else "invalid_request_error"),
            "param": self.param or None,
            "code": self.code or None,
        }
        return {**ours, "error": said}


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    426: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_TYPES = {429: "requests"}
