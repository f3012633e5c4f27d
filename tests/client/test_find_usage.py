"""find_usage: whatever an SDK returns, the raw usage comes out of it, and no text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd_client.provider_usage import ProviderUsage, StreamUsage, find_usage

CHAT = {"prompt_tokens": 5, "completion_tokens": 3}
MESSAGE = {"input_tokens": 5, "output_tokens": 1}
GEMINI = {"promptTokenCount": 5, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}
STARTED = {"type": "message_start", "message": {"type": "message", "model": "claude", "usage": MESSAGE}}

FOUND: list[tuple[Any, str, dict[str, Any], str]] = [
    ({"model": "gpt-4o", "usage": CHAT}, "", CHAT, "success"),
    ({"usage": CHAT, "service_tier": "flex"}, "", CHAT | {"service_tier": "flex"}, "success"),
    ({"type": "message", "model": "claude", "usage": MESSAGE}, "anthropic", MESSAGE, "success"),
    ({"modelVersion": "gemini-2.5-pro", "usageMetadata": GEMINI}, "google", GEMINI, "success"),
    ({"output": {"message": {}}, "usage": {"inputTokens": 5}}, "", {"inputTokens": 5}, "success"),
    ({"metadata": {"usage": {"inputTokens": 5}}}, "", {"inputTokens": 5}, "success"),
    ({"usage": {"billed_units": {"input_tokens": 5}}}, "", {"billed_units": {"input_tokens": 5}}, "success"),
    ({"usage_info": {"pages_processed": 2}}, "", {"pages_processed": 2}, "success"),
    ({"choices": [], "x_groq": {"usage": CHAT}}, "", CHAT, "success"),
    (CHAT, "", CHAT, "success"),
    ({"type": "duration", "seconds": 2.5}, "", {"type": "duration", "seconds": 2.5}, "success"),
    ({"object": "response", "status": "failed", "usage": MESSAGE}, "", MESSAGE, "error"),
    ({"object": "response", "status": "queued", "usage": None, "service_tier": "flex"}, "", {}, "pending"),
    ({"type": "response.completed", "response": {"status": "completed", "usage": MESSAGE}}, "", MESSAGE, "success"),
    (
        SimpleNamespace(usage=SimpleNamespace(prompt_tokens=5, note="secret", _own=1)),
        "",
        {"prompt_tokens": 5},
        "success",
    ),
    (
        [{"choices": [1], "service_tier": "flex"}, {"choices": [], "usage": CHAT}],
        "",
        CHAT | {"service_tier": "flex"},
        "success",
    ),
    ([STARTED], "anthropic", MESSAGE, "incomplete"),
    (
        [STARTED, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}],
        "anthropic",
        {"input_tokens": 5, "output_tokens": 9},
        "success",
    ),
    ([STARTED, {"type": "error", "error": {"type": "overloaded_error"}}], "anthropic", MESSAGE, "error"),
]


@pytest.mark.parametrize(("response", "provider", "usage", "status"), FOUND)
def test_usage_is_found(response: Any, provider: str, usage: dict[str, Any], status: str) -> None:
    """The raw object as it was, the provider where the shape tells it, and how it ended."""
    found = find_usage(response)
    assert found is not None
    assert (found.provider, found.usage, found.status) == (provider, usage, status)
    assert find_usage(found) is found


@pytest.mark.parametrize("response", [None, "text", b"bytes", 5, {}, {"usage": None}, object(), {"seconds": 7}])
def test_where_there_is_none(response: Any) -> None:
    """None, and no error."""
    assert find_usage(response) is None


def test_tools_that_cost_by_the_call_are_counted() -> None:
    """Searches, not the pages that the model opens after them."""
    calls = [{"type": "web_search_call", "action": {"type": kind}} for kind in ("search", "open_page", "search")]
    found = find_usage({"output": [*calls, {"type": "file_search_call"}, {"type": "message"}], "usage": MESSAGE})
    assert found is not None
    assert found.tool_calls == {"web_searches": 2, "storage_searches": 1}


def test_no_text_passes() -> None:
    """Whatever an object of usage holds: numbers, and the few words that select a price."""
    usage = {**CHAT, "note": "secret", "details": {"service_tier": "x" * 200, "text": ["secret"]}, "speed": "fast"}
    found = find_usage({"usage": usage})
    assert found is not None
    assert "secret" not in repr(found)
    assert found.usage["details"]["service_tier"] == "x" * 64


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
FIELDS = st.sampled_from(
    ["usage", "type", "response", "message", "error", "output", "status", "id", "prompt_tokens", "choices"]
)
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4))


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.lists(ANYTHING, max_size=4))
def test_nothing_makes_it_fail(response: Any, events: list[Any]) -> None:
    """Objects of any shape, streams of any events."""
    assert isinstance(find_usage(response), ProviderUsage | None)
    assert isinstance(StreamUsage.of(events).found(), ProviderUsage)
