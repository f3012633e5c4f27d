"""What `/api/prices` takes and answers, field by field."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, field

from costd.wire.web.answers import Number, Usd
from costd.wire.web.fields import Name, Text

_RATE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {
            "type": "object",
            "properties": {
                "base": {"type": "number", "minimum": 0},
                "above": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            },
            "required": ["base"],
        },
    ]
}
_RATES = 'USD by unit: a number or, with tiers, {"base": 1.25, "above": {"200000": 2.5}} by input tokens.'
RatesIn = Annotated[dict[str, Any], Meta(description=_RATES, extra_json_schema={"additionalProperties": _RATE_SCHEMA})]
Rate = Annotated[Raw, Meta(extra_json_schema=_RATE_SCHEMA)]
When = Annotated[
    dict[str, Text], Meta(description='What a record\'s price context must hold: {"processing": "batch"}.')
]
MultiplierIn = Annotated[
    Any,
    Meta(
        description="The share of its price that every other unit costs; 0 is free of charge.",
        extra_json_schema={"type": ["number", "null"], "minimum": 0},
    ),
]
MomentIn = Annotated[
    Any,
    Meta(
        description='A day (its first moment, UTC), RFC 3339 or Unix seconds; `from` may be "always".',
        extra_json_schema={"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
    ),
]


class PriceBody(Struct, frozen=True):
    """A price to be set. What it leaves open stays what it would be without it."""

    model: Name
    provider: Text | None = None
    org: Text | None = None
    when: When | None = None
    usd_per_mtok: RatesIn | None = None
    usd_each: RatesIn | None = None
    multiplier: MultiplierIn = None
    free: bool | None = None
    from_: MomentIn = field(default=None, name="from")
    until: MomentIn = None
    note: Text | None = None


class PriceQuery(Struct, frozen=True):
    """Which prices to list."""

    model: Text | None = None
    removed: bool = False


class MatchQuery(Struct, frozen=True):
    """Which price is asked about."""

    model: Name
    provider: Text | None = None
    at: Text | None = None
    when: Annotated[str, Meta(max_length=4096, description="A price context: processing=batch,…")] | None = None
    org: Text | None = None


class Price(Struct, frozen=True):
    """A price that was set, with its history; null where it is for any provider or for everybody."""

    id: str
    model: str
    provider: str | None
    org: str | None
    when: dict[str, str]
    usd_per_mtok: dict[str, Rate]
    usd_each: dict[str, Rate]
    multiplier: Number | None
    from_: str = field(name="from")
    until: str | None
    note: str
    created: str
    created_by: str | None
    created_by_name: str | None
    removed: str | None
    removed_by: str | None
    removed_by_name: str | None


class PriceList(Struct, frozen=True):
    """Prices that were set, newest first."""

    prices: list[Price]


class MatchedRate(Struct, frozen=True):
    """What one unit costs: `usd` for `per` of it; where from: a "price", the "file" or the "list"."""

    unit: str
    usd: Usd
    per: int
    usd_each: Usd
    usd_each_is_rounded: bool
    usd_per_mtok: Usd | None
    above: dict[str, Usd]
    source: str | None
    source_id: str | None
    scaled_by: list[str]


class Base(Struct, frozen=True):
    """What lies below the prices that were set."""

    kind: str
    version: str
    name: str | None


class Variant(Struct, frozen=True):
    """What the model costs in another price context."""

    when: dict[str, str]
    free: bool
    rates: list[MatchedRate]


class Matched(Struct, frozen=True):
    """What a model costs at a moment, and why."""

    provider: str | None
    model: str
    at: str
    when: dict[str, str]
    rates: list[MatchedRate]
    free: bool
    defect: str | None
    since: str | None
    until: str | None
    varies_by_time_of_day: bool
    base: Base | None
    prices: list[str]
    variants: list[Variant]


class PriceSet(Struct, frozen=True):
    """What became of a price: `new` is false where the books said the same already."""

    price: Price
    new: bool
    from_chosen: bool
    before: Matched | None
    after: Matched | None
