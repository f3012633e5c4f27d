"""Estimates of requests: the rule of costd's clients, to the token, and no body that it fails at."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from test_readers import nonsense_fields

from costd.domain.proxied.estimate import _RULES, asked_units, estimate, likely_input_tokens
from costd.domain.units import MAX_QUANTITY
from costd_client.wrap_anthropic import _estimate as of_messages
from costd_client.wrap_openai import _ENDPOINTS

DATA = "A" * 8_000
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "Grüezi 漢字"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + DATA}},
    {"type": "image", "source": {"type": "base64", "data": DATA}},
    {"type": "document", "source": {"type": "base64", "data": DATA}},
    {"type": "document", "source": {"type": "text", "data": DATA}},
    {"type": "input_file", "file_id": "file-1"},
    {"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}},
]
BODIES: list[dict[str, Any]] = [
    {},
    {"messages": [{"role": "user", "content": PARTS}], "tools": [{"name": "x"}], "system": "be brief"},
    {"messages": [{"role": "user", "content": "abcd"}], "max_tokens": 500, "n": 3},
    {"messages": [], "max_completion_tokens": 7, "max_tokens": 500, "prediction": {"content": "abcdef"}},
    {"input": "Grüezi", "instructions": "x", "max_output_tokens": 9},
    {"input": [[1, 2, 3], [4]], "prompt": [1, 2, 3]},
    {"input": [[1, 2, 3], "abcd"], "prompt": [[1, 2], "abcd", [1, "abcd"]]},
    {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "tool_use", "input": {"x": [1, DATA], "y": [0.5, None, True, 10**40]}}],
            }
        ]
    },
    {
        "messages": [
            {"role": "user", "content": [{**PARTS[3], "title": "a", "context": DATA}, {"type": "image", "alt": DATA}]}
        ]
    },
    {"prompt": ["a", "b"], "max_tokens": 10, "best_of": 4},
    {"prompt": "a cat", "quality": "low", "n": 2, "partial_images": 3},
    {"max_tokens": True, "n": -4, "quality": []},
]


@pytest.mark.parametrize("endpoint", sorted(_RULES.keys() - {"fim/completions", "rerank", "messages"}))
def test_a_proxy_reserves_what_a_client_would(endpoint: str) -> None:
    for body in BODIES:
        try:
            expected = _ENDPOINTS[endpoint](body, 4_096)
        except TypeError:
            continue  # the client's callers are checked by their SDK
        if endpoint != "audio/speech" or isinstance(body.get("input"), str):
            assert estimate(endpoint, body, 4_096) == expected


def test_messages_are_estimated_as_a_client_does() -> None:
    for body in BODIES:
        if isinstance(body.get("max_tokens"), int) and body["max_tokens"] is not True:
            assert estimate("messages", body, 4_096) == of_messages("messages", body)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "tool_use", "input": [1, DATA]},
        {"type": "tool_use", "input": [0.125] * 2_000},
        {"type": "tool_use", "input": [10**9] * 1_000},
        {"type": "tool_use", "input": {str(n): 10**40 for n in range(250)}},
        {"type": "document", "source": {"type": "url", "url": "x"}, "context": DATA},
        {"type": "tool_use", "input": {"type": "image", "prompt": DATA}},
    ],
)
def test_whatever_form_a_body_has_all_of_it_is_reserved_for(content: object) -> None:
    """About 8,000 bytes each."""
    body = {"messages": [{"role": "user", "content": [content]}], "max_tokens": 1}
    assert 4_000 <= estimate("messages", body, 1)["input_tokens"] <= 15_000


def test_what_cannot_be_seen_is_not_estimated() -> None:
    assert estimate("audio/transcriptions", {}, 4_096) == {}
    assert estimate("other", {"input": "abc"}, 4_096) == {}


def test_an_estimate_is_never_more_than_a_record_may_hold() -> None:
    body = {"messages": [], "max_tokens": 10**30, "n": 10**6}
    assert estimate("chat/completions", body, 0)["output_tokens"] == MAX_QUANTITY


def test_likely_is_half_of_most() -> None:
    assert likely_input_tokens("embeddings", {"input": "abcdefgh"}) == 2
    assert likely_input_tokens("audio/transcriptions", {}) == 0


def test_speech_is_paid_for_by_its_text() -> None:
    assert asked_units("audio/speech", {"input": "Grüezi"}) == {"input_characters": 6}
    assert asked_units("audio/speech", {}) == {}
    assert asked_units("embeddings", {"input": "Grüezi"}) == {}


def test_no_body_raises() -> None:
    names = ("messages", "input", "prompt", "tools", "n", "max_tokens", "quality", "source", "file", "stream_options")
    for seed in range(300):
        luck = Random(seed)
        body = nonsense_fields(luck) | {luck.choice(names): value for value in nonsense_fields(luck).values()}
        for endpoint in _RULES:
            assert all(count >= 0 for count in estimate(endpoint, body, 10).values())
