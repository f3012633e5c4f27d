"""Money as integers of nano-USD (1e-9 USD): parsing, exact text, and the one rounding there is."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from costd.domain.errors import Invalid

NANO_PER_USD = 1_000_000_000
_NANO_PER_CENT = NANO_PER_USD // 100

#: One record may cost at most this much; one month entry or budget at most MAX_ENTRY_NANO. A slip of the
#: keyboard beyond them is far likelier than such a bill.
MAX_RECORD_NANO = 1_000_000 * NANO_PER_USD
MAX_ENTRY_NANO = 1_000_000_000 * NANO_PER_USD
#: Where the sums of budgets' windows stop growing: below 2^63, and beyond every limit by far.
MOST_NANO = 9_000_000_000_000_000_000


def round_half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to numerator / denominator, ties to even; denominator > 0."""
    quotient, remainder = divmod(numerator, denominator)
    twice = remainder * 2
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def parse_usd(amount: Decimal | float, field: str, *, limit_nano: int = MAX_RECORD_NANO) -> int:
    """An amount in USD as nano-USD, half-even; `field` is named when it is negative, not finite or over the limit.

    A float stands for the shortest decimal that reads back as it, which is what its sender wrote.
    """
    try:
        exact = amount if isinstance(amount, Decimal) else Decimal(repr(amount))
    except InvalidOperation:
        raise Invalid(field, "must be a finite number of USD") from None
    if not exact.is_finite():
        raise Invalid(field, "must be a finite number of USD")
    if exact < 0:
        raise Invalid(field, "must not be negative")
    # Compared before scaling: a hostile exponent (1e999999) must cost nothing.
    if exact > limit_nano // NANO_PER_USD:
        raise Invalid(field, f"must be at most {limit_nano // NANO_PER_USD} USD")
    if exact == 0 or exact.adjusted() < -11:
        return 0
    numerator, denominator = exact.as_integer_ratio()
    return round_half_even(numerator * NANO_PER_USD, denominator)


def usd_text(nano: int) -> str:
    """Exact USD with no more digits than needed: 2140000 → "0.00214", 5000000000 → "5"."""
    sign = "-" if nano < 0 else ""
    whole, fraction = divmod(abs(nano), NANO_PER_USD)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:09d}".rstrip("0")


def cents_text(nano: int) -> str:
    """Exact US cents with no more digits than needed: 2140000 → "0.214"."""
    sign = "-" if nano < 0 else ""
    whole, fraction = divmod(abs(nano), _NANO_PER_CENT)
    return f"{sign}{whole}.{fraction:07d}".rstrip("0").rstrip(".")
