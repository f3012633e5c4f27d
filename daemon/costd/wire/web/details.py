"""Details: what a caller adds to an entry in its own words, in values that can be stored as JSON."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from costd.domain.errors import Invalid

#: Deeper than any bill's breakdown, shallower than what any reader of JSON minds.
_MAX_DEPTH = 16
_MAX_TEXT = 4096


def plain_details(prefix: str, **details: Any) -> dict[str, object]:
    """Those that are not None, their numbers as plain ones; raises Invalid naming `prefix`.name."""
    return {
        name: _plain(value, f"{prefix}.{name}".lstrip("."), 0) for name, value in details.items() if value is not None
    }


def _plain(value: Any, field: str, depth: int) -> object:
    if depth > _MAX_DEPTH:
        raise Invalid(field, f"must not be nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {name: _plain(item, field, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, field, depth + 1) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise Invalid(field, f"must hold texts of at most {_MAX_TEXT} characters")
    return value
