"""Price tables: read by many threads at once, and held to their form before they come into force."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from price_tables import LIST_BODY, table

from costd.domain.price_table import PriceTable
from costd.domain.pricebook import MatchedPrice, PriceBook

NOW_MS = 1_795_000_000_000
NAMES = ["gpt-4o", "gpt-5", "o3", "claude-sonnet-4-20250514", "gemini-2.5-pro", "mistral-large-latest", "command-r"]


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_that_ask_first_at_once_find_the_right_prices() -> None:
    """Sections are read when they are first searched, whoever searches them."""
    calm = PriceBook(PriceTable(LIST_BODY))
    right = {name: rates_of(calm, name) for name in NAMES}
    for _ in range(10):
        book = PriceBook(PriceTable(LIST_BODY))
        wrong: list[str] = []
        barrier = threading.Barrier(6)

        def look(book: PriceBook = book, wrong: list[str] = wrong, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            wrong += [name for name in NAMES if rates_of(book, name) != right[name]]

        threads = [threading.Thread(target=look) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def rates_of(book: PriceBook, name: str) -> Any:
    found = book.match(1, "", name, NOW_MS)
    assert isinstance(found, MatchedPrice)
    return found.model, found.card.rates


def test_the_list_itself_is_in_order() -> None:
    PriceTable(LIST_BODY).check()


GOOD: dict[str, Any] = {
    "id": "m",
    "prices": [[None, {"input_tokens": [1, -1, [5, 2, 0]]}], [["date", 5], {}], [["time", 0, 5], {}]],
    "variants": [[{"processing": "batch"}, ["week", 0, 1], {"input_tokens": [1, 0]}]],
    "minimum": [["audio_seconds"], 10],
}
BAD_MODELS: list[dict[str, Any]] = [
    {"id": 1},
    {"prices": []},
    {"prices": [[["day", 5], {}]]},
    {"prices": [[["time", 5], {}]]},
    {"prices": [[["date", "5"], {}]]},
    {"prices": [[None, {"Input": [1, 0]}]]},
    {"prices": [[None, {"input_tokens": [-1, 0]}]]},
    {"prices": [[None, {"input_tokens": [1.5, 0]}]]},
    {"prices": [[None, {"input_tokens": [True, 0]}]]},
    {"prices": [[None, {"input_tokens": [1]}]]},
    {"prices": [[None, {"input_tokens": [1, 10**9]}]]},
    {"prices": [[None, {"input_tokens": [1, -(10**9)]}]]},
    {"prices": [[None, {"input_tokens": [1, 0, [5, 1]]}]]},
    {"prices": [[None, {"input_tokens": [1, 0, ["5", 1, 0]]}]]},
    {"prices": [[None, {"input_tokens": "10"}]]},
    {"prices": [[None, [1]]]},
    {"variants": [[{"processing": 1}, None, {}]]},
    {"variants": [["batch", None, {}]]},
    {"minimum": [[1], 10]},
    {"minimum": [["audio_seconds"], -1]},
]
BAD_RULES: list[Any] = [["?", "x"], ["=", 5], ["="], ["~", "("], ["|"], ["|", ["?", "x"]], {}, 5, []]
#: What PriceTable.check may raise; whoever takes a table in turns it into a refusal.
RAISED = (ValueError, KeyError, TypeError, IndexError, AttributeError)


def test_a_model_that_makes_sense_passes() -> None:
    table({"acme": [(["&", ["^", "m"], ["~", "^m$"]], GOOD)]}).check()


@pytest.mark.parametrize("fields", BAD_MODELS)
def test_a_model_that_makes_none_does_not(fields: dict[str, Any]) -> None:
    with pytest.raises(RAISED):
        table({"acme": [(["=", "m"], GOOD | fields)]}).check()


@pytest.mark.parametrize("rule", BAD_RULES)
def test_a_rule_for_names_that_makes_none_does_not(rule: Any) -> None:
    with pytest.raises(RAISED):
        table({"acme": [(rule, GOOD)]}).check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "date", "time", "input_tokens", "="]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "prices", "x"]), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["prices", "variants", "minimum", "id"]), JSON, st.lists(st.integers(0, 10**6), max_size=3))
def test_what_passes_can_be_priced_by(field: str, value: Any, tokens: list[int]) -> None:
    """Whatever is in a table: it is refused, or it prices without failing."""
    held = table({"acme": [(["=", "m"], GOOD | {field: value})]})
    try:
        held.check()
    except RAISED:
        return
    book = PriceBook(held)
    for count in tokens:
        for context in ((), (("processing", "batch"),)):
            book.price(1, "acme", "m", {"input_tokens": count}, NOW_MS, context)
