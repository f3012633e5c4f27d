"""The names of price fields in LiteLLM's file: which unit each prices, above how many tokens, and in which context.

A name is a base with modifiers: `input_cost_per_token_above_272k_tokens_priority` is `input_cost_per_token` for calls
of more than 272,000 input tokens that were served as "priority". Source: litellm's `litellm_core_utils/llm_cost_calc`
and `cost_calculator.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from costd.domain.litellm.card import EXACT
from costd.domain.rates import Context

#: {unit: (per, dimensions)} of what the price list has no unit for. They stand alone.
OWN_UNITS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "output_characters": (1, {"family": "characters", "direction": "output"}),
    "output_pixels": (1, {"family": "pixels", "direction": "output"}),
    "input_images": (1, {"family": "images", "direction": "input"}),
    "output_images": (1, {"family": "images", "direction": "output"}),
    "output_clips": (1, {"family": "clips"}),
    "input_video_seconds": (1, {"family": "durations", "direction": "input", "modality": "video"}),
    "output_video_seconds": (1, {"family": "durations", "direction": "output", "modality": "video"}),
    "call_seconds": (1, {"family": "durations", "modality": "call"}),
    "input_queries": (1, {"family": "queries"}),
    "maps_searches": (1, {"family": "tool_calls", "tool_type": "maps_search"}),
    "code_interpreter_sessions": (1, {"family": "code_interpreter"}),
    "computer_use_input_tokens": (1, {"family": "computer_use", "direction": "input"}),
    "computer_use_output_tokens": (1, {"family": "computer_use", "direction": "output"}),
    "vector_storage_gb_days": (1, {"family": "vector_storage"}),
    "ocr_credits": (1, {"family": "ocr_credits"}),
}

#: What each base prices. Where several price the same unit, the first that an entry has counts.
UNIT_OF: Mapping[str, str] = {
    "input_cost_per_token": "input_tokens",
    "output_cost_per_token": "output_tokens",
    "cache_read_input_token_cost": "cache_read_tokens",
    "input_cost_per_token_cache_hit": "cache_read_tokens",
    "cache_creation_input_token_cost": "cache_write_tokens",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_tokens",
    "input_cost_per_audio_token": "input_audio_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "input_cost_per_video_token": "input_video_tokens",
    "cache_read_input_audio_token_cost": "cache_audio_read_tokens",
    "cache_read_input_image_token_cost": "cache_image_read_tokens",
    "cache_read_input_video_token_cost": "cache_video_read_tokens",
    "cache_creation_input_audio_token_cost": "cache_audio_write_tokens",
    "cache_creation_input_image_token_cost": "cache_image_write_tokens",
    "cache_creation_input_video_token_cost": "cache_video_write_tokens",
    "output_cost_per_audio_token": "output_audio_tokens",
    "output_cost_per_image_token": "output_image_tokens",
    "output_cost_per_video_token": "output_video_tokens",
    "output_cost_per_reasoning_token": "output_reasoning_tokens",
    "citation_cost_per_token": "output_citation_tokens",
    "input_cost_per_character": "input_characters",
    "output_cost_per_character": "output_characters",
    "input_cost_per_pixel": "input_pixels",
    "output_cost_per_pixel": "output_pixels",
    "output_cost_per_image": "output_images",
    "input_cost_per_image": "input_images",
    "input_cost_per_audio_per_second": "audio_seconds",
    "input_cost_per_video_per_second": "input_video_seconds",
    "output_cost_per_video_per_second": "output_video_seconds",
    "cost_per_second": "call_seconds",
    "output_cost_per_second": "call_seconds",
    "input_cost_per_second": "call_seconds",
    "input_cost_per_query": "input_queries",
    "search_queries_cost_per_query": "web_searches",
    "google_maps_grounding_cost_per_query": "maps_searches",
    "input_cost_per_request": "requests",
    "input_cost_per_text_message": "input_text_messages",
    "ocr_cost_per_page": "input_document_pages",
    "annotation_cost_per_page": "input_annotated_document_pages",
    "ocr_cost_per_credit": "ocr_credits",
    "code_interpreter_cost_per_session": "code_interpreter_sessions",
    "file_search_cost_per_1k_calls": "storage_searches",
    "file_search_cost_per_gb_per_day": "vector_storage_gb_days",
    "vector_store_cost_per_gb_per_day": "vector_storage_gb_days",
    "computer_use_input_cost_per_1k_tokens": "computer_use_input_tokens",
    "computer_use_output_cost_per_1k_tokens": "computer_use_output_tokens",
}
_RANK = {base: rank for rank, base in enumerate(UNIT_OF)}

#: Fields whose name or value says more than one price; `litellm_entry` reads them.
COMPOUND = frozenset(
    {
        "guardrail_cost_per_unit",
        "off_peak_pricing",
        "provider_specific_entry",
        "regional_endpoint_uplift_multiplier",
        "regional_processing_uplift_multiplier_eu",
        "regional_processing_uplift_multiplier_us",
        "search_context_cost_per_query",
        "search_free_requests",
        "tiered_pricing",
        "web_search_billing_unit",
    }
)
#: Bases that are known and have no unit, with the reason.
UNPRICEABLE: Mapping[str, str] = {
    "cache_creation_input_token_cost_above_12hr": (
        "there is no unit for tokens cached for twelve hours: they are priced like others that are cached"
    ),
    "explicit_cache_read_input_token_cost": (
        "there is no unit for reads of caches made explicitly: they are priced like other reads"
    ),
    "input_cost_per_video_per_second_above_8s_interval": "prices by the length of a video are not supported",
    "input_cost_per_video_per_second_above_15s_interval": "prices by the length of a video are not supported",
}
#: Prices in Databricks' own currency, beside the same prices in USD.
NOT_IN_USD = frozenset({"input_dbu_cost_per_token", "output_dbu_cost_per_token"})

#: The contexts that each modifier stands for; LiteLLM bills "fast" at the rates of "priority".
WORDS: Mapping[str, tuple[Context, ...]] = {
    "batches": ((("processing", "batch"),),),
    "priority": ((("service_tier", "priority"),), (("service_tier", "fast"),)),
    "flex": ((("service_tier", "flex"),),),
    "balanced": ((("service_tier", "balanced"),),),
    "ultrafast": ((("service_tier", "ultrafast"),),),
    "decisions": ((("route", "decisions"),),),
}
#: The modifier whose prices stand alone: what it leaves out does not fall back to tiers of the standard price.
BATCH = "batches"

_WORD = "|".join(WORDS)
_MODIFIED = re.compile(
    rf"(?P<base>.+?)(?:_(?P<before>{_WORD}))?(?:_above_(?P<count>\d{{1,9}})(?P<kilo>k?)_tokens)?(?:_(?P<after>{_WORD}))?"
)
_SIZED = re.compile(r"(?P<base>output_cost_per_(?:second|image|video_per_second))_(?P<size>\d+(?:\.\d+)?[kKpP]?)")
_LOOKS_LIKE_A_PRICE = re.compile(r"cost|pric|multiplier|surcharge|billing|discount|free_")
_PER_THOUSAND = frozenset(base for base in UNIT_OF if "_per_1k_" in base)

#: Beyond these a number is no price: a slip, or meant to make arithmetic slow.
_MAX_USD = 1_000_000
_MAX_DIGITS = 40
_MIN_EXPONENT = -40


class Field(NamedTuple):
    """A price field's name: `above` is a number of input tokens (0: from the first), `word` a key of `WORDS` or "".

    `size` is the resolution of what is made, such as "1080p", or "".
    """

    base: str
    above: int = 0
    word: str = ""
    size: str = ""

    @property
    def rank(self) -> int:
        """The place of its base in `UNIT_OF`: lower counts first."""
        return _RANK[self.base]


def read_name(name: str) -> Field | None:
    """The field that a name stands for; None where it is no price with one value."""
    if name in UNIT_OF:
        return Field(name)
    sized = _SIZED.fullmatch(name)
    if sized is not None:
        return Field(sized["base"], size=sized["size"])
    match = _MODIFIED.fullmatch(name)
    if match is None or match["base"] not in UNIT_OF or (match["before"] and match["after"]):
        return None
    above = int(match["count"] or 0) * (1000 if match["kilo"] else 1)
    return Field(match["base"], above, match["before"] or match["after"] or "")


def looks_like_a_price(name: str) -> bool:
    """Whether an unknown field's name says that it has to do with money."""
    return _LOOKS_LIKE_A_PRICE.search(name) is not None


def read_price(base: str, value: object) -> Decimal | str:
    """The price in USD for one of the base's unit, or a reason why `value` is none."""
    exact = read_number(value)
    if isinstance(exact, str):
        return exact
    return EXACT.scaleb(exact, -3) if base in _PER_THOUSAND else exact


def read_number(value: object) -> Decimal | str:
    """A number of the file, exactly (LiteLLM reads numbers in strings too), or a reason why it is no price."""
    if isinstance(value, str):
        try:
            value = Decimal(value[:64].strip())
        except InvalidOperation:
            return "is not a number"
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return "is not a number"
    exact = Decimal(value) if isinstance(value, int) and abs(value) <= _MAX_USD else value
    if isinstance(exact, int):
        return f"is above {_MAX_USD} USD"
    if not exact.is_finite():
        return "is not a finite number"
    if exact < 0:
        return "is negative"
    if exact > _MAX_USD:
        return f"is above {_MAX_USD} USD"
    _, digits, exponent = exact.as_tuple()
    if isinstance(exponent, int) and exact and (exponent < _MIN_EXPONENT or len(digits) > _MAX_DIGITS):
        return "has more digits than any price"
    return exact
