"""How an imported price table differs from the one it replaces and from the list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from costd.domain.price_table import PriceTable
from costd.domain.rates import Context, ModelPrices, Rates
from costd.domain.units import UnitRegistry

#: Rates that differ by less than this, of the larger one, are the same price: sources write a third of a cent, or a
#: price by the hour as one by the second, with as many digits as they please.
_SAME = 1e-6


class RateDifference(NamedTuple):
    """A unit whose rate differs in a context (() is the standard price); a side without a rate has None.

    Rates are as tables hold them, for `per` of the unit: `rate_text` says them to people. A unit that only its whole
    has a rate for stands there with that.
    """

    unit: str
    context: Context
    per: int
    new: list[Any] | None
    other: list[Any] | None


class Difference(NamedTuple):
    """One model of the new file (or, with change "gone", one that only the held file has).

    `change` is against the held file and `listing` against the list; `changed` and `divergent` are the rates behind a
    "changed" and a "divergent". `changed` is empty where only prices of other hours than that compared at changed.
    `listed_as` is the id of the list's model, "" where it has none.
    """

    provider: str
    model: str
    change: Literal["new", "changed", "same", "gone"]
    listing: Literal["unlisted", "divergent", "same"]
    listed_as: str
    changed: tuple[RateDifference, ...]
    divergent: tuple[RateDifference, ...]


def compare(new: PriceTable, held: PriceTable | None, listed: PriceTable, at_ms: int) -> list[Difference]:
    """Every model of `new` against the file imported before and against the list as of `at_ms` (UTC milliseconds).

    A model of the list is the one that it finds at the same provider for the name: what holds without the file. They
    are compared in the contexts that the list has prices for. Differences come in the order of the table, models that
    are gone last.
    """
    before = _models(held) if held is not None else {}
    after = _models(new)
    differences = [_difference(place, raw, before.get(place), new, listed, at_ms) for place, raw in after.items()]
    differences += [Difference(*place, "gone", "unlisted", "", (), ()) for place in before if place not in after]
    return differences


def rate_text(rate: list[Any] | None) -> str:
    """A rate for people, in USD: "2.5", "2.5, above 200000 input tokens 5"; "none" for None."""
    if rate is None:
        return "none"
    tiers = [f"above {above} input tokens {_usd(mantissa, power)}" for above, mantissa, power in rate[2:]]
    return ", ".join([_usd(rate[0], rate[1]), *tiers])


def _usd(mantissa: int, power: int) -> str:
    return f"{Decimal((0, tuple(map(int, str(mantissa))), power)):f}"


def _models(table: PriceTable) -> dict[tuple[str, str], dict[str, Any]]:
    """{(provider, model): prices as the table holds them}."""
    return {
        (provider.id, raw["id"]): raw
        for provider in table.providers
        for raw in (provider.prices(position) for position in range(provider.model_count()))
    }


def _difference(
    place: tuple[str, str],
    raw: dict[str, Any],
    before: dict[str, Any] | None,
    new: PriceTable,
    listed: PriceTable,
    at_ms: int,
) -> Difference:
    provider, model = place
    prices = ModelPrices(raw, new.units)
    change: Literal["new", "changed", "same"] = "new"
    changed: tuple[RateDifference, ...] = ()
    if before is not None:
        change = "same" if before == raw else "changed"
        if change == "changed":
            other = ModelPrices(before, new.units)
            changed = tuple(
                _rate_differences(prices, other, [*other.contexts(), *prices.contexts()], new.units, at_ms, 0)
            )
    found = listed.find(provider, model)
    if found is None or found.provider_id != provider:
        return Difference(provider, model, change, "unlisted", "", changed, ())
    contexts = found.model.contexts() if found.variants_apply else []
    divergent = tuple(_rate_differences(prices, found.model, contexts, new.units, at_ms, _SAME))
    return Difference(provider, model, change, "divergent" if divergent else "same", found.model.id, changed, divergent)


def _rate_differences(
    new: ModelPrices,
    other: ModelPrices,
    contexts: list[Context],
    units: UnitRegistry,
    at_ms: int,
    tolerance: float,
) -> Iterator[RateDifference]:
    """Rates that differ in the standard price, and in other contexts only what does not differ there as well."""
    standard: set[tuple[Any, ...]] = set()
    for context in dict.fromkeys([(), *contexts]):
        theirs, ours = other.rates(at_ms, dict(context)), new.rates(at_ms, dict(context))
        for unit in sorted({*ours, *theirs}):
            mine, its = _effective(ours, unit, units), _effective(theirs, unit, units)
            if mine == its or _is_same(mine, its, tolerance):
                continue
            seen = (unit, str(mine), str(its))
            if not context:
                standard.add(seen)
            elif seen in standard:
                continue
            yield RateDifference(unit, context, units.per(unit), mine, its)


def _effective(rates: Rates, unit: str, units: UnitRegistry) -> list[Any] | None:
    """The unit's own rate, else that of the narrowest unit that contains it."""
    own = rates.get(unit)
    if own is not None:
        return own
    rated = [whole for whole in units.ancestors.get(unit, ()) if whole in rates]
    return rates[max(rated, key=lambda whole: (units.depth(whole), whole))] if rated else None


def _is_same(left: list[Any] | None, right: list[Any] | None, tolerance: float) -> bool:
    if left is None or right is None:
        # No rate and a rate of nothing come to the same.
        return not any(_values(left or right or [0, 0]).values())
    mine, its = _values(left), _values(right)
    return all(
        abs(_at(mine, above) - _at(its, above)) <= tolerance * max(_at(mine, above), _at(its, above))
        for above in {*mine, *its}
    )


def _values(rate: list[Any]) -> dict[int, float]:
    """{threshold: about how much}; floats will do, as only their nearness counts."""
    return {0: rate[0] * 10.0 ** rate[1], **{above: mantissa * 10.0**power for above, mantissa, power in rate[2:]}}


def _at(values: Mapping[int, float], tokens_above: int) -> float:
    return values[max(above for above in values if above <= tokens_above)]
