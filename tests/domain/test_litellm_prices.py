"""LiteLLM's price file: what is not understood is reported, names lead where they should, and nothing crashes it."""

from __future__ import annotations

import json
import re
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costd.domain.errors import Invalid
from costd.domain.litellm.fields import COMPOUND, OWN_UNITS, UNIT_OF, WORDS, read_name
from costd.domain.litellm.providers import provider_id
from costd.domain.litellm_prices import compile_file
from costd.domain.price_table import PriceTable, read_header
from costd.domain.pricebook import PriceBook
from costd.domain.rates import RateCard
from litellm_file import CACHED, CHAT, LISTED, PLAIN, TIERED, UNITS, compiled, cost, nano, read

DOCS = Path(__file__).resolve().parents[2] / "docs" / "prices.md"

#: (fields, (field, part of the reason)) of what is left out of an entry that is imported all the same.
LEFT_OUT: list[tuple[dict[str, object], tuple[str, str]]] = [
    (PLAIN | {"input_cost_per_smell": 1}, ("input_cost_per_smell", "is not known")),
    (PLAIN | {"input_cost_per_audio_token": -1}, ("input_cost_per_audio_token", "is negative")),
    (PLAIN | {"input_cost_per_audio_token": "x"}, ("input_cost_per_audio_token", "is not a number")),
    (PLAIN | {"input_cost_per_audio_token": True}, ("input_cost_per_audio_token", "is not a number")),
    (PLAIN | {"input_cost_per_audio_token": float("inf")}, ("input_cost_per_audio_token", "is not a number")),
    (PLAIN | {"input_cost_per_audio_token": 1e7}, ("input_cost_per_audio_token", "is above 1000000 USD")),
    (PLAIN | {"input_cost_per_audio_token": 1e-60}, ("input_cost_per_audio_token", "more digits")),
    (
        PLAIN | {"input_cost_per_token_cache_hit": 1e-6, "cache_read_input_token_cost": 2e-6},
        ("input_cost_per_token_cache_hit", "has another price"),
    ),
    (
        {"input_cost_per_token": 1e-6, "citation_cost_per_token": 1e-6},
        ("citation_cost_per_token", "is a price for a part of output_tokens"),
    ),
    (
        {"input_cost_per_token": 1e-6, "output_cost_per_token_above_9k_tokens": 1e-6},
        ("output_cost_per_token_above_9k_tokens", "none up to it"),
    ),
    (
        PLAIN | {"output_cost_per_audio_token": 1, "output_cost_per_reasoning_token": 1},
        ("output_cost_per_reasoning_token", "of this kind and audio"),
    ),
    (
        PLAIN | {"cache_creation_input_token_cost_above_12hr": 1},
        ("cache_creation_input_token_cost_above_12hr", "twelve hours"),
    ),
    (PLAIN | {"input_cost_per_character": 1}, ("input_cost_per_character", "measures what input_cost_per_token does")),
    (PLAIN | {"input_cost_per_second": 1}, ("input_cost_per_second", "measures what input_cost_per_token does")),
    (PLAIN | {"mode": "poetry", "input_cost_per_second": 1}, ("input_cost_per_second", "'poetry'")),
    (
        PLAIN | {"off_peak_pricing": {"input_cost_per_token": 1, "hours_utc": "9-5"}},
        ("off_peak_pricing", "is not HH:MM-HH:MM"),
    ),
    (
        PLAIN | {"off_peak_pricing": {"input_cost_per_token": 1, "windows": [{"weekdays": [9]}]}},
        ("off_peak_pricing", "9 is no weekday"),
    ),
    (PLAIN | {"off_peak_pricing": {"input_cost_per_smell": 1}}, ("off_peak_pricing", "input_cost_per_smell")),
    (PLAIN | {"tiered_pricing": [{"range": [5, 9], "input_cost_per_token": 1}]}, ("tiered_pricing", "from 0")),
    (
        PLAIN | {"tiered_pricing": [{"max_results_range": [0, 9], "input_cost_per_query": 1}]},
        ("tiered_pricing", "ranges of input tokens"),
    ),
    (PLAIN | {"search_free_requests": {"count": 9, "period": "day"}}, ("search_free_requests", "9 a day are free")),
    (
        PLAIN | {"search_context_cost_per_query": {"search_context_size_low": 1}},
        ("search_context_cost_per_query", "medium"),
    ),
    (PLAIN | {"provider_specific_entry": {"free_images": 5}}, ("provider_specific_entry.free_images", "not known")),
    (PLAIN | {"guardrail_cost_per_unit": {"a b": 1}}, ("guardrail_cost_per_unit.a b", "cannot be the name of a unit")),
]


