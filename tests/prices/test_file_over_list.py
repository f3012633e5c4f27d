"""An imported price file before the list: unit by unit, and never so that a model loses its price."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

from costd.domain.litellm_prices import compile_file
from costd.domain.price_rule import PriceRule
from costd.domain.price_table import PriceTable
from costd.domain.pricebook import MatchedPrice, PriceBook
from costd.domain.rates import Context
from costd.domain.units import Quantity

NOW_MS = 1_795_000_000_000
LIST = PriceTable(resources.files("costd").joinpath("data", "prices.txt").read_bytes(), source_id=1)
ENTRY = {"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 1e-3, "output_cost_per_token": 2e-3}


def book(entries: Mapping[str, object], *rules: PriceRule) -> PriceBook:
    body = compile_file(json.dumps(entries).encode(), "test", LIST.units).body
    return PriceBook(LIST, rules, PriceTable(body, LIST.units, source_id=2), rules_id=3)


def cost(
    prices: PriceBook, units: dict[str, Quantity], model: str = "claude-haiku-4-5", context: Context = ()
) -> tuple[int | None, int]:
    quote = prices.price(1, "anthropic", model, units, NOW_MS, context)
    return quote.cost_nano, quote.source_id


def test_units_the_file_does_not_name_cost_what_the_list_says() -> None:
    before, after = PriceBook(LIST), book({"claude-haiku-4-5": ENTRY})
    assert cost(after, {"input_tokens": 1, "output_tokens": 1}) == (3_000_000, 2)
    searches = cost(before, {"input_tokens": 0, "web_searches": 3})[0]
    assert searches
    assert cost(after, {"input_tokens": 1, "web_searches": 3}) == (1_000_000 + searches, 2)
    cached = cost(before, {"input_tokens": 7, "cache_read_tokens": 7})[0]
    assert cost(after, {"input_tokens": 7, "cache_read_tokens": 7}) == (cached, 2)


def test_where_each_rate_is_from_is_told() -> None:
    rule = PriceRule("r", None, "", "claude-haiku-4-5", (), {"gpu_seconds": [1, 0]}, (5, -1), 0)
    for prices in (book({"claude-haiku-4-5": ENTRY}), book({"claude-haiku-4-5": ENTRY}, rule)):
        found = prices.match(1, "anthropic", "claude-haiku-4-5", NOW_MS)
        assert isinstance(found, MatchedPrice)
        listed = {unit: found.origins[unit].is_listed for unit in found.card.rates}
        assert not listed["input_tokens"]
        assert listed["web_searches"]
        assert found.base == "file"


def test_a_rate_of_the_lists_that_does_not_fit_is_left_out() -> None:
    """Audio from the file and cached tokens from the list would leave what is both without a rate."""
    audio = {**ENTRY, "litellm_provider": "openai", "input_cost_per_audio_token": 5e-3}
    prices = book({"gpt-4o": audio})
    units: dict[str, Quantity] = {"input_tokens": 10, "input_audio_tokens": 4}
    quote = prices.price(1, "openai", "gpt-4o", units, NOW_MS)
    assert (quote.cost_nano, quote.warnings) == (6 * 1_000_000 + 4 * 5_000_000, ())


def test_a_model_of_another_provider_is_not_behind_the_file() -> None:
    prices = book({"azure/gpt-4o": {**ENTRY, "litellm_provider": "azure"}})
    assert prices.price(1, "azure", "gpt-4o", {"input_tokens": 1}, NOW_MS).source_id == 2
    assert prices.price(1, "openai", "gpt-4o", {"input_tokens": 1}, NOW_MS).source_id == 1


def test_every_listed_model_keeps_a_price_under_a_file_that_names_it_with_audio() -> None:
    """However little an entry names, nothing that had a price is without one."""
    names = {
        position: provider.prices(position)["id"]
        for provider in LIST.providers
        if provider.id == "openai"
        for position in range(provider.model_count())
    }
    entry = {**ENTRY, "litellm_provider": "openai", "input_cost_per_audio_token": 5e-3}
    prices = book(dict.fromkeys(names.values(), entry))
    for name in names.values():
        quote = prices.price(1, "openai", name, {"input_tokens": 3, "output_tokens": 2}, NOW_MS)
        assert (quote.cost_nano, quote.source_id) == (7_000_000, 2), name
