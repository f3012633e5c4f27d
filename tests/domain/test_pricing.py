"""Promise 7: every cost equals that of genai-prices to the nano-dollar, for every model it carries."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from importlib import resources

import genai_prices
import pytest
from genai_prices import data, types
from genai_prices.data_snapshot import get_snapshot
from genai_prices.data_units import unit_data
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.domain.errors import Invalid
from costd.domain.price_table import PriceTable
from costd.domain.pricebook import PriceBook
from costd.domain.rates import DAY_MS, Context
from costd.domain.units import PER_REQUEST, Quantity

BODY = resources.files("costd").joinpath("data", "prices.txt").read_bytes()
TABLE = PriceTable(BODY)
BOOK = PriceBook(TABLE)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW_MS = 1_795_000_000_000  # 2026-11-18
MODELS = [(number, position) for number, p in enumerate(data.providers) for position in range(len(p.models))]
UNIT_OF_PRICE = {raw.get("price_key", name): name for name, raw in unit_data.items()}


def library_cost_nano(
    provider: types.Provider, model: types.ModelInfo, units: Mapping[str, Quantity], at_ms: int, context: Context
) -> int | None:
    """What the library says, rounded once; None where it refuses the usage."""
    usage = types.Usage(**{name: value for name, value in units.items() if name in TABLE.units.ancestors})
    with localcontext(prec=120):
        try:
            price = model.calc_price(
                usage,
                provider,
                genai_request_timestamp=EPOCH + timedelta(milliseconds=at_ms),
                price_context=dict(context),
            )
        except ValueError:
            return None
        return int((price.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))


def own_cost_nano(
    number: int, position: int, units: Mapping[str, Quantity], at_ms: int, context: Context
) -> int | None:
    """What our table says for the same model, found by its place; None where the usage is refused or unpriced."""
    model = TABLE.model(TABLE.providers[number], position)
    card = model.card(at_ms, model.meaningful(context))
    plain = card.plain_cost_nano(units)
    try:
        cost = card.cost_nano(units)
    except Invalid:
        assert plain is None
        return None
    if plain is not None:
        assert plain == cost
    return cost if isinstance(cost, int) else None


def conditional_prices(model: types.ModelInfo) -> list[types.ConditionalPrice]:
    if isinstance(model.prices, list):
        return model.prices
    return [types.ConditionalPrice(prices=model.prices)]


def constraints(model: types.ModelInfo) -> Iterator[object]:
    yield from (price.constraint for price in conditional_prices(model))
    yield from (variant.constraint for variant in model.price_variants or ())


def interesting_times(model: types.ModelInfo) -> set[int]:
    """Now, and both sides of every moment at which some price of the model changes."""
    times = {NOW_MS}
    for constraint in constraints(model):
        if isinstance(constraint, types.StartDateConstraint):
            start = (constraint.start_date - EPOCH.date()).days * DAY_MS
            times |= {start - 1, start}
        elif isinstance(constraint, types.TimeOfDateConstraint):
            for cut in (constraint.start_time, constraint.end_time):
                edge = NOW_MS // DAY_MS * DAY_MS + (cut.hour * 60 + cut.minute) * 60_000 + cut.second * 1000
                times |= {edge - 1, edge}
    return times


def contexts(model: types.ModelInfo) -> list[Context]:
    """No context, each variant's, all of them at once, and one that nothing knows."""
    whens = [tuple(variant.when.items()) for variant in model.price_variants or ()]
    together = tuple({key: value for when in whens for key, value in when}.items())
    return [(), (("service_tier", "unheard-of"),), *dict.fromkeys([*whens, together])]


def priced_units(model: types.ModelInfo) -> list[str]:
    cards = [price.prices for price in conditional_prices(model)]
    cards += [variant.prices for variant in model.price_variants or ()]
    return sorted({UNIT_OF_PRICE[key] for card in cards for key in vars(card)} - {PER_REQUEST})


def thresholds(model: types.ModelInfo) -> list[int]:
    cards = [price.prices for price in conditional_prices(model)]
    cards += [variant.prices for variant in model.price_variants or ()]
    tiered = [value for card in cards for value in vars(card).values() if isinstance(value, types.TieredPrices)]
    return sorted({tier.start for value in tiered for tier in value.tiers})


def consistent_units(rng: random.Random, names: list[str], edges: list[int]) -> dict[str, Quantity]:
    """Random usage of these units that fits together: every unit is its own rest and all that it contains."""
    rest: dict[str, Quantity] = {}
    for name in names:
        size = rng.choice((0, 9, 99_999, 10**7))
        rest[name] = rng.randint(0, size)
        if TABLE.units.units[name].fractional and rng.random() < 0.5:
            rest[name] += Decimal(rng.randint(0, 999)) / 1000
    units = {n: rest[n] + sum(rest[d] for d in TABLE.units.descendants[n] if d in rest) for n in names}
    if edges and "input_tokens" in units:
        total = rng.choice(edges) + rng.randint(0, 1)
        units["input_tokens"] = max(total, units["input_tokens"])
    if "output_tokens" in units and rng.random() < 0.3:
        units.setdefault("output_reasoning_tokens", rng.randint(0, int(units["output_tokens"])))
        if units["output_reasoning_tokens"] > units["output_tokens"]:
            del units["output_reasoning_tokens"]
    return {name: value for name, value in units.items() if value or rng.random() < 0.5}


