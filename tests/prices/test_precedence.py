"""What wins over what: a price book against a reading of docs/prices.md that knows nothing of how it works."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from price_tables import UNITS, table

from costd.domain.errors import Invalid
from costd.domain.price_rule import PriceRule, check_rule
from costd.domain.pricebook import ColumnPrice, MatchedPrice, PriceBook, Quote
from costd.domain.rates import Context
from costd.domain.rerating import linear_cost
from costd.domain.units import Quantity
from costd.services.price_checks import CheckedRule, standing

ORG, OTHER_ORG = 1, 2
DAY_MS = 86_400_000
T0 = 20_000 * DAY_MS
#: Moments at which something may change; the list's own price changes at the third.
TIMES = [T0, T0 + 10 * DAY_MS, T0 + 20 * DAY_MS, T0 + 30 * DAY_MS]
SENT = "acme-1-2024-10-01"
BATCH: Context = (("processing", "batch"),)
EAST: Context = (("region", "east"),)

ACME = {
    "id": "acme-1",
    "prices": [
        [None, {"input_tokens": [2, 0, [100, 4, 0]], "output_tokens": [8, 0], "cache_read_tokens": [1, 0]}],
        [["date", TIMES[2] // DAY_MS], {"input_tokens": [3, 0], "output_tokens": [9, 0], "audio_seconds": [36, -1]}],
    ],
    "variants": [[{"processing": "batch"}, None, {"input_tokens": [1, 0]}]],
}
IN_FILE = {"id": SENT, "prices": [[None, {"input_tokens": [7, 0], "images": [5, -2]}]]}
LIST = table({"acme": [(["^", "acme-1"], ACME)], "zeta": []}, 1)
FILE = table({"acme": [(["=", SENT], IN_FILE)]}, 2)
NAMED_UNITS = ("input_tokens", "output_tokens", "images", "audio_seconds", "gpu_seconds")


class Case(NamedTuple):
    """One question."""

    rules: Sequence[PriceRule]
    has_file: bool
    provider: str
    model: str
    context: Context
    at_ms: int


Rate = tuple[Fraction, Mapping[int, Fraction]]


class Reading(NamedTuple):
    """What the documentation says comes of it; None where nothing knows the model."""

    rates: dict[str, Rate]
    is_free: bool
    winners: dict[str, str]


def exact(rate: Sequence[Any], per: int) -> Rate:
    """A rate for `per` as one for one."""
    tiers = {tier[0]: Fraction(tier[1]) * Fraction(10) ** tier[2] / per for tier in rate[2:]}
    return Fraction(rate[0]) * Fraction(10) ** rate[1] / per, tiers


def times(rate: Rate, factor: Fraction) -> Rate:
    return rate[0] * factor, {above: usd * factor for above, usd in rate[1].items()}


def base_of(case: Case) -> dict[str, Rate] | None:
    """What file and list say: unit by unit, the file first."""
    if case.provider == "zeta" or not case.model.startswith("acme-1"):
        return None
    raw = dict(ACME["prices"][1 if case.at_ms >= TIMES[2] else 0][1])
    if BATCH[0] in case.context:
        raw["input_tokens"] = [1, 0]
    if case.has_file and case.model == SENT:
        raw |= IN_FILE["prices"][0][1]
    return {unit: exact(rate, UNITS.per(unit)) for unit, rate in raw.items()}


def closer(rule: PriceRule, model: str, listed: str) -> int:
    """The name as it was sent, then the list's name for it, then the longest beginning."""
    if rule.model == model:
        return 10_000
    if rule.model == listed:
        return 9_999
    return len(rule.model) if rule.model.endswith("*") and (model + " " + listed).find(rule.model[:-1]) >= 0 else 0


def speaks(rule: PriceRule, model: str, listed: str) -> bool:
    if rule.model.endswith("*"):
        return model.startswith(rule.model[:-1]) or (bool(listed) and listed.startswith(rule.model[:-1]))
    return rule.model in {model, listed} - {""}


