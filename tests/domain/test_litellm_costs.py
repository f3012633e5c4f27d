"""LiteLLM's price file: what each of its fields makes usage cost, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest

from costd.domain.price_table import PriceTable
from costd.domain.rates import Context
from costd.domain.units import Quantity
from litellm_file import (
    BATCH,
    CACHED,
    CHAT,
    HOUR_MS,
    MONDAY_MS,
    PLAIN,
    PRIORITY,
    TIERED,
    UNITS,
    compiled,
    cost,
    nano,
    read,
)

#: (fields of the entry, usage, context, cost in USD).
COSTS: list[tuple[dict[str, object], dict[str, Quantity], Context, str]] = [
    (PLAIN, {"input_tokens": 1000, "output_tokens": 100}, (), "0.0028"),
    # A number in a string counts, as LiteLLM reads it.
    ({"input_cost_per_token": "3e-6"}, {"input_tokens": 7}, (), "0.000021"),
    # Cached tokens are part of the input.
    (CACHED, {"input_tokens": 1000, "cache_read_tokens": 600, "cache_write_tokens": 100}, (), "0.00115"),
    # Without a price of their own they cost what plain input does.
    (PLAIN, {"input_tokens": 1000, "cache_read_tokens": 600}, (), "0.002"),
    (
        CACHED | {"cache_creation_input_token_cost_above_1hr": 4e-6},
        {"input_tokens": 1000, "cache_write_tokens": 100, "cache_write_1h_tokens": 40},
        (),
        "0.00211",
    ),
    # DeepSeek's second name for reads.
    (PLAIN | {"input_cost_per_token_cache_hit": 1e-7}, {"input_tokens": 10, "cache_read_tokens": 10}, (), "0.000001"),
    # Thresholds lie above, and apply to all tokens.
    (TIERED, {"input_tokens": 200_000, "output_tokens": 10}, (), "0.40008"),
    (TIERED, {"input_tokens": 200_001, "output_tokens": 10}, (), "0.800124"),
    # Any threshold, in thousands or not.
    (
        {"input_cost_per_token": 1e-6, "input_cost_per_token_above_700_tokens": 2e-6},
        {"input_tokens": 701},
        (),
        "0.001402",
    ),
    # A cached rate with no tier stays.
    (
        TIERED | {"cache_read_input_token_cost": 5e-7},
        {"input_tokens": 300_000, "cache_read_tokens": 100_000},
        (),
        "0.85",
    ),
    # One with a tier only costs what input does below it.
    (
        TIERED | {"cache_read_input_token_cost_above_200k_tokens": 1e-6},
        {"input_tokens": 100_000, "cache_read_tokens": 50_000},
        (),
        "0.2",
    ),
    (PLAIN | {"input_cost_per_token_batches": 1e-6}, {"input_tokens": 1000, "output_tokens": 100}, BATCH, "0.0018"),
    # What batches leave out is the standard price, but not its tiers.
    (TIERED | {"input_cost_per_token_batches": 1e-6}, {"input_tokens": 300_000}, BATCH, "0.3"),
    (
        TIERED | {"input_cost_per_token_batches": 1e-6, "input_cost_per_token_above_200k_tokens_batches": 3e-6},
        {"input_tokens": 300_000},
        BATCH,
        "0.9",
    ),
    (PLAIN | {"input_cost_per_token_priority": 5e-6}, {"input_tokens": 1000, "output_tokens": 100}, PRIORITY, "0.0058"),
    (PLAIN | {"input_cost_per_token_priority": 5e-6}, {"input_tokens": 10}, (("service_tier", "fast"),), "0.00005"),
    (PLAIN | {"input_cost_per_token_flex": 1e-6}, {"input_tokens": 10}, (("service_tier", "flex"),), "0.00001"),
    # Service tiers fall back to the standard tiers above a threshold.
    (TIERED | {"input_cost_per_token_priority": 5e-6}, {"input_tokens": 300_000}, PRIORITY, "1.2"),
    (
        TIERED | {"input_cost_per_token_priority": 5e-6, "input_cost_per_token_above_200k_tokens_priority": 9e-6},
        {"input_tokens": 300_000},
        PRIORITY,
        "2.7",
    ),
    # Audio.
    (
        PLAIN | {"input_cost_per_audio_token": 2e-5, "output_cost_per_audio_token": 4e-5},
        {"input_tokens": 100, "input_audio_tokens": 40, "output_tokens": 50, "output_audio_tokens": 50},
        (),
        "0.00292",
    ),
    # Cached audio costs what other cached tokens do, unless it says otherwise.
    (
        CACHED | {"input_cost_per_audio_token": 2e-5},
        {"input_tokens": 100, "input_audio_tokens": 50, "cache_read_tokens": 60, "cache_audio_read_tokens": 30},
        (),
        "0.00047",
    ),
    (
        CACHED | {"input_cost_per_audio_token": 2e-5, "cache_read_input_audio_token_cost": 1e-6},
        {"input_tokens": 100, "input_audio_tokens": 50, "cache_read_tokens": 60, "cache_audio_read_tokens": 30},
        (),
        "0.000485",
    ),
    # Audio at the price of all input need not be counted apart.
    (
        CACHED | {"input_cost_per_audio_token": 2e-6},
        {"input_tokens": 100, "input_audio_tokens": 50, "cache_read_tokens": 60},
        (),
        "0.00011",
    ),
    (
        PLAIN | {"output_cost_per_reasoning_token": 9e-6},
        {"output_tokens": 10, "output_reasoning_tokens": 4},
        (),
        "0.000084",
    ),
    # A service tier with a price for output has it for reasoning too.
    (
        PLAIN | {"output_cost_per_reasoning_token": 9e-6, "output_cost_per_token_priority": 2e-5},
        {"output_tokens": 10, "output_reasoning_tokens": 4},
        PRIORITY,
        "0.0002",
    ),
    (PLAIN | {"citation_cost_per_token": 1e-6}, {"output_tokens": 10, "output_citation_tokens": 4}, (), "0.000052"),
    ({"input_cost_per_token": 1e-6, "output_cost_per_image_token": 4e-5}, {"output_tokens": 10}, (), "0.0004"),
    # Ranges of input tokens: one holds for the whole call, and what it does not name follows its input or output.
    (
        {
            "tiered_pricing": [
                {"range": [0, 256e3], "input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6},
                {"range": [256e3, 2e6], "input_cost_per_token": 2e-6, "output_cost_per_token": 6e-6},
            ]
        },
        {"input_tokens": 256_001, "cache_read_tokens": 256_001, "output_tokens": 10, "output_reasoning_tokens": 10},
        (),
        "0.512062",
    ),
    # Regions and speed.
    (
        PLAIN | {"provider_specific_entry": {"us": 1.1, "fast": 6}},
        {"input_tokens": 10},
        (("speed", "fast"),),
        "0.00012",
    ),
    (
        PLAIN | {"provider_specific_entry": {"us": 1.1, "fast": 6}, "input_cost_per_token_batches": 1e-6},
        {"input_tokens": 10},
        (("speed", "fast"), ("inference_geo", "us"), *BATCH),
        "0.000066",
    ),
    (
        PLAIN | {"regional_processing_uplift_multiplier_eu": 1.1, "input_cost_per_query": 1},
        {"input_tokens": 10, "input_queries": 1},
        (("data_residency", "eu"),),
        "1.000022",
    ),
    (PLAIN | {"input_cost_per_token_decisions": 1e-6}, {"input_tokens": 10}, (("route", "decisions"),), "0.00001"),
    # Other units.
    ({"mode": "audio_speech", "input_cost_per_character": 1.5e-5}, {"input_characters": 1000}, (), "0.015"),
    ({"mode": "audio_transcription", "input_cost_per_second": 1e-4}, {"audio_seconds": Decimal("1.5")}, (), "0.00015"),
    (
        {"mode": "audio_transcription", "input_cost_per_second": 0.0, "output_cost_per_second": 1e-4},
        {"audio_seconds": 2},
        (),
        "0.0002",
    ),
    (
        {"mode": "audio_transcription", "input_cost_per_second": 1e-4, "output_cost_per_second": 0.0},
        {"audio_seconds": 2},
        (),
        "0.0002",
    ),
    ({"mode": "realtime", "input_cost_per_text_message": 0.004}, {"input_text_messages": 3}, (), "0.012"),
    ({"mode": "video_generation", "output_cost_per_second": 0.1}, {"output_video_seconds": 5}, (), "0.5"),
    (
        {"mode": "video_generation", "output_cost_per_second": 0.1, "output_cost_per_second_1080p": 0.3},
        {"output_video_seconds": 5},
        (("resolution", "1080p"),),
        "1.5",
    ),
    ({"mode": "video_generation", "output_cost_per_video_per_second": 0.1}, {"output_video_seconds": 5}, (), "0.5"),
    ({"mode": "chat", "cost_per_second": 0.01, "input_cost_per_second": 0.01}, {"call_seconds": 3}, (), "0.03"),
    ({"mode": "embedding", "input_cost_per_video_per_second": 7e-4}, {"input_video_seconds": 10}, (), "0.007"),
    ({"mode": "embedding", "input_cost_per_audio_per_second": 7e-4}, {"audio_seconds": 10}, (), "0.007"),
    ({"mode": "embedding", "input_cost_per_image": 6e-5}, {"input_images": 2}, (), "0.00012"),
    ({"mode": "image_generation", "input_cost_per_image": 0.02}, {"output_images": 2}, (), "0.04"),
    ({"mode": "image_generation", "output_cost_per_image": 0.02}, {"output_images": 2}, (), "0.04"),
    ({"mode": "audio_speech", "output_cost_per_image": 0.06}, {"output_clips": 2}, (), "0.12"),
    ({"mode": "image_generation", "input_cost_per_pixel": 2e-8}, {"input_pixels": 1024 * 1024}, (), "0.02097152"),
    ({"mode": "image_generation", "output_cost_per_pixel": 2e-8}, {"output_pixels": 100}, (), "0.000002"),
    ({"mode": "ocr", "ocr_cost_per_page": 0.004}, {"input_document_pages": 2}, (), "0.008"),
    (
        {"mode": "ocr", "ocr_cost_per_page": 0.004, "annotation_cost_per_page": 0.005},
        {"input_document_pages": 3, "input_annotated_document_pages": 1},
        (),
        "0.013",
    ),
    (
        {"mode": "ocr", "ocr_cost_per_page": 0.004, "ocr_cost_per_page_batches": 0.002},
        {"input_document_pages": 3},
        BATCH,
        "0.006",
    ),
    ({"mode": "ocr", "ocr_cost_per_credit": 0.015}, {"ocr_credits": 2}, (), "0.03"),
    ({"mode": "rerank", "input_cost_per_query": 0.001}, {"rerank_searches": 3}, (), "0.003"),
    ({"mode": "search", "input_cost_per_query": 0.005}, {"web_searches": 3}, (), "0.015"),
    ({"mode": "vector_store", "input_cost_per_query": 0.005}, {"storage_searches": 3}, (), "0.015"),
    (PLAIN | {"input_cost_per_request": 0.005}, {"input_tokens": 1}, (), "0.005002"),
    (PLAIN | {"google_maps_grounding_cost_per_query": 0.014}, {"maps_searches": 2}, (), "0.028"),
    (PLAIN | {"code_interpreter_cost_per_session": 0.03}, {"code_interpreter_sessions": 2}, (), "0.06"),
    (PLAIN | {"file_search_cost_per_1k_calls": 2.5}, {"storage_searches": 2}, (), "0.005"),
    (PLAIN | {"file_search_cost_per_gb_per_day": 0.1}, {"vector_storage_gb_days": Decimal("2.5")}, (), "0.25"),
    (PLAIN | {"vector_store_cost_per_gb_per_day": 0.1}, {"vector_storage_gb_days": 2}, (), "0.2"),
    (PLAIN | {"computer_use_input_cost_per_1k_tokens": 0.003}, {"computer_use_input_tokens": 10}, (), "0.00003"),
    (PLAIN | {"search_context_cost_per_query": 0.01}, {"web_searches": 2}, (), "0.02"),
    (
        {"mode": "guardrail", "guardrail_cost_per_unit": {"topicPolicyUnits": 1.5e-4}},
        {"topic_policy_units": 2},
        (),
        "0.0003",
    ),
]


@pytest.mark.parametrize(("fields", "units", "context", "usd"), COSTS)
def test_what_a_field_makes_usage_cost(
    fields: dict[str, object], units: dict[str, Quantity], context: Context, usd: str
) -> None:
    table, report = read(**fields)
    assert cost(table, units, context) == nano(usd)
    assert (report.entries, report.imported, report.refused) == (1, 1, ())


SIZES = {"search_context_size_low": 0.005, "search_context_size_medium": 0.008, "search_context_size_high": 0.012}


@pytest.mark.parametrize(
    ("provider", "context", "usd"),
    [
        ("openai", (), "0.008"),
        ("openai", (("search_context_size", "low"),), "0.005"),
        ("openai", (("search_context_size", "high"),), "0.012"),
        ("perplexity", (), "0.005"),
        ("perplexity", (("search_context_size", "medium"),), "0.008"),
    ],
)
def test_searches_cost_by_the_size_of_their_context(provider: str, context: Context, usd: str) -> None:
    done = compiled({"m": CHAT | PLAIN | {"litellm_provider": provider, "search_context_cost_per_query": SIZES}})
    found = PriceTable(done.body, UNITS).find_exactly(provider, "m")
    assert found is not None
    assert found.model.card(0, found.model.meaningful(context)).cost_nano({"web_searches": 1}) == nano(usd)
    assert [remark.field for remark in done.report.assumed] == ["search_context_cost_per_query"]


def test_xai_bills_the_higher_tier_from_the_threshold_on() -> None:
    done = compiled({"m": CHAT | TIERED | {"litellm_provider": "xai"}})
    found = PriceTable(done.body, UNITS).find_exactly("x-ai", "m")
    assert found is not None
    card = found.model.card(0, ())
    assert card.cost_nano({"input_tokens": 199_999}) == nano("0.399998")
    assert card.cost_nano({"input_tokens": 200_000}) == nano("0.8")


OFF_PEAK = {
    "input_cost_per_token": 1e-6,
    "windows": [
        {"hours_utc": ["10:00-00:00", "04:00-06:00"], "weekdays": [1, 2, 3, 4, "Fri"]},
        {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
    ],
}


@pytest.mark.parametrize(
    ("hours_after_monday", "is_cheap"),
    [
        *((hours, False) for hours in (0, 3.99, 6, 9.99, 24, 4 * 24, 7 * 24, 7 * 24 + 3.99)),
        *((hours, True) for hours in (4, 5.99, 10, 34, 5 * 24, 6 * 24 + 9, 7 * 24 - 0.01, 7 * 24 + 4, -0.01, -49)),
    ],
)
def test_prices_off_peak_follow_the_hours_of_the_week(hours_after_monday: float, is_cheap: bool) -> None:
    """Windows are those of the UTC week, days in any form; what they do not price stays as it is."""
    table, report = read(**TIERED, off_peak_pricing=OFF_PEAK, input_cost_per_token_priority=9e-6)
    at_ms = MONDAY_MS + int(hours_after_monday * HOUR_MS)
    units: dict[str, Quantity] = {"input_tokens": 300_000, "output_tokens": 1}
    assert cost(table, units, at_ms=at_ms) == nano("0.300012" if is_cheap else "1.200012")
    # Off peak comes before service tiers, as LiteLLM has it.
    assert cost(table, units, PRIORITY, at_ms) == nano("0.300012" if is_cheap else "1.200012")
    assert report.not_understood == ()
    found = table.find_exactly("openai", "m")
    assert found is not None
    assert found.model.steady_card(at_ms, at_ms + 1, ()) is None


def test_weekdays_may_be_those_of_another_calendar() -> None:
    """A Saturday in Shanghai begins on a UTC Friday, at 16:00."""
    block = {
        "input_cost_per_token": 1e-6,
        "weekday_timezone": "Asia/Shanghai",
        "windows": [{"hours_utc": "00:00-00:00", "weekdays": [6, 7]}],
    }
    table, _ = read(**PLAIN, off_peak_pricing=block)
    friday_ms = MONDAY_MS + 4 * 24 * HOUR_MS
    for hours, usd in ((15.99, "0.00002"), (16, "0.00001"), (63.99, "0.00001"), (64, "0.00002")):
        assert cost(table, {"input_tokens": 10}, at_ms=friday_ms + int(hours * HOUR_MS)) == nano(usd)