@pytest.mark.parametrize(("fields", "remark"), LEFT_OUT)
def test_what_is_not_understood_is_named_and_the_rest_imported(
    fields: dict[str, object], remark: tuple[str, str]
) -> None:
    table, report = read(**fields)
    assert report.imported == report.partly == 1
    said = [(each.field, each.reason) for each in report.not_understood]
    assert any(field == remark[0] and remark[1] in reason for field, reason in said), said
    assert cost(table, {"input_tokens": 1}) != 0


def test_a_price_for_a_part_alone_holds_for_the_whole() -> None:
    """What is not audio costs the same, where the file has no other price, and the report says so."""
    table, report = read(input_cost_per_audio_token=2e-6)
    assert cost(table, {"input_tokens": 10, "input_audio_tokens": 4}) == nano("0.00002")
    assert [(each.field, each.reason) for each in report.assumed] == [
        ("input_cost_per_audio_token", "the file has no price for other input tokens: they are priced the same")
    ]


def test_the_report_counts_every_entry_once() -> None:
    done = compiled(
        {
            "sample_spec": {"litellm_provider": "one of …", "input_cost_per_token": 0.0, "mode": "one of: chat"},
            "priced": CHAT | PLAIN,
            "free": CHAT | {"input_cost_per_token": 0, "output_cost_per_token": 0.0},
            "partly": CHAT | PLAIN | {"cost_per_smile": 1},
            "rules": {"rules": []},
            "unpriced": CHAT | {"max_tokens": 5},
            "only unknown": CHAT | {"cost_per_smile": 1},
            "only bad": CHAT | {"input_cost_per_token": -1},
            "no provider": PLAIN,
            "no object": 5,
            "x" * 300: CHAT | PLAIN,
            "bad\nname": CHAT | PLAIN,
        }
    )
    report = done.report
    assert (report.entries, report.imported, report.partly) == (11, 3, 1)
    assert report.unpriced == ("rules", "unpriced")
    assert report.free == ("free",)
    assert {(r.model, r.field, r.reason) for r in report.refused} == {
        ("only unknown", "", "cost_per_smile: is not known"),
        ("only bad", "", "input_cost_per_token: is negative"),
        ("no provider", "litellm_provider", "must name the provider"),
        ("no object", "", "is not an object"),
        ("x" * 256, "", "is not a name of at most 256 characters"),
        ("'bad\\nname'", "", "is not a name of at most 256 characters"),
    }
    assert report.unknown_fields == {"cost_per_smile": 2}
    assert report.entries == report.imported + len(report.unpriced) + len(report.refused)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is not JSON: line 1, column 1"),
        (b'{"a": {},\n "b": }', "is not JSON: line 2, column 7"),
        (b"\xff{}", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "has no entry with a price"),
        (b'{"m": ' + b"9" * 5000 + b"}", "has a number that is too large"),
        (b'{"m": 1e99999999999999999999}', "has a number that is too large"),
        (b'{"m":' * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_sentence(raw: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        compile_file(raw, "1", UNITS)
    assert refused.value.field == "file"
    assert reason in refused.value.reason


def test_names_lead_to_the_entry_written_so_or_with_the_providers_own_id() -> None:
    """An entry is found by its key, and without its provider in front; a name that two claim is reported."""

    def entry(provider: str, price: float) -> dict[str, object]:
        return {"litellm_provider": provider, "mode": "chat", "input_cost_per_token": price}

    done = compiled(
        {
            "azure_ai/gpt-9": entry("azure_ai", 1e-6),
            "azure/gpt-9": entry("azure", 2e-6),
            "azure/eu/gpt-9": entry("azure", 3e-6),
            "gemini-9": entry("vertex_ai-language-models", 4e-6),
            "gemini/gemini-9": entry("gemini", 5e-6),
            "gemini/gemini-8": entry("gemini", 6e-6),
            "vertex_ai/gemini-8": entry("vertex_ai", 6e-6),
            "bedrock/us-east-1/Anthropic.claude-9": entry("bedrock", 7e-6),
            "gpt-9": entry("openai", 8e-6),
        }
    )
    table = PriceTable(done.body, UNITS)

    def price(provider: str, name: str) -> object:
        found = table.find_exactly(provider, name)
        return None if found is None else found.model.card(0, ()).cost_nano({"input_tokens": 1})

    assert {
        ("azure", "gpt-9"): price("azure", "gpt-9"),
        ("azure", "AZURE_AI/gpt-9"): price("azure", "AZURE_AI/gpt-9"),
        ("azure", "eu/gpt-9"): price("azure", "eu/gpt-9"),
        ("google", "gemini-9"): price("google", "gemini-9"),
        ("google", "gemini/gemini-9"): price("google", "gemini/gemini-9"),
        ("google", "gemini-8"): price("google", "gemini-8"),
        ("aws", "us-east-1/anthropic.claude-9"): price("aws", "us-east-1/anthropic.claude-9"),
        ("aws", "anthropic.claude-9"): price("aws", "anthropic.claude-9"),
        ("openai", "gpt-9"): price("openai", "gpt-9"),
        # Without a provider, the entry with that very key.
        ("", "gpt-9"): price("", "gpt-9"),
        ("", "bedrock/us-east-1/anthropic.claude-9"): price("", "bedrock/us-east-1/anthropic.claude-9"),
    } == {
        ("azure", "gpt-9"): 2000,
        ("azure", "AZURE_AI/gpt-9"): 1000,
        ("azure", "eu/gpt-9"): 3000,
        ("google", "gemini-9"): 4000,
        ("google", "gemini/gemini-9"): 5000,
        ("google", "gemini-8"): 6000,
        ("aws", "us-east-1/anthropic.claude-9"): 7000,
        ("aws", "anthropic.claude-9"): None,
        ("openai", "gpt-9"): 8000,
        ("", "gpt-9"): 8000,
        ("", "bedrock/us-east-1/anthropic.claude-9"): 7000,
    }
    assert [(each.model, each.reason) for each in done.report.hidden] == [
        ("azure_ai/gpt-9", '"gpt-9" of azure is azure/gpt-9, at another price'),
        ("gemini/gemini-9", '"gemini-9" of google is gemini-9, at another price'),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "openai",
        "azure",
        "azure_ai",
        "azure_text",
        "anthropic",
        "bedrock",
        "bedrock_converse",
        "bedrock_mantle",
        "amazon_nova",
        "vertex_ai",
        "gemini",
        "vertex_ai-language-models",
        "cohere",
        "cohere_chat",
        "mistral",
        "codestral",
        "deepseek",
        "fireworks_ai",
        "groq",
        "xai",
        "together_ai",
        "perplexity",
        "openrouter",
        "moonshot",
        "minimax",
        "meta_llama",
        "voyage",
        "zai",
        "databricks",
        "cerebras",
        "cloudflare",
        "github_copilot",
        "novita",
        "elevenlabs",
        "kyma",
        "dashscope",
        "vercel_ai_gateway",
        "deepinfra",
        "replicate",
        "ovhcloud",
        "watsonx",
        "google_pse",
        "baseten",
        "typesafe",
    ],
)
def test_providers_are_those_that_the_price_book_means_by_their_names(name: str) -> None:
    """An entry would never be found if the two differed."""
    assert provider_id(name) == PriceBook(LISTED).canonical_provider(name)


def test_the_table_is_one_that_the_daemon_reads_and_the_same_each_time() -> None:
    entries = {"b/m": CHAT | TIERED, "a": CHAT | CACHED | {"litellm_provider": "Zed"}}
    done = compiled(entries)
    header = read_header(done.body)
    assert (header.version, header.complete) == ("1", True)
    assert compiled(entries).body == done.body
    own = PriceTable(done.body)
    assert own.units.units.keys() >= {*UNITS.units, *OWN_UNITS}
    own.check()
    assert [provider.id for provider in own.providers] == ["openai", "zed"]


def test_prices_are_exact() -> None:
    """Numbers are taken as they are written, not as floats, however many digits they have."""
    raw = b'{"m":{"litellm_provider":"openai","input_cost_per_token":0.000000100000000000000000000000001}}'
    table = PriceTable(compile_file(raw, "1", UNITS).body, UNITS)
    found = table.find_exactly("openai", "m")
    assert found is not None
    assert found.model.rates(0, {}) == {"input_tokens": [100000000000000000000000001, -27]}


def test_every_field_is_documented_with_its_unit() -> None:
    """docs/prices.md has a row for each field that is read, naming its unit, and for each modifier and own unit."""
    text = DOCS.read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for base, unit in UNIT_OF.items():
        assert any(f"`{base}`" in row and f"`{unit}`" in row for row in rows), base
    for name in [*COMPOUND, *OWN_UNITS, *(f"_{word}" for word in WORDS)]:
        assert f"`{name}`" in text, name


FIELDS = sorted(UNIT_OF)
SUFFIXES = [
    "",
    "_above_128k_tokens",
    "_above_300_tokens",
    *(f"_{word}" for word in WORDS),
    "_above_128k_tokens_priority",
]
NAMES = st.builds(str.__add__, st.sampled_from(FIELDS), st.sampled_from(SUFFIXES)) | st.sampled_from(sorted(COMPOUND))
PRICE = st.decimals(0, 3, places=9).map(float)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9) | NAMES, inner, max_size=4),
    max_leaves=12,
)
MODES = st.sampled_from(["chat", "audio_transcription", "video_generation", "image_generation", "rerank", "ocr", None])
ENTRY = st.builds(
    lambda prices, odd, mode: prices | odd | {"litellm_provider": "openai", "mode": mode},
    st.dictionaries(NAMES, PRICE, max_size=8),
    st.dictionaries(NAMES | st.text(max_size=12), JSON, max_size=3),
    MODES,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=20), ENTRY | JSON, max_size=4) | JSON)
