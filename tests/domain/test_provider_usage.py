"""Providers' own usage objects become inclusive units that fit together, and the context of their tier."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from importlib import resources
from typing import Any

import pytest
from genai_prices import extract_usage
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.domain.errors import Invalid
from costd.domain.price_table import PriceTable
from costd.domain.provider_usage import tier_context, units_from_provider

REGISTRY = PriceTable(resources.files("costd").joinpath("data", "prices.txt").read_bytes()).units

CONVERSIONS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[tuple[str, str], ...]]] = [
    (
        "openai",
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0, "rejected_prediction_tokens": 1},
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "output_reasoning_tokens": 30},
        (),
    ),
    (
        "openai",
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 30},
            "service_tier": "flex",
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "output_reasoning_tokens": 30},
        (("service_tier", "flex"),),
    ),
    (
        "openai",  # realtime: what was itemised as not cached is a zero that prices need
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "input_token_details": {
                "text_tokens": 60,
                "audio_tokens": 40,
                "cached_tokens": 20,
                "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 0},
            },
            "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "input_text_tokens": 60,
            "input_audio_tokens": 40,
            "cache_read_tokens": 20,
            "cache_text_read_tokens": 20,
            "cache_audio_read_tokens": 0,
            "output_text_tokens": 10,
            "output_audio_tokens": 40,
        },
        (),
    ),
    ("openai", {"prompt_tokens": 8, "total_tokens": 8}, {"input_tokens": 8}, ()),
    ("voyageai", {"total_tokens": 8}, {"input_tokens": 8}, ()),
    ("openai", {"type": "duration", "seconds": 12.5}, {"audio_seconds": Decimal("12.5")}, ()),
    ("openai", {"prompt_tokens": 5.0, "completion_tokens": Decimal(3)}, {"input_tokens": 5, "output_tokens": 3}, ()),
    (
        "Anthropic",
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5},
            "output_tokens": 40,
            "server_tool_use": {"web_search_requests": 2},
            "service_tier": "batch",
        },
        {
            "input_tokens": 60,
            "output_tokens": 40,
            "cache_read_tokens": 30,
            "cache_write_tokens": 20,
            "cache_write_5m_tokens": 15,
            "cache_write_1h_tokens": 5,
            "web_searches": 2,
        },
        (("processing", "batch"),),
    ),
    (
        "anthropic",
        {"input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": 0, "service_tier": "standard"},
        {"input_tokens": 10, "output_tokens": 4},
        (),
    ),
    (
        "anthropic",
        {"input_tokens": 1, "output_tokens": 1, "service_tier": None, "speed": "fast", "server_tool_use": None},
        {"input_tokens": 1, "output_tokens": 1},
        (("speed", "fast"),),
    ),
    (
        "bedrock",
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 45,
            "cacheReadInputTokens": 20,
            "cacheWriteInputTokens": 9,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 9}],
        },
        {
            "input_tokens": 39,
            "output_tokens": 5,
            "cache_read_tokens": 20,
            "cache_write_tokens": 9,
            "cache_write_1h_tokens": 9,
        },
        (),
    ),
    (
        "gemini",
        {
            "promptTokenCount": 100,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 7,
            "cachedContentTokenCount": 50,
            "totalTokenCount": 157,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 40}],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 50}],
            "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 20}, {"modality": "SMELL", "tokenCount": 1}],
            "trafficType": "ON_DEMAND",
        },
        {
            "input_tokens": 107,
            "output_tokens": 50,
            "cache_read_tokens": 50,
            "input_tool_tokens": 7,
            "output_reasoning_tokens": 30,
            "input_text_tokens": 67,
            "input_audio_tokens": 40,
            "input_text_tool_tokens": 7,
            "output_text_tokens": 20,
            "cache_text_read_tokens": 50,
            "cache_audio_read_tokens": 0,
        },
        (),
    ),
    (
        "vertex_ai",
        {"usage_metadata": {"prompt_token_count": 10, "candidates_token_count": 2, "thoughts_token_count": 3}},
        {"input_tokens": 10, "output_tokens": 5, "output_reasoning_tokens": 3},
        (),
    ),
    (
        "google",
        {"promptTokenCount": 10, "totalTokenCount": 10, "trafficType": "ON_DEMAND_PRIORITY"},
        {"input_tokens": 10, "output_tokens": 0},
        (("service_tier", "priority"),),
    ),
    (
        "mistral",
        {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "num_cached_tokens": None},
        {"input_tokens": 10, "output_tokens": 2},
        (),
    ),
    ("mistral", {"pages_processed": 3, "doc_size_bytes": 5}, {"input_document_pages": 3}, ()),
    (
        "deepseek",
        {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6},
        {"input_tokens": 10, "output_tokens": 2, "cache_read_tokens": 4},
        (),
    ),
    (
        "x-ai",
        {"prompt_tokens": 10, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 5}},
        {"input_tokens": 10, "output_tokens": 7, "output_reasoning_tokens": 5},
        (),
    ),
    (
        "perplexity",
        {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "citation_tokens": 3,
            "reasoning_tokens": 4,
            "num_search_queries": 5,
        },
        {
            "input_tokens": 1,
            "output_tokens": 9,
            "output_reasoning_tokens": 4,
            "output_citation_tokens": 3,
            "web_searches": 5,
        },
        (),
    ),
    (
        "cohere",
        {"billed_units": {"input_tokens": 5, "output_tokens": 6}, "tokens": {"input_tokens": 70, "output_tokens": 6}},
        {"input_tokens": 5, "output_tokens": 6},
        (),
    ),
    (
        "anthropic",  # what a round used is in the totals; a compaction between rounds is billed beside them
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 30,
            "output_tokens": 40,
            "iterations": [
                {"type": "compaction", "input_tokens": 500, "output_tokens": 60, "cache_read_input_tokens": 100},
                {"type": "message", "input_tokens": 10, "output_tokens": 40, "cache_read_input_tokens": 30},
            ],
        },
        {"input_tokens": 640, "output_tokens": 100, "cache_read_tokens": 130},
        (),
    ),
]


@pytest.mark.parametrize(("provider", "raw", "units", "context"), CONVERSIONS)
def test_usage_is_converted(
    provider: str, raw: dict[str, Any], units: dict[str, Any], context: tuple[tuple[str, str], ...]
) -> None:
    """Inclusive counts, zeros left out, and what comes out always passes the check."""
    assert units_from_provider(provider, raw) == (units, context)
    REGISTRY.check(units)


@pytest.mark.parametrize(
    ("provider", "flavor", "wrapper", "raw"),
    [
        ("openai", "chat", "usage", CONVERSIONS[0][1]),
        ("openai", "responses", "usage", CONVERSIONS[1][1]),
        ("anthropic", "default", "usage", CONVERSIONS[7][1]),
        ("aws", "default", "usage", CONVERSIONS[10][1]),
        ("google", "default", "usageMetadata", CONVERSIONS[11][1]),
        ("x-ai", "chat", "usage", CONVERSIONS[17][1]),
        ("perplexity", "default", "usage", CONVERSIONS[18][1]),
    ],
)
def test_usage_is_read_as_the_library_reads_it(provider: str, flavor: str, wrapper: str, raw: dict[str, Any]) -> None:
    """The same counts as genai-prices extracts, zeros apart."""
    extracted = extract_usage({wrapper: raw}, provider_id=provider, api_flavor=flavor).usage
    theirs = {name: value for name, value in vars(extracted).items() if value}
    ours = {name: value for name, value in units_from_provider(provider, raw)[0].items() if value}
    assert ours == theirs


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({}, "usage"),
        ({"prompt_tokens": None}, "usage"),
        ({"prompt_tokens": "5"}, "usage.prompt_tokens"),
        ({"prompt_tokens": True}, "usage.prompt_tokens"),
        ({"prompt_tokens": -1}, "usage.prompt_tokens"),
        ({"prompt_tokens": float("nan")}, "usage.prompt_tokens"),
        ({"prompt_tokens": 1e300}, "usage.prompt_tokens"),
        ({"prompt_tokens": Decimal("1E+999999")}, "usage.prompt_tokens"),
        ({"prompt_tokens": 1, "prompt_tokens_details": 5}, "usage.prompt_tokens_details"),
        (
            {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": []}},
            "usage.prompt_tokens_details.cached_tokens",
        ),
        ({"prompt_tokens": 1, "service_tier": 5}, "usage.service_tier"),
        ({"prompt_tokens": 1, "service_tier": "x" * 65}, "usage.service_tier"),
        ({"promptTokenCount": 1, "promptTokensDetails": {}}, "usage.promptTokensDetails"),
        ({"promptTokenCount": 1, "promptTokensDetails": [5]}, "usage.promptTokensDetails[0]"),
        ({"promptTokenCount": 1, "promptTokensDetails": [{"modality": 5}]}, "usage.promptTokensDetails[0].modality"),
        ({"input_tokens": 1, "cache_creation": 7}, "usage.cache_creation"),
    ],
)
def test_wrong_types_are_refused_by_name(raw: dict[str, Any], field: str) -> None:
    """Never guessed, never a crash."""
    with pytest.raises(Invalid) as refusal:
        units_from_provider("openai", raw)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("word", "context"),
    [
        ("auto", ()),
        ("standard", ()),
        ("default", (("service_tier", "default"),)),
        ("Flex", (("service_tier", "flex"),)),
        ("priority", (("service_tier", "priority"),)),
        ("scale", (("service_tier", "scale"),)),
        ("batch", (("processing", "batch"),)),
    ],
)
def test_tiers_are_mapped(word: str, context: tuple[tuple[str, str], ...]) -> None:
    """Words that select a price become its context, in lower case; words that say nothing become none."""
    assert tier_context(word) == context


FIELDS = st.sampled_from(sorted({key for _, raw, _, _ in CONVERSIONS for key in raw}))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=3)
OBJECTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["openai", "anthropic", "google", "aws", ""]), st.dictionaries(FIELDS, OBJECTS, max_size=6))
def test_any_object_is_converted_or_refused(provider: str, raw: dict[str, Any]) -> None:
    """Whatever is sent, the answer is units or Invalid."""
    with contextlib.suppress(Invalid):
        units, _ = units_from_provider(provider, raw)
        REGISTRY.check(units)
