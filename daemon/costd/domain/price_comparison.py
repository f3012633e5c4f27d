"""How an imported price table differs from the one it replaces and from the list."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from costd.domain.price_table import PriceTable
from costd.domain.rates import Context


class RateDifference(NamedTuple):
    """A unit whose rate differs in a context (() is the standard price); a side without a rate has None.

    Rates are as tables hold them, for `per` of the unit: `rate_text` says them to people.
    """

    unit: str
    context: Context
    per: int
    new: list[Any] | None
    other: list[Any] | None


class Difference(NamedTuple):
    """One model of the new file (or, with change "gone", one that only the held file has).

    `change` is against the held file and `listing` against the list; `changed` and `divergent` are the rates behind a
    "changed" and a "divergent". `listed_as` is the id of the list's model, "" where it has none.
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

    In the order of provider and name; the models that are gone come last.
    """
    raise NotImplementedError


def rate_text(rate: list[Any] | None) -> str:
    """A rate for people, in USD: "2.5", "2.5, above 200000 input tokens 5"; "none" for None."""
    raise NotImplementedError
