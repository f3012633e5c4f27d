"""The fields of LiteLLM's file that say several prices, or on what terms they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise

from costd.domain.litellm.fields import UNIT_OF, read_name, read_number
from costd.domain.litellm.gathered import Gathered
from costd.domain.litellm.windows import read_windows

_SEARCH = "search_context_cost_per_query"
_SIZES = ("low", "medium", "high")
#: The size of a search's context where the request names none. Perplexity's own default differs from all others'.
_DEFAULT_SIZE = {"perplexity": "low"}

_UPLIFTS = {
    "regional_processing_uplift_multiplier_eu": ("data_residency", "eu"),
    "regional_processing_uplift_multiplier_us": ("data_residency", "us"),
    "regional_endpoint_uplift_multiplier": ("endpoint", "regional"),
}
#: Token prices that a tier or an off-peak window can set.
_TIER_BASES = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
    "output_cost_per_reasoning_token",
)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNIT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_GUARDRAILS = 32
#: More than any model reads.
_MAX_TOKENS = 10**9
#: A region, or answers made faster.
_FACTOR_WORD = re.compile(r"[a-z]{2}|fast")


def read_compound(entry: Mapping[str, object], gathered: Gathered) -> None:
    """Add what the entry's compound fields say."""
    for name, read in (
        ("tiered_pricing", _read_tiers),
        (_SEARCH, _read_searches),
        ("guardrail_cost_per_unit", _read_guardrails),
        ("off_peak_pricing", _read_off_peak),
        ("provider_specific_entry", _read_specifics),
    ):
        if entry.get(name) is not None:
            read(entry[name], gathered)
    for name, (key, word) in _UPLIFTS.items():
        if entry.get(name) is not None:
            _add_factor(name, entry[name], key, word, gathered)
    _note_terms_of_searches(entry, gathered)


def _read_searches(value: object, gathered: Gathered) -> None:
    if not isinstance(value, dict):
        price = read_number(value)
        if isinstance(price, str):
            gathered.notes.miss(_SEARCH, price)
        else:
            gathered.put(_SEARCH, "web_searches", price)
        return
    sizes: dict[str, Decimal] = {}
    for size in _SIZES:
        price = read_number(value.get(f"search_context_size_{size}"))
        if not isinstance(price, str):
            sizes[size] = price
    default = _DEFAULT_SIZE.get(gathered.provider, "medium")
    if default not in sizes:
        gathered.notes.miss(_SEARCH, f"has no price for searches of {default} context, which are the usual ones")
        return
    gathered.put(_SEARCH, "web_searches", sizes[default])
    if any(price != sizes[default] for price in sizes.values()):
        gathered.notes.assume(_SEARCH, f"searches are of {default} context unless search_context_size says otherwise")
        for size, price in sizes.items():
            gathered.asides[("search_context_size", size), "web_searches"] = price


def _note_terms_of_searches(entry: Mapping[str, object], gathered: Gathered) -> None:
    free = entry.get("search_free_requests")
    if isinstance(free, dict):
        allowance = f"{free.get('count')!s:.20} a {free.get('period')!s:.20}"
        gathered.notes.miss("search_free_requests", f"{allowance} are free: every search is priced")
    gemini = gathered.provider == "gemini" or gathered.provider.startswith("vertex_ai")
    if gemini and "anthropic" not in gathered.provider and entry.get("web_search_billing_unit") != "per_query":
        for unit in ("web_searches", "maps_searches"):
            if unit in gathered.cards[""]:
                gathered.notes.assume(unit, "is charged once for an answer, however many searches it made: send 1")


def _read_guardrails(value: object, gathered: Gathered) -> None:
    name = "guardrail_cost_per_unit"
    if not isinstance(value, dict) or len(value) > _MAX_GUARDRAILS:
        gathered.notes.miss(name, f"must be an object of at most {_MAX_GUARDRAILS} prices")
        return
    for each, said in value.items():
        unit = _CAPITAL.sub("_", each[:80]).lower()
        price = read_number(said)
        if isinstance(price, str):
            gathered.notes.miss(f"{name}.{each:.64}", price)
        elif not _UNIT.fullmatch(unit) or unit in UNIT_OF.values():
            gathered.notes.miss(f"{name}.{each:.64}", "cannot be the name of a unit")
        else:
            gathered.put(f"{name}.{each}", unit, price)