def strength(case: Case, listed: str) -> Callable[[PriceRule], Any]:
    """Sorts prices of one level: the closest name, then a provider, more context, the later beginning, the newer."""
    tests: tuple[Callable[[PriceRule], Any], ...] = (
        lambda rule: closer(rule, case.model, listed),
        lambda rule: rule.provider != "",
        lambda rule: len(rule.context),
        lambda rule: rule.from_ms,
        lambda rule: rule.id,
    )

    def compare(left: PriceRule, right: PriceRule) -> int:
        for of in tests:
            if of(left) != of(right):
                return 1 if of(left) > of(right) else -1
        return 0

    return functools.cmp_to_key(compare)


def concerned(case: Case, listed: str, strongest: Callable[[PriceRule], Any], *, is_known: bool) -> list[PriceRule]:
    """The prices that speak of the model as it is bought; where nobody says who sells it, the strongest one does."""
    held = [rule for rule in case.rules if rule.org_id in {None, ORG} and speaks(rule, case.model, listed)]
    owner = case.provider or ("acme" if is_known else "")
    for org in (ORG, None):
        naming = [rule for rule in held if rule.org_id == org and rule.provider]
        owner = owner or (max(naming, key=strongest).provider if naming else "")
    return [rule for rule in held if rule.provider in {"", owner}]


def applies(rule: PriceRule, case: Case) -> bool:
    in_time = rule.from_ms <= case.at_ms and (rule.until_ms is None or case.at_ms < rule.until_ms)
    return in_time and set(rule.context) <= set(case.context)


def lay(below: Reading, level: Sequence[PriceRule], strongest: Callable[[PriceRule], Any]) -> Reading:
    """One level of prices over what is below it."""
    rates, is_free, winners = dict(below.rates), below.is_free, dict(below.winners)
    scaling = [rule for rule in level if rule.multiplier is not None]
    if scaling:
        mantissa, power = max(scaling, key=strongest).multiplier or (1, 0)
        factor = Fraction(mantissa) * Fraction(10) ** power
        rates = {unit: times(rate, factor) for unit, rate in rates.items()}
        is_free = is_free or factor == 0
    named = {unit for rule in level for unit in rule.rates}
    if named and is_free:
        for unit in {"input_tokens", "output_tokens"} - set(rates):
            rates[unit], winners[unit] = (Fraction(0), {}), "free"
        is_free = False
    for unit in named:
        winner = max((rule for rule in level if unit in rule.rates), key=strongest)
        rates[unit], winners[unit] = exact(winner.rates[unit], 1), winner.id
    return Reading(rates, is_free, winners)


def read(case: Case) -> Reading | None:
    """Unit by unit the strongest price that names it decides; a multiplier scales what lies below its level."""
    base = base_of(case)
    listed = "acme-1" if case.model.startswith("acme-1") and case.provider != "zeta" else ""
    strongest = strength(case, listed)
    held = concerned(case, listed, strongest, is_known=base is not None)
    if base is None and not any(rule.rates or rule.multiplier == (0, 0) for rule in held):
        return None
    reading = Reading(dict(base or {}), False, dict.fromkeys(base or {}, ""))
    for org in (None, ORG):
        reading = lay(reading, [rule for rule in held if rule.org_id == org and applies(rule, case)], strongest)
    return reading._replace(rates={}) if reading.is_free else reading


def rate_lists(draw: Any) -> list[Any]:
    base: list[Any] = [draw(st.integers(0, 50)), draw(st.integers(-9, 0))]
    tiers = draw(st.lists(st.integers(1, 200), max_size=2, unique=True))
    return [*base, *([above, draw(st.integers(0, 50)), -3] for above in sorted(tiers))]


@st.composite
def rules(draw: Any, number: int) -> PriceRule:
    rates = {unit: rate_lists(draw) for unit in draw(st.sets(st.sampled_from(NAMED_UNITS), max_size=3))}
    multiplier = draw(st.sampled_from([None, None, (0, 0), (8, -1), (2, 0)]))
    if not rates and multiplier is None:
        multiplier = (5, -1)
    start, length = draw(st.sampled_from(TIMES)), draw(st.sampled_from([None, 1, 5 * DAY_MS, 15 * DAY_MS]))
    return check_rule(
        PriceRule(
            id=f"{number:04}",
            org_id=draw(st.sampled_from([None, None, ORG, ORG, OTHER_ORG])),
            provider=draw(st.sampled_from(["", "", "acme", "zeta"])),
            model=draw(st.sampled_from([SENT, "acme-1", "acme-*", "acme-1*", "acme-1-2024*", "*", "own", "own*"])),
            context=draw(st.sampled_from([(), (), BATCH, EAST, BATCH + EAST])),
            rates=rates,
            multiplier=multiplier,
            from_ms=start,
            until_ms=None if length is None else start + length,
        )
    )


