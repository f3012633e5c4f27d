"""What is read agrees with genai-prices: its extractors for whoever speaks these dialects, and its hosts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from genai_prices.data import providers
from recorded import CHAT_USAGE, JSON, RESPONSE_USAGE

from costd.domain.proxied.hosts import PROVIDERS, provider_of
from costd.domain.proxied.routes import route_of
from costd.domain.proxied.sold import bill

_ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"object": "chat.completion", "usage": CHAT_USAGE}),
    "responses": ("responses", {"object": "response", "status": "completed", "usage": RESPONSE_USAGE}),
    "embeddings": ("embeddings", {"object": "list", "usage": {"prompt_tokens": 8, "total_tokens": 8}}),
    "anthropic": (
        "messages",
        {
            "type": "message",
            "usage": {
                "input_tokens": 11,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 7,
                "output_tokens": 5,
            },
        },
    ),
}
SPEAKING = [
    (provider, extractor)
    for provider in providers
    for extractor in provider.extractors or []
    if extractor.api_flavor in _ANSWERS and extractor.root == "usage"  # Cohere's own embeddings are told elsewhere
]


@pytest.mark.parametrize(("provider", "extractor"), SPEAKING, ids=lambda value: getattr(value, "id", None) or "flavor")
def test_every_count_that_the_library_extracts_is_read(provider: Any, extractor: Any) -> None:
    path, said = _ANSWERS[extractor.api_flavor]
    answer = {"id": "x", "model": "m", **said}
    reader = route_of("POST", path).reader(200, JSON, json.loads)
    reader.feed(json.dumps(answer).encode())
    sold = reader.end(is_whole=True)
    units = bill(sold, provider.id, lambda: 0).units
    _, usage = provider.extract_usage(answer, api_flavor=extractor.api_flavor)
    extracted = {unit: count for unit, count in usage.__dict__.items() if count}
    assert extracted.items() <= units.items()
    assert sold.model == "m"


def test_hosts_have_the_prices_that_the_library_gives_them() -> None:
    for host, provider in PROVIDERS.items():
        (known,) = [entry for entry in providers if entry.id == provider]
        urls = (f"https://{host}/v1", f"https://name.{host}/v1", f"https://{host}/client/v4/accounts/1/ai/v1")
        assert any(re.match(known.api_pattern, url) for url in urls), host
        assert provider_of(urls[0]) == provider


def test_whose_prices_hold_for_a_base_url() -> None:
    assert provider_of("https://api.openai.com/v1") == "openai"
    assert provider_of("https://mine.openai.azure.com/openai/v1") == "azure"
    assert provider_of("https://API.GROQ.com:443/openai/v1") == "groq"
    assert provider_of("http://127.0.0.1:11434/v1") == ""
    assert provider_of("https://api.openai.com.evil.example/v1") == ""
    assert provider_of("nonsense") == ""
