"""Fields: the types that structs of several surfaces share, and reading the values those leave open."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

from costd.domain.errors import Invalid
from costd.domain.money import MAX_RECORD_NANO, parse_usd
from costd.domain.units import Quantity
from costd.domain.usage import MAX_TAGS, MAX_TEXT, check_string

#: Above every bound there is; a hostile exponent (1e999999) is never written out as an integer.
_MAX_EXPONENT = 30

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
#: Text that must say something.
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Tags = Annotated[list[Text], Meta(max_length=MAX_TAGS, description="Tags; none with a comma.")]

# Numbers are decoded exactly, as int or Decimal, which msgspec does only for fields that it does not type: the schema
# says what they must be, and the functions below hold them to it.
_NUMBER_OR_NULL: dict[str, Any] = {"type": ["number", "null"], "minimum": 0}
UsdIn = Annotated[Any, Meta(description="USD, zero or more.", extra_json_schema=_NUMBER_OR_NULL)]
CountIn = Annotated[Any, Meta(description="A whole number.", extra_json_schema=_NUMBER_OR_NULL)]
TimeIn = Annotated[
    Any,
    Meta(
        description="RFC 3339 (UTC where it names no offset) or Unix seconds; now when absent.",
        extra_json_schema={"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"}]},
    ),
]
UnitsIn = Annotated[
    dict[str, Any],
    Meta(
        description="How much of each unit: input_tokens, output_tokens, cache_read_tokens, chars, …; null is none.",
        extra_json_schema={"additionalProperties": _NUMBER_OR_NULL},
    ),
]


def units_of(units: Mapping[str, Any], field: str) -> tuple[tuple[str, Quantity], ...]:
    """Units sorted by name, without those that are null; raises Invalid naming `field`.unit."""
    return tuple(sorted((name, amount_of(value, field, name)) for name, value in units.items() if value is not None))


def amount_of(value: Any, field: str, unit: str) -> Quantity:
    """One quantity: a JSON number, whole wherever it can be."""
    if type(value) is int:
        return value  # bounds are checked with the others, in the service
    if not isinstance(value, Decimal) or not value.is_finite():
        raise Invalid(f"{field}.{unit[:MAX_TEXT]}", "must be a number")
    return int(value) if _is_whole(value) else value


def usd_of(value: Any, field: str, *, limit_nano: int = MAX_RECORD_NANO) -> int | None:
    """An amount of USD in nano-USD; None for null."""
    if value is None:
        return None
    if not is_number(value):
        raise Invalid(field, "must be a number of USD")
    return parse_usd(value, field, limit_nano=limit_nano)


def whole_of(value: Any, field: str) -> int | None:
    """A whole number, however it was written (1, 1.0, 1e0); None for null."""
    if value is None:
        return None
    if type(value) is int:
        return value
    if not isinstance(value, Decimal) or not value.is_finite() or not _is_whole(value):
        raise Invalid(field, "must be a whole number")
    return int(value)


def rounded_of(value: Any, field: str) -> int | None:
    """A number rounded to a whole one; None for null."""
    if value is None:
        return None
    if not is_number(value) or (isinstance(value, Decimal) and value.adjusted() > _MAX_EXPONENT):
        raise Invalid(field, "must be a number")
    rounded: int = round(value)
    return rounded


def _is_whole(value: Decimal) -> bool:
    return value.adjusted() <= _MAX_EXPONENT and value == value.to_integral_value()


def is_number(value: Any) -> bool:
    """Whether a decoded value is a finite number; a bool is none."""
    return type(value) is int or (isinstance(value, Decimal) and value.is_finite())


def check_currency(currency: str | None, field: str) -> None:
    """Amounts are in USD: raise Invalid for any other currency."""
    if currency is not None and currency.strip().upper() != "USD":
        raise Invalid(field, "must be USD; amounts in other currencies are not accepted")


def record_id(said: str | None, idempotency_key: str, field: str) -> str:
    """The record's id: the body's, else the header's `Idempotency-Key`; "" where there is neither."""
    if idempotency_key:
        check_string(idempotency_key, "Idempotency-Key")
        if said and said != idempotency_key:
            raise Invalid("Idempotency-Key", f"differs from {field}; send one id, or the same in both")
        return idempotency_key
    return said or ""