def test_any_json_is_read_or_refused_and_whatever_is_read_can_be_used(parsed: object) -> None:
    """Nothing crashes it; each entry is counted once; every card it makes is one that usage can be priced by."""
    try:
        done = compile_file(json.dumps(parsed).encode(), "1", UNITS)
    except Invalid:
        return
    report = done.report
    assert report.entries == report.imported + len(report.unpriced) + len(report.refused)
    assert all(remark.model.isprintable() for remark in (*report.refused, *report.not_understood, *report.assumed))
    for table in (PriceTable(done.body, UNITS), PriceTable(done.body)):
        for provider in table.providers:
            for position in range(provider.model_count()):
                raw = provider.prices(position)
                standard = [rates for _, rates in raw["prices"]]
                over = [{**standard[0], **rates} for _, _, rates in raw.get("variants", [])]
                for rates in (*standard, *over):
                    assert RateCard(rates, table.units).defect == ""


COUNTS = st.integers(0, 10**6)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(PLAIN)), st.decimals(0, 1, places=12), min_size=1), COUNTS, COUNTS)
def test_costs_are_the_files_prices_times_the_tokens(prices: dict[str, Decimal], given_: int, made: int) -> None:
    raw = ", ".join(f'"{name}": {price:f}' for name, price in prices.items())
    done = compile_file(f'{{"m": {{"litellm_provider": "openai", {raw}}}}}'.encode(), "1", UNITS)
    found = PriceTable(done.body, UNITS).find_exactly("openai", "m")
    assert found is not None
    zero = Decimal(0)
    exact = prices.get("input_cost_per_token", zero) * given_ + prices.get("output_cost_per_token", zero) * made
    assert found.model.card(0, ()).cost_nano({"input_tokens": given_, "output_tokens": made}) == int(
        (exact * 10**9).to_integral_value(ROUND_HALF_EVEN)
    )


@given(st.sampled_from(FIELDS), st.integers(1, 999), st.booleans(), st.sampled_from(["", *WORDS]))
def test_names_of_fields_are_read_in_all_their_forms(base: str, count: int, kilo: bool, word: str) -> None:
    suffix = f"_{word}" if word else ""
    field = read_name(f"{base}_above_{count}{'k' if kilo else ''}_tokens{suffix}")
    assert field is not None
    assert (field.base, field.above, field.word) == (base, count * (1000 if kilo else 1), word)
    assert read_name(f"{base}{suffix}_above_{count}k_tokens") == (base, count * 1000, word, "")
    assert re.fullmatch(r"[a-z_0-9]+", UNIT_OF[base])
