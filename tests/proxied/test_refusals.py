"""Refusals reach the callers of SDKs as the errors they know, and are tried again only where that makes sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from costd.domain.proxied.refusals import Refusal, Speech, speech_of

OURS = {"success": False, "error": "no", "message": "no", "code": "RATE_LIMIT_EXCEEDED", "requestId": "req-1"}
BUDGET = Refusal(429, "The budget Video is used up", code="insufficient_quota", may_retry=False)

KINDS = [
    (Refusal(400, "no", param="model"), openai.BadRequestError, anthropic.BadRequestError),
    (Refusal(401, "no", code="invalid_api_key"), openai.AuthenticationError, anthropic.AuthenticationError),
    (Refusal(403, "no"), openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    (Refusal(404, "no"), openai.NotFoundError, anthropic.NotFoundError),
    (BUDGET, openai.RateLimitError, anthropic.RateLimitError),
    (Refusal(502, "no"), openai.InternalServerError, anthropic.InternalServerError),
    (Refusal(504, "no"), openai.InternalServerError, anthropic.InternalServerError),
]


def answering(refusal: Refusal, speech: Speech, asked: list[str]) -> Callable[[Any], Any]:
    def answer(request: Any) -> Any:
        asked.append(str(request.url))
        kind = httpx2 if isinstance(request, httpx2.Request) else httpx
        return kind.Response(refusal.status, json=refusal.body(speech, "req-1", OURS), headers=refusal.headers())

    return answer


@pytest.mark.parametrize(("refusal", "in_openai", "in_anthropic"), KINDS)
def test_sdks_raise_what_their_callers_know(refusal: Refusal, in_openai: Any, in_anthropic: Any) -> None:
    asked: list[str] = []
    http = httpx2.Client(transport=httpx2.MockTransport(answering(refusal, Speech.OPENAI, asked)))
    with openai.OpenAI(api_key="k", http_client=http, max_retries=0) as client, pytest.raises(in_openai) as raised:
        client.models.list()
    assert raised.value.message.endswith(str(raised.value.body)) or refusal.message in raised.value.message
    assert raised.value.code == (refusal.code or None)
    assert raised.value.param == (refusal.param or None)
    http = httpx2.Client(transport=httpx2.MockTransport(answering(refusal, Speech.ANTHROPIC, asked)))
    with anthropic.Anthropic(api_key="k", http_client=http, max_retries=0) as other, pytest.raises(in_anthropic) as got:
        other.models.list()
    assert got.value.body["error"]["message"] == refusal.message
    assert got.value.body["requestId"] == "req-1"
    assert len(asked) == 2


def test_a_refusal_of_a_budget_is_not_tried_again() -> None:
    asked: list[str] = []
    http = httpx2.Client(transport=httpx2.MockTransport(answering(BUDGET, Speech.OPENAI, asked)))
    with openai.OpenAI(api_key="k", http_client=http, max_retries=3) as client, pytest.raises(openai.RateLimitError):
        client.models.list()
    assert len(asked) == 1


def test_our_own_fields_stand_beside_the_error() -> None:
    body = BUDGET.body(Speech.OPENAI, "req-1", OURS)
    assert body["code"] == "RATE_LIMIT_EXCEEDED"
    assert body["error"] == {
        "message": "The budget Video is used up",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
    assert BUDGET.body(Speech.ANTHROPIC, "req-1", OURS)["error"]["type"] == "rate_limit_error"


def test_when_to_try_again_is_told() -> None:
    assert Refusal(429, "no", retry_after_s=0.2).headers() == {"Retry-After": "1"}
    assert Refusal(429, "no", retry_after_s=2.1).headers() == {"Retry-After": "3"}
    assert Refusal(502, "no").headers() == {}
    assert BUDGET.headers() == {"x-should-retry": "false"}


def test_a_refusal_speaks_to_who_called() -> None:
    assert speech_of("anthropic", "chat/completions") is Speech.OPENAI
    assert speech_of("openai", "messages") is Speech.ANTHROPIC
    assert speech_of("anthropic", "models") is Speech.ANTHROPIC
    assert speech_of("openai", "other") is Speech.OPENAI