def few_rules(numbers: list[int]) -> st.SearchStrategy[list[PriceRule]]:
    """Rules that are likely to be about the same: a few of a few kinds, the oldest first."""

    def alike(drawn: list[PriceRule]) -> list[PriceRule]:
        kinds = [rule._replace(org_id=None, model=drawn[0].model, provider=drawn[0].provider) for rule in drawn]
        picked = [kinds[number % len(kinds)] for number in numbers]
        return [rule._replace(id=f"{place:04}") for place, rule in enumerate(picked)]

    return st.lists(rules(0), min_size=1, max_size=3).map(alike)


@st.composite
def cases(draw: Any) -> Case:
    held = [draw(rules(number)) for number in range(draw(st.integers(0, 7)))]
    moments = {at for rule in held for at in (rule.from_ms, rule.until_ms) if at is not None} | set(TIMES)
    at_ms = draw(st.sampled_from(sorted(moments))) + draw(st.sampled_from([-1, 0, 1]))
    shuffled = draw(st.permutations(held))
    return Case(
        shuffled,
        draw(st.booleans()),
        draw(st.sampled_from(["", "acme", "zeta"])),
        draw(st.sampled_from([SENT, "acme-1", "own"])),
        draw(st.sampled_from([(), BATCH, EAST, BATCH + EAST])),
        at_ms,
    )


def book_of(case: Case) -> PriceBook:
    return PriceBook(LIST, case.rules, FILE if case.has_file else None, rules_id=3)


def ask(case: Case) -> MatchedPrice | Quote:
    return book_of(case).match(ORG, case.provider, case.model, case.at_ms, case.context)


@settings(max_examples=500, deadline=None)
@given(cases())
def test_a_book_says_what_the_documentation_says(case: Case) -> None:
    """Any rules over any base: the rates, what is free, what has no price, and where each rate comes from."""
    expected, found = read(case), ask(case)
    if expected is None:
        assert isinstance(found, Quote), found
        return
    assert isinstance(found, MatchedPrice), found
    card = found.card
    assert card.is_free == expected.is_free
    assert {unit: exact(rate, UNITS.per(unit)) for unit, rate in card.rates.items()} == expected.rates
    if not expected.is_free:
        for unit, winner in expected.winners.items():
            assert winner == "free" or found.origins[unit].rule_id == winner
    if not expected.rates and not expected.is_free and base_of(case) is None:
        assert "in force at that time" in card.defect