def _read_tiers(value: object, gathered: Gathered) -> None:
    """Prices by ranges of input tokens, of which one holds for the whole call; they come before all other prices."""
    name = "tiered_pricing"
    tiers = [_tier(each) for each in value] if isinstance(value, list) and value else [None]
    ranged = sorted((tier for tier in tiers if tier is not None), key=lambda tier: tier[0])
    contiguous = all(before[1] == after[0] for before, after in pairwise(ranged))
    if len(ranged) != len(tiers) or ranged[0][0] != 0 or not contiguous:
        gathered.notes.miss(name, "is not a list of ranges of input tokens that follow on each other from 0")
        return
    if any(gathered.cards[word] for word in gathered.cards if word):
        gathered.notes.miss(name, "comes before the prices for batches and service tiers, which are left out")
        gathered.cards = {"": gathered.cards[""]}
    for base in _TIER_BASES:
        unit = UNIT_OF[base]
        if not any(base in prices for _, _, prices in ranged):
            if unit not in {"input_tokens", "output_tokens"}:
                gathered.cards[""].pop(unit, None)
            continue
        fallback = "output_cost_per_token" if base.startswith("output") else "input_cost_per_token"
        steps = {start: prices.get(base, prices.get(fallback)) for start, _, prices in ranged}
        gathered.cards[""][unit] = {start: price for start, price in steps.items() if price is not None}
        gathered.fields[unit] = name


def _tier(value: object) -> tuple[int, int, dict[str, Decimal]] | None:
    """(from, until, prices by base), None for anything that is no tier of tokens."""
    if not isinstance(value, dict):
        return None
    bounds = value.get("range")
    if not isinstance(bounds, list) or len(bounds) != 2:
        return None
    prices: dict[str, Decimal] = {}
    for name, said in value.items():
        if name == "range":
            continue
        price = read_number(said)
        if name not in _TIER_BASES or isinstance(price, str):
            return None
        prices[name] = price
    start, end = (_tokens(bound) for bound in bounds)
    if start is None or end is None or start >= end or "input_cost_per_token" not in prices:
        return None
    return start, end, prices


def _tokens(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= _MAX_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _read_off_peak(value: object, gathered: Gathered) -> None:
    name = "off_peak_pricing"
    if not isinstance(value, dict):
        gathered.notes.miss(name, "must be an object")
        return
    prices: dict[str, Decimal] = {}
    for field, said in value.items():
        if field in {"hours_utc", "windows", "weekday_timezone"}:
            continue
        price = read_number(said)
        known = read_name(field)
        if isinstance(price, str) or known is None or known.base not in _TIER_BASES or known.above or known.word:
            gathered.notes.miss(name, f"{field:.64} in it is not understood: prices off peak are the usual ones")
            return
        prices[UNIT_OF[known.base]] = price
    try:
        windows = read_windows(value)
    except ValueError as error:
        gathered.notes.miss(name, f"{error}: prices off peak are the usual ones")
        return
    gathered.off_peak, gathered.windows = prices, windows if prices else []


def _read_specifics(value: object, gathered: Gathered) -> None:
    """Of a provider's own terms, factors by region and for answers made faster are prices."""
    if not isinstance(value, dict):
        return
    for word, said in value.items():
        name = f"provider_specific_entry.{word:.64}"
        if isinstance(said, bool) or not isinstance(said, int | Decimal):
            continue
        if _FACTOR_WORD.fullmatch(word):
            _add_factor(name, said, "speed" if word == "fast" else "inference_geo", word, gathered)
        else:
            gathered.notes.miss(name, "what it means for the prices is not known")


def _add_factor(name: str, value: object, key: str, word: str, gathered: Gathered) -> None:
    factor = read_number(value)
    if isinstance(factor, str):
        gathered.notes.miss(name, factor)
    elif factor != 1 and len(gathered.factors) < 8:
        gathered.factors.append((key, word, factor))
