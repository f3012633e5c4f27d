"""A provider's raw usage object in a record's message: JSON as text, converted to units as the HTTP door does it."""

from __future__ import annotations

from typing import Any

import msgspec

from costd.domain.errors import Invalid
from costd.domain.provider_usage import Context, units_from_provider
from costd.domain.units import Quantity
from costd.v1 import usage_pb2
from costd.wire.json_numbers import exact_number

_FIELD = "provider_usage"
_object = msgspec.json.Decoder(dict[str, Any], float_hook=exact_number)


def units_and_context(request: usage_pb2.RecordRequest) -> tuple[tuple[tuple[str, Quantity], ...], Context]:
    """The units of `request.provider_usage`, sorted, and the price context it tells; raises Invalid."""
    if request.units:
        raise Invalid(_FIELD, "and units were both sent; send one of them")
    provider = request.dimensions.provider
    if not provider:
        raise Invalid("provider", "is required with provider_usage: it says how to read it")
    try:
        units, context = units_from_provider(provider, _decoded(request.provider_usage))
    except Invalid as refusal:
        # The domain calls the object `usage`: "usage.prompt_tokens" is "provider_usage.prompt_tokens" here.
        if refusal.field == "usage" or refusal.field.startswith("usage."):
            raise refusal.renamed(f"{_FIELD}{refusal.field.removeprefix('usage')}") from None
        raise
    return tuple(sorted(units.items())), context


def _decoded(text: str) -> dict[str, Any]:
    try:
        return _object.decode(text)
    except msgspec.ValidationError:
        raise Invalid(_FIELD, "must be a JSON object: the provider's usage object as it came") from None
    except (msgspec.DecodeError, ValueError):
        raise Invalid(_FIELD, "is not JSON") from None
    except RecursionError:
        raise Invalid(_FIELD, "is nested too deeply") from None