@settings(max_examples=150, deadline=None)
@given(cases(), st.lists(st.integers(0, 300), min_size=5, max_size=5), st.integers(0, 40))
def test_records_by_columns_cost_what_single_ones_cost(case: Case, counts: list[int], days: int) -> None:
    """Where a batch is priced by factors, they give the very cost of each record."""
    book = book_of(case)
    columns = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
    total_in, out, read_, write, thought = counts
    counts = [max(total_in, read_ + write), max(out, thought), read_, write, thought]
    last_ms = case.at_ms + days * DAY_MS
    priced = book.price_columns(ORG, case.provider, case.model, columns, case.at_ms, last_ms, case.context)
    if not isinstance(priced, ColumnPrice) or priced.linear is None:
        return
    cost = linear_cost(priced.linear, *counts)
    if cost is None:
        return
    units: dict[str, Quantity] = {name: count for name, count in zip(columns, counts, strict=True) if count}
    for at_ms in (case.at_ms, (case.at_ms + last_ms) // 2, last_ms):
        assert book.price(ORG, case.provider, case.model, units, at_ms, case.context).cost_nano == cost


@settings(max_examples=150, deadline=None)
@given(cases())
def test_a_price_holds_as_long_as_it_says(case: Case) -> None:
    """Since its first moment and until the one at which it is another."""
    found = ask(case)
    if isinstance(found, Quote):
        return

    def rates_at(at_ms: int) -> object:
        other = ask(case._replace(at_ms=at_ms))
        assert isinstance(other, MatchedPrice)
        return other.card.rates, other.card.is_free, other.card.defect

    now = rates_at(case.at_ms)
    if found.since_ms is not None:
        assert found.since_ms <= case.at_ms
        assert rates_at(found.since_ms) == now
        assert rates_at(found.since_ms - 1) != now
    else:
        assert rates_at(TIMES[0] - DAY_MS) == now
    if found.until_ms is not None:
        assert found.until_ms > case.at_ms
        assert rates_at(found.until_ms - 1) == now
        assert rates_at(found.until_ms) != now
    else:
        assert rates_at(TIMES[-1] + 100 * DAY_MS) == now


def everything(held: Sequence[PriceRule], since_ms: int) -> list[object]:
    """What rules come to: every model, context and provider, at every moment from one on at which something changes."""
    moments = {at for rule in held for at in (rule.from_ms, rule.until_ms) if at is not None} | {since_ms, *TIMES}
    book = PriceBook(LIST, held)
    found = []
    for at_ms in sorted(moment for moment in moments if moment >= since_ms):
        for model in (SENT, "own"):
            for context in ((), BATCH, EAST, BATCH + EAST):
                for provider in ("acme", "zeta"):
                    price = book.match(ORG, provider, model, at_ms, context)
                    if isinstance(price, MatchedPrice):
                        found.append((at_ms, dict(price.card.rates), price.card.is_free, price.card.defect))
                    else:
                        found.append((at_ms, "none"))
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5).flatmap(few_rules), st.booleans(), st.integers(0, 4))
def test_what_the_books_say_already_would_change_nothing(held: list[PriceRule], has_from: bool, choice: int) -> None:
    """A rule that is not set because another stands is one that nobody would have noticed."""
    at_ms = T0 + 12 * DAY_MS
    new = held[choice % len(held)]._replace(id="9999")
    new = new if has_from else new._replace(from_ms=at_ms)
    beside = [other for other in held if other.scope == new.scope]
    if new.until_ms is not None and new.until_ms <= new.from_ms:
        return
    if standing(CheckedRule(new, has_from), beside, at_ms) is not None:
        since_ms = T0 - 1 if has_from else at_ms
        assert everything(held, since_ms) == everything([*held, new], since_ms)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=5).flatmap(few_rules))
def test_nothing_is_left_of_a_rule_that_is_replaced(held: list[PriceRule]) -> None:
    """It can be taken out of the books without anybody noticing."""
    newest = held[-1]
    left = [other for other in held if other is newest or not newest.replaces(other)]
    assert everything(held, T0 - 1) == everything(left, T0 - 1)


def rule(number: int, **fields: Any) -> PriceRule:
    plain: dict[str, Any] = {
        "id": f"{number:04}",
        "org_id": None,
        "provider": "",
        "model": SENT,
        "context": (),
        "rates": {},
        "multiplier": None,
        "from_ms": T0,
    }
    return check_rule(PriceRule(**(plain | fields)))


def usd(amount: int) -> dict[str, list[Any]]:
    """A rate of so many USD for an input token."""
    return {"input_tokens": [amount, 0]}


