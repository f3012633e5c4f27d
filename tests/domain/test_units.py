"""Units: what makes sense together is taken, everything else is refused with the field's name."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.domain.errors import Invalid
from costd.domain.price_table import PriceTable
from costd.domain.units import MAX_QUANTITY, Quantity

TABLE = PriceTable(resources.files("costd").joinpath("data", "prices.txt").read_bytes())
REGISTRY = TABLE.units


@pytest.mark.parametrize(
    "units",
    [
        {},
        {"input_tokens": 0},
        {"input_tokens": 10, "output_tokens": MAX_QUANTITY},
        {"input_tokens": 10, "cache_read_tokens": 10},
        {"input_tokens": 10, "cache_read_tokens": 4, "cache_write_tokens": 6, "cache_write_5m_tokens": 6},
        {"cache_read_tokens": 0},
        # They may be the same tokens.
        {"input_tokens": 10, "cache_read_tokens": 8, "input_audio_tokens": 8},
        {"input_tokens": 10, "cache_read_tokens": 8, "input_audio_tokens": 8, "cache_audio_read_tokens": 6},
        {"audio_seconds": Decimal("1.5"), "input_audio_seconds": Decimal("1.5")},
        {"input_document_pages": Decimal("0.5")},
        {"gpu_seconds": Decimal("0.125"), "widgets": 3},
        {"requests": 1},
    ],
)
def test_usage_that_fits_is_taken(units: dict[str, Quantity]) -> None:
    """Zero needs no parent, overlaps are not counted twice, custom units stand alone."""
    REGISTRY.check(units)


@pytest.mark.parametrize(
    ("units", "field", "also_named"),
    [
        ({"input_tokens": -1}, "units.input_tokens", "negative"),
        ({"input_tokens": MAX_QUANTITY + 1}, "units.input_tokens", "at most"),
        ({"input_tokens": True}, "units.input_tokens", "number"),
        ({"input_tokens": 1.5}, "units.input_tokens", "number"),
        ({"input_tokens": "1"}, "units.input_tokens", "number"),
        ({"input_tokens": Decimal("1.5")}, "units.input_tokens", "whole"),
        ({"input_tokens": Decimal("NaN")}, "units.input_tokens", "finite"),
        ({"audio_seconds": Decimal("sNaN")}, "units.audio_seconds", "finite"),
        ({"audio_seconds": Decimal("Infinity")}, "units.audio_seconds", "finite"),
        ({"audio_seconds": Decimal("-0.1")}, "units.audio_seconds", "negative"),
        ({"audio_seconds": Decimal("1E+999999")}, "units.audio_seconds", "at most"),
        ({"audio_seconds": Decimal("1E-999999")}, "units.audio_seconds", "decimal places"),
        ({"My Unit": 1}, "units.My Unit", "lower-case"),
        ({"": 1}, "units.", "lower-case"),
        ({"x" * 65: 1}, "units." + "x" * 64, "lower-case"),
        ({f"unit_{n}": 1 for n in range(65)}, "units", "at most 64"),
        ({"cache_read_tokens": 5}, "units.cache_read_tokens", "input_tokens"),
        ({"input_tokens": 5, "cache_write_5m_tokens": 5}, "units.cache_write_5m_tokens", "cache_write_tokens"),
        ({"input_tokens": 5, "cache_read_tokens": 6}, "units.cache_read_tokens", "input_tokens"),
        ({"output_tokens": 5, "output_reasoning_tokens": 6}, "units.output_reasoning_tokens", "output_tokens"),
        ({"audio_seconds": 1, "input_audio_seconds": Decimal("1.5")}, "units.input_audio_seconds", "audio_seconds"),
        (
            {"input_tokens": 10, "cache_read_tokens": 6, "cache_write_tokens": 6},
            "units.cache_read_tokens",
            "cache_write_tokens are 12 together, above input_tokens",
        ),
        (
            {"input_tokens": 10, "cache_read_tokens": 8, "input_audio_tokens": 8, "cache_audio_read_tokens": 5},
            "units.input_tokens",
            "cache_read_tokens, input_audio_tokens",
        ),
    ],
)
def test_usage_that_cannot_be_is_refused(units: dict[str, Any], field: str, also_named: str) -> None:
    """The field is named, and the other one where two do not fit."""
    with pytest.raises(Invalid) as refusal:
        REGISTRY.check(units)
    assert refusal.value.field == field
    assert also_named in refusal.value.reason


def test_the_field_is_the_callers() -> None:
    """A preflight's units have another name."""
    with pytest.raises(Invalid, match=r"estimated_units\.input_tokens"):
        REGISTRY.check({"input_tokens": -1}, "estimated_units")


def test_aliases_become_the_lists_names() -> None:
    """`chars` is input_characters; both at once is a mistake."""
    assert REGISTRY.canonical({"chars": 5, "input_tokens": 1}) == {"input_characters": 5, "input_tokens": 1}
    assert REGISTRY.canonical({"input_tokens": 1}) == {"input_tokens": 1}
    with pytest.raises(Invalid, match="input_characters"):
        REGISTRY.canonical({"input_characters": 5, "chars": 5})


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(REGISTRY.ancestors)), st.integers(0, 12), max_size=8),
    st.sampled_from([("openai", "gpt-realtime"), ("google", "gemini-2.5-flash"), ("anthropic", "claude-sonnet-4-5")]),
)
def test_what_passes_the_check_is_never_refused_by_a_price(units: dict[str, Quantity], name: tuple[str, str]) -> None:
    """Refusals do not depend on the model: after the check a cost is known, or unpriced with a reason."""
    try:
        REGISTRY.check(units)
    except Invalid:
        return
    found = TABLE.find(*name)
    assert found is not None
    found.model.card(0, ()).cost_nano(units)
