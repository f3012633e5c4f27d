"""Numbers in JSON, read exactly wherever they are of a sensible length."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

#: Every sensible number is far shorter. Longer ones are kept as a float: exact arithmetic on a megabyte of digits
#: would stall everyone.
EXACT_DIGITS = 60


def exact_number(text: str) -> Decimal:
    """A JSON number with a fraction or an exponent, exactly as it was written."""
    if len(text) <= EXACT_DIGITS:
        try:
            return Decimal(text)
        except InvalidOperation:  # an exponent of twenty digits
            pass
    return Decimal(repr(float(text)))
