"""An imported price file beside the one before it and the list: each model once, with the rates that differ."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from costd.domain.price_comparison import Difference, RateDifference, compare, rate_text
from costd.domain.price_table import PriceTable
from litellm_file import CACHED, CHAT, LISTED, MONDAY_MS, PLAIN, TIERED, UNITS, compiled

#: GPT-4o in the list: 2.50 in, 10 out, 1.25 cached, with other prices for batches, and for searches.
GPT_4O = {
    "input_cost_per_token": 2.5e-6,
    "output_cost_per_token": 1e-5,
    "cache_read_input_token_cost": 1.25e-6,
    "search_context_cost_per_query": 0.01,
    "file_search_cost_per_1k_calls": 2.5,
}


def table(**entries: object) -> PriceTable:
    return PriceTable(compiled(entries).body)


def against_list(**fields: object) -> Difference:
    (difference,) = compare(table(**{"gpt-4o": CHAT | fields}), None, LISTED, MONDAY_MS)
    return difference


def test_against_the_file_before_each_model_is_new_changed_gone_or_the_same() -> None:
    held = table(same=CHAT | PLAIN, dearer=CHAT | CACHED, tiers=CHAT | TIERED, gone=CHAT | PLAIN)
    new = table(
        same=CHAT | PLAIN,
        dearer=CHAT | CACHED | {"input_cost_per_token": 3e-6, "input_cost_per_token_batches": 1e-6},
        tiers=CHAT | TIERED | {"input_cost_per_token_above_200k_tokens": 5e-6},
        new=CHAT | PLAIN,
    )
    differences = {each.model: each for each in compare(new, held, LISTED, MONDAY_MS)}
    assert {name: (each.provider, each.change, each.listing) for name, each in differences.items()} == {
        "same": ("openai", "same", "unlisted"),
        "dearer": ("openai", "changed", "unlisted"),
        "tiers": ("openai", "changed", "unlisted"),
        "new": ("openai", "new", "unlisted"),
        "gone": ("openai", "gone", "unlisted"),
    }
    assert differences["dearer"].changed == (
        RateDifference("input_tokens", (), 10**6, [3, 0], [2, 0]),
        RateDifference("input_tokens", (("processing", "batch"),), 10**6, [1, 0], [2, 0]),
    )
    assert differences["tiers"].changed == (
        RateDifference("input_tokens", (), 10**6, [2, 0, [200_000, 5, 0]], [2, 0, [200_000, 4, 0]]),
    )
    assert all(not each.changed for name, each in differences.items() if name not in {"dearer", "tiers"})


def test_without_a_file_before_everything_is_new() -> None:
    assert [each.change for each in compare(table(m=CHAT | PLAIN), None, LISTED, MONDAY_MS)] == ["new"]


def test_against_the_list_units_and_both_rates_are_named() -> None:
    difference = against_list(**GPT_4O | {"output_cost_per_token": 1.1e-5})
    assert (difference.listing, difference.listed_as) == ("divergent", "gpt-4o")
    assert RateDifference("output_tokens", (), 10**6, [11, 0], [1, 1]) in difference.divergent
    assert {each.unit for each in difference.divergent if not each.context} == {"output_tokens"}


def test_what_the_list_prices_in_a_context_and_the_file_does_not_is_a_difference() -> None:
    """Once the file is in front, batches would cost what other calls do."""
    difference = against_list(**GPT_4O)
    batch = {each.unit: each for each in difference.divergent if each.context == (("processing", "batch"),)}
    assert batch["input_tokens"].new == [25, -1]
    assert batch["input_tokens"].other == [125, -2]


def test_a_missing_rate_is_that_of_the_whole_or_none() -> None:
    """Cached tokens without a price cost what input does; searches without one cost nothing and are named."""
    fields = {name: value for name, value in GPT_4O.items() if name.endswith("per_token")}
    standard = {each.unit: each for each in against_list(**fields).divergent if not each.context}
    assert standard["cache_read_tokens"][3:] == ([25, -1], [125, -2])
    assert standard["web_searches"].new is None
    assert standard.keys() == {"cache_read_tokens", "web_searches", "storage_searches"}


@pytest.mark.parametrize(("price", "is_same"), [(2.5000001e-6, True), (2.50001e-6, False), (2.4999999e-6, True)])
def test_digits_that_no_price_has_are_no_difference(price: float, is_same: bool) -> None:
    standard = {e.unit for e in against_list(**GPT_4O | {"input_cost_per_token": price}).divergent if not e.context}
    assert ("input_tokens" not in standard) is is_same


def test_a_model_of_another_provider_is_not_the_lists() -> None:
    new = table(**{"gpt-4o": CHAT | PLAIN | {"litellm_provider": "aiml"}})
    assert [each.listing for each in compare(new, None, LISTED, MONDAY_MS)] == ["unlisted"]


def test_the_list_does_not_differ_from_itself() -> None:
    body = resources.files("costd").joinpath("data", "prices.txt").read_bytes()
    own = [each for each in compare(PriceTable(body), PriceTable(body), LISTED, MONDAY_MS) if each.divergent]
    # Some names of the list lead to another of its models first.
    assert all(each.model != each.listed_as for each in own)
    assert {each.change for each in compare(PriceTable(body), PriceTable(body), LISTED, MONDAY_MS)} == {"same"}


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "none"),
        ([0, 0], "0"),
        ([25, -1], "2.5"),
        ([15, 2], "1500"),
        ([1, -9], "0.000000001"),
        (
            [25, -1, [200_000, 5, 0], [500_000, 75, -1]],
            "2.5, above 200000 input tokens 5, above 500000 input tokens 7.5",
        ),
    ],
)
def test_rates_in_words(rate: list[Any] | None, text: str) -> None:
    assert rate_text(rate) == text


def test_units_of_both_tables_may_be_the_lists() -> None:
    """The daemon reads a file with the list's registry: its own units stand alone there."""
    body = compiled({"m": CHAT | {"mode": "ocr", "ocr_cost_per_credit": 0.015}}).body
    (difference,) = compare(PriceTable(body, UNITS), PriceTable(body, UNITS), LISTED, MONDAY_MS)
    assert (difference.change, difference.listing) == ("same", "unlisted")
