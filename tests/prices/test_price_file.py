"""The form of prices in files and JSON: what is written is read as what it was, exactly."""

from __future__ import annotations

import io
import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.cli.price_entries import described, message, read_file
from costd.domain.errors import Invalid
from costd.domain.price_form import decimal_text, each_text, read_rates, split_rates, text_for
from costd.domain.price_rule import PriceRule, check_rule, parse_rate
from costd.v1 import prices_pb2

NOW_MS = 1_795_000_000_000
FIRST_MS, LAST_MS = 946_684_800_000, 7_258_118_400_000

amounts = st.decimals(min_value=0, max_value=10**6, places=30, allow_nan=False) | st.sampled_from(
    [Decimal(text) for text in ("0", "2.5", "0.00003", "1E-30", "1000000", "0.1", "3e-05")]
)
rates = st.builds(
    lambda base, tiers: [
        *parse_rate(base, "usd"),
        *([at, *parse_rate(usd, "usd")] for at, usd in sorted(tiers.items())),
    ],
    amounts,
    st.dictionaries(st.integers(1, 10**12), amounts, max_size=3),
)
units = st.sampled_from(
    ["input_tokens", "output_tokens", "cache_read_tokens", "images", "gpu_seconds", "input_characters"]
)
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="§"), min_size=1, max_size=20
)


@st.composite
def rules(draw: Any) -> PriceRule:
    held = draw(st.dictionaries(units, rates, max_size=4))
    multiplier = draw(st.none() | st.tuples(st.integers(0, 999), st.integers(-30, 0)))
    if not held and multiplier is None:
        multiplier = (0, 0)
    start = draw(st.integers(FIRST_MS, LAST_MS - 1))
    return check_rule(
        PriceRule(
            id=draw(st.uuids()).hex,
            org_id=None,
            provider=draw(st.just("") | words),
            model=draw(words.map(lambda text: text.replace("*", "x"))) + draw(st.sampled_from(["", "*"])),
            context=tuple(draw(st.dictionaries(words, words, max_size=3)).items()),
            rates=held,
            multiplier=multiplier,
            from_ms=draw(st.sampled_from([FIRST_MS, start])),
            until_ms=draw(st.none() | st.integers(start + 1, LAST_MS)),
            note=draw(st.just("") | words),
        )
    )


def listed(new: prices_pb2.NewPrice) -> prices_pb2.Price:
    """A price as the daemon would list it."""
    same = {name: getattr(new, name) for name in ("model", "provider", "org", "rates", "when", "from_ms", "note")}
    price = prices_pb2.Price(id="x", created_ms=NOW_MS, created_by="k", created_by_name="admin", **same)
    if new.HasField("multiplier"):
        price.multiplier = new.multiplier
    if new.HasField("until_ms"):
        price.until_ms = new.until_ms
    return price


@settings(max_examples=150, deadline=None)
@given(st.lists(rules(), min_size=1, max_size=4), st.booleans())
def test_what_is_listed_is_read_as_what_was_set(held: list[PriceRule], as_numbers: bool) -> None:
    """As JSON with amounts as text, and with numbers; to the last digit."""
    news = [message(rule, "default", rule.from_ms) for rule in held]
    entries = [described(listed(new)) for new in news]
    if as_numbers:
        for entry in entries:
            entry |= {name: marked(entry[name]) for name in ("usd_per_mtok", "usd_each", "multiplier")}
    text = re.sub('"§(.*?)§"', r"\1", json.dumps({"prices": entries}, ensure_ascii=False))
    assert read_text(text) == news


def marked(value: Any) -> Any:
    """Amounts so that their quotes can be found."""
    if isinstance(value, dict):
        return {name: marked(inner) for name, inner in value.items()}
    return value if value is None else f"§{value}§"


def read_text(text: str) -> list[prices_pb2.NewPrice]:
    """What `--file -` reads."""
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    try:
        return read_file("-", NOW_MS)
    finally:
        sys.stdin = before


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(units, rates, max_size=5))
def test_rates_are_split_and_put_together_again(held: dict[str, list[Any]]) -> None:
    per_mtok, each = split_rates(held)
    tables = [
        {
            unit: shown.usd if not shown.tiers else {"base": shown.usd, "above": dict(shown.tiers)}
            for unit, shown in t.items()
        }
        for t in (per_mtok, each)
    ]
    rule = PriceRule("", None, "", "m", (), read_rates(*tables), None, FIRST_MS)
    assert (check_rule(rule).rates if held else {}) == dict(sorted(held.items()))


@given(st.integers(0, 10**40), st.integers(-40, 10))
def test_decimal_text_is_exact_and_short(mantissa: int, power: int) -> None:
    text = decimal_text(mantissa, power)
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    value = int("".join(map(str, digits)))
    shift = min(exponent, power)
    assert value * 10 ** (exponent - shift) == mantissa * 10 ** (power - shift)
    assert "." not in text or not text.endswith(("0", "."))
    assert sign == 0
    assert text_for(text, 1) == text


@pytest.mark.parametrize(
    ("rate", "per", "text", "is_rounded"),
    [
        ([25, -1], 1_000_000, "0.0000025", False),
        ([36, -2], 3600, "0.0001", False),
        ([1, 0], 3600, "0.00027777777777777777778", True),
        ([0, 0], 3600, "0", False),
        ([7, 3], 1, "7000", False),
        ([111, -3], 3600, "0.000030833333333333333333", True),
    ],
)
def test_what_one_of_a_unit_costs(rate: list[Any], per: int, text: str, is_rounded: bool) -> None:
    assert each_text(rate, per) == (text, is_rounded)


def test_a_list_alone_is_a_file_too_and_relative_moments_are(tmp_path: Path) -> None:
    found = read_text('[{"model": "a", "free": true, "from": "2d"}]')[0]
    assert found.from_ms == NOW_MS - 2 * 86_400_000
    (tmp_path / "p.json").write_text("[[prices]]")
    with pytest.raises(Invalid, match="is not JSON"):
        read_file(str(tmp_path / "p.json"), NOW_MS)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(Invalid, match="is not JSON"):
        read_file(str(tmp_path / "deep.json"), NOW_MS)