NOW = T0 + 5 * DAY_MS
#: (what is shown, rules, context, USD for an input token or None where it has no price).
TABLE: list[tuple[str, list[PriceRule], Context, Fraction | None]] = [
    ("the list, where nothing was set", [], (), Fraction(2, 10**6)),
    ("everybody's over the list", [rule(1, rates=usd(5))], (), Fraction(5)),
    ("an organization's over everybody's", [rule(1, rates=usd(5), org_id=ORG), rule(2, rates=usd(6))], (), Fraction(5)),
    ("another organization's is no concern", [rule(1, rates=usd(5), org_id=OTHER_ORG)], (), Fraction(2, 10**6)),
    ("the name as sent over the list's", [rule(1, rates=usd(5)), rule(2, rates=usd(6), model="acme-1")], (),
     Fraction(5)),
    ("a name over a beginning", [rule(1, rates=usd(5), model="acme-1"), rule(2, rates=usd(6), model="*")], (),
     Fraction(5)),
    ("longer beginnings", [rule(1, rates=usd(5), model="acme-*"), rule(2, rates=usd(6), model="a*")], (), Fraction(5)),
    ("a provider over any", [rule(1, rates=usd(5), provider="acme"), rule(2, rates=usd(6))], (), Fraction(5)),
    ("the name before the provider", [rule(1, rates=usd(5)), rule(2, rates=usd(6), model="acme-*", provider="acme")],
     (), Fraction(5)),
    ("another provider's is no concern", [rule(1, rates=usd(5), provider="zeta")], (), Fraction(2, 10**6)),
    ("a context over none", [rule(1, rates=usd(5), context=BATCH), rule(2, rates=usd(6))], BATCH, Fraction(5)),
    ("a provider before a context", [rule(1, rates=usd(5), provider="acme"), rule(2, rates=usd(6), context=BATCH)],
     BATCH, Fraction(5)),
    ("a context before the beginning", [rule(1, rates=usd(5), context=BATCH), rule(2, rates=usd(6), from_ms=T0 + 1)],
     BATCH, Fraction(5)),
    ("a context that is not there", [rule(1, rates=usd(5), context=BATCH), rule(2, rates=usd(6))], (), Fraction(6)),
    ("none holds in every context", [rule(1, rates=usd(5))], BATCH, Fraction(5)),
    ("the later beginning", [rule(2, rates=usd(5)), rule(1, rates=usd(6), from_ms=T0 + 1)], (), Fraction(6)),
    ("of the same beginning the newer", [rule(2, rates=usd(5)), rule(1, rates=usd(6))], (), Fraction(5)),
    ("not before its time", [rule(1, rates=usd(5), from_ms=NOW + 1)], (), Fraction(2, 10**6)),
    ("from its first moment", [rule(1, rates=usd(5), from_ms=NOW)], (), Fraction(5)),
    ("not in the moment it ends", [rule(1, rates=usd(5), until_ms=NOW)], (), Fraction(2, 10**6)),
    ("until just before that", [rule(1, rates=usd(5), until_ms=NOW + 1)], (), Fraction(5)),
    ("a share of the list's", [rule(1, multiplier=(8, -1))], (), Fraction(16, 10**7)),
    ("a share of everybody's", [rule(1, multiplier=(5, -1), org_id=ORG), rule(2, rates=usd(6))], (), Fraction(3)),
    ("no share of its own level", [rule(1, multiplier=(5, -1)), rule(2, rates=usd(6))], (), Fraction(6)),
    ("shares of shares, level by level", [rule(1, multiplier=(5, -1), org_id=ORG), rule(2, multiplier=(5, -1))], (),
     Fraction(5, 10**7)),
    ("one share a level", [rule(1, multiplier=(5, -1)), rule(2, multiplier=(1, -1))], (), Fraction(2, 10**7)),
    ("a share of a variant", [rule(1, multiplier=(5, -1))], BATCH, Fraction(5, 10**7)),
    ("free", [rule(1, multiplier=(0, 0))], (), Fraction(0)),
    ("free but for a unit", [rule(1, multiplier=(0, 0), rates={"images": [1, 0]})], (), Fraction(0)),
    ("free for everybody, not for us", [rule(1, multiplier=(0, 0)), rule(2, rates=usd(6), org_id=ORG)], (),
     Fraction(6)),
]  # fmt: skip


@pytest.mark.parametrize(("shown", "held", "context", "price"), TABLE, ids=[entry[0] for entry in TABLE])
def test_what_wins_over_what(shown: str, held: list[PriceRule], context: Context, price: Fraction | None) -> None:
    quote = PriceBook(LIST, held).price(ORG, "acme", SENT, {"input_tokens": 3}, NOW, context)
    assert price is not None
    assert quote.cost_nano == int(3 * price * 10**9), shown


def test_a_unit_that_is_left_open_stays_what_it_is() -> None:
    held = [rule(1, rates={"output_tokens": [1, 0]}), rule(2, rates={"images": [4, -2]}, org_id=ORG)]
    units: dict[str, Quantity] = {"input_tokens": 100, "output_tokens": 1, "images": 2}
    assert PriceBook(LIST, held).price(ORG, "acme", SENT, units, NOW).cost_nano == 100 * 2_000 + 10**9 + 8 * 10**7