@pytest.mark.parametrize("number", range(len(data.providers)), ids=[provider.id for provider in data.providers])
def test_promise_7_every_model_costs_what_the_library_says(number: int) -> None:
    """Random units at every date, time of day, tier and variant of every model."""
    rng = random.Random(number)
    provider = data.providers[number]
    assert TABLE.providers[number].id == provider.id
    assert TABLE.providers[number].model_count() == len(provider.models)
    for position, model in enumerate(provider.models):
        names, edges = priced_units(model), thresholds(model)
        assert TABLE.model(TABLE.providers[number], position).id == model.id
        for at_ms in sorted(interesting_times(model)):
            for context in contexts(model):
                for _ in range(8 if edges else 4):
                    units = consistent_units(rng, names, edges)
                    expected = library_cost_nano(provider, model, units, at_ms, context)
                    own = own_cost_nano(number, position, units, at_ms, context)
                    assert own == expected, (provider.id, model.id, units, at_ms, context)


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_promise_7_any_usage_of_any_model(choice: st.DataObject) -> None:
    """Also usage that does not fit together: refused, or kept unpriced, exactly where the library refuses it."""
    number, position = choice.draw(st.sampled_from(MODELS))
    provider = data.providers[number]
    model = provider.models[position]
    known = sorted(TABLE.units.ancestors)
    names = choice.draw(st.lists(st.sampled_from([*priced_units(model), *known]), max_size=6, unique=True))
    units: dict[str, Quantity] = {}
    for name in names:
        counts = st.integers(0, 20) | st.integers(0, 10**12)
        if TABLE.units.units[name].fractional:
            units[name] = choice.draw(counts | st.decimals(0, 10**6, places=9))
        else:
            units[name] = choice.draw(counts)
    at_ms = choice.draw(st.integers(0, 4 * 10**12) | st.sampled_from(sorted(interesting_times(model))))
    context = choice.draw(st.sampled_from(contexts(model)))
    assert own_cost_nano(number, position, units, at_ms, context) == library_cost_nano(
        provider, model, units, at_ms, context
    )


def texts(logic: types.MatchLogic) -> Iterator[str]:
    """A name for every rule, with something before or after it where the rule allows that."""
    match logic:
        case types.ClauseOr() | types.ClauseAnd():
            for each in next(iter(vars(logic).values())):
                yield from texts(each)
        case types.ClauseEquals():
            yield logic.equals
        case types.ClauseStartsWith():
            yield logic.starts_with + "-20251001"
        case types.ClauseEndsWith():
            yield "x" + logic.ends_with
        case types.ClauseContains():
            yield f"x{logic.contains}y"
        case types.ClauseRegex():
            yield logic.regex.strip("^$").replace("\\d{8}", "20251130").replace("\\d", "7").replace("\\", "")


def spellings(provider: types.Provider) -> set[str]:
    """Every model's id, its id in capitals, and a name for every rule that finds it."""
    return {name for model in provider.models for name in (model.id, model.id.upper(), *texts(model.match))}


def library_find(provider_name: str, name: str) -> tuple[str, str] | None:
    try:
        provider, model = get_snapshot().find_provider_model(name, None, provider_name or None, None)
    except LookupError:
        return None
    return provider.id, model.id


def test_promise_7_names_are_found_as_the_library_finds_them() -> None:
    """Wherever the library finds a model, with or without a provider, we find the same one."""
    rng = random.Random(7)
    found_count = 0
    for provider in data.providers:
        names = sorted(spellings(provider))
        strangers = [rng.choice(data.providers).id for _ in names]
        for name, stranger in zip(names, strangers, strict=True):
            asked = [(provider.id, name), ("", name), ("litellm", f"{provider.id}/{name}")]
            if rng.random() < 0.1:
                asked += [(stranger, name), ("litellm", name)]
            for provider_name, model_name in asked:
                expected = library_find(provider_name, model_name)
                if expected is None:
                    continue
                found_count += 1
                found = TABLE.find(provider_name, model_name)
                assert found is not None
                assert (found.provider_id, found.model.id) == expected, (provider_name, model_name)
    assert found_count > 8000


def test_promise_7_the_book_agrees_with_calc_price() -> None:
    """From a name to nano-dollars, through the public function of each."""
    rng = random.Random(9)
    for number, position in rng.sample(MODELS, 400):
        provider = data.providers[number]
        name = provider.models[position].id
        if library_find(provider.id, name) is None:
            continue
        units: dict[str, Quantity] = {"input_tokens": rng.randint(0, 10**6), "output_tokens": rng.randint(0, 10**5)}
        with localcontext(prec=120):
            price = genai_prices.calc_price(
                types.Usage(**units),
                name,
                provider_id=provider.id,
                genai_request_timestamp=EPOCH + timedelta(milliseconds=NOW_MS),
                price_context={"processing": "batch"},
            )
            expected = int((price.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))
        quote = BOOK.price(1, provider.id, name, units, NOW_MS, (("processing", "batch"),))
        assert (quote.cost_nano, quote.provider, quote.model) == (expected, provider.id, price.model.id)