def test_the_file_is_in_front_of_the_list_and_rules_of_both() -> None:
    book = PriceBook(LIST, [rule(1, rates={"images": [1, 0]})], FILE)
    found = book.match(ORG, "", SENT, NOW)
    assert isinstance(found, MatchedPrice)
    assert found.base == "file"
    assert found.card.rates == {
        "input_tokens": [7, 0],
        "images": [1, 0],
        "output_tokens": [8, 0],
        "cache_read_tokens": [1, 0],
    }
    other = book.match(ORG, "", "acme-1-mini", NOW)
    assert isinstance(other, MatchedPrice)
    assert other.base == "list"


def test_a_share_of_nothing_is_no_price() -> None:
    """A discount on everything does not make an unknown model known, nor a model without any rate unknown."""
    held = [rule(1, model="*", multiplier=(9, -1))]
    quote = PriceBook(LIST, held).price(ORG, "", "unheard-of", {"input_tokens": 1}, NOW)
    assert quote.cost_nano is None
    assert 'no model "unheard-of"' in quote.warnings[0]
    bare = table({"acme": [(["^", "acme-"], {"id": "acme-free", "prices": [[None, {}]]})]})
    quote = PriceBook(bare, held).price(ORG, "", "acme-free", {"input_tokens": 1}, NOW)
    assert (quote.cost_nano, quote.unrated) == (0, ("input_tokens",))


def test_a_price_of_a_time_is_none_at_another() -> None:
    book = PriceBook(LIST, [rule(1, model="own", rates=usd(1), until_ms=NOW)])
    assert book.price(ORG, "", "own", {"input_tokens": 1}, NOW - 1).cost_nano == 10**9
    quote = book.price(ORG, "", "own", {"input_tokens": 1}, NOW)
    assert quote.cost_nano is None
    assert "no price of it is in force at that time" in quote.warnings[0]


def test_free_stays_free_whatever_is_used() -> None:
    """Units of the caller's own too, and counts that the list would want explained."""
    book = PriceBook(LIST, [rule(1, multiplier=(0, 0))])
    quote = book.price(ORG, "acme", SENT, {"input_tokens": 5, "gpu_seconds": 7, "images": 1}, NOW)
    assert (quote.cost_nano, quote.unrated, quote.warnings) == (0, (), ())


def test_words_for_tiers_are_known_where_a_price_speaks_of_them() -> None:
    """And told where none does, also on a model that only prices know."""
    flex: Context = (("service_tier", "flex"),)
    own = rule(1, model="own", rates=usd(1))
    assert PriceBook(LIST, [own]).price(ORG, "", "own", {}, NOW, flex).unmapped_tier == "flex"
    known = [own, rule(2, model="own", rates=usd(2), context=flex)]
    quote = PriceBook(LIST, known).price(ORG, "", "own", {"input_tokens": 1}, NOW, flex)
    assert (quote.unmapped_tier, quote.cost_nano) == ("", 2 * 10**9)
    apart = [own, rule(2, model="own", rates=usd(2), context=(*EAST, *flex))]
    assert PriceBook(LIST, apart).price(ORG, "", "own", {"input_tokens": 1}, NOW, flex).unmapped_tier == "flex"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": " "}, "model"),
        ({"model": "a*b"}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"provider": "p" * 257}, "provider"),
        ({"note": "n\n"}, "note"),
        ({"rates": {}}, "rates"),
        ({"rates": {"Images": [1, 0]}}, "rates.Images"),
        ({"rates": {"chars": [1, 0], "input_characters": [1, 0]}}, "rates.input_characters"),
        ({"rates": {f"u{n}": [1, 0] for n in range(65)}}, "rates"),
        ({"rates": {"images": [1, 0, [5, 1, 0], [5, 2, 0]]}}, "rates.images"),
        ({"rates": {"images": [1, 0, *([n, 1, 0] for n in range(1, 18))]}}, "rates.images"),
        ({"context": (("", "x"),)}, "context"),
        ({"context": tuple((f"k{n}", "x") for n in range(17))}, "context"),
        ({"from_ms": 0}, "from"),
        ({"from_ms": 10**15}, "from"),
        ({"until_ms": T0}, "until"),
        ({"until_ms": 10**15}, "until"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        rule(1, **({"rates": {"images": [1, 0]}} | fields))
    assert refused.value.field == field
