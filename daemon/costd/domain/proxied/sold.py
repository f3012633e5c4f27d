"""What an answer says was sold, and what is billed for it, also where it broke off before it could say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from costd.domain.errors import Invalid
from costd.domain.provider_usage import Context, tier_context, units_from_provider
from costd.domain.units import Quantity
from costd.domain.usage import ERROR, INCOMPLETE, SUCCESS

#: Of text that was delivered without its usage: the usual measure, for English.
CHARS_PER_TOKEN = 4


class Sold(NamedTuple):
    """What was read out of one answer.

    `model` is the one that answered ("": not said, the one asked for). `usage` is the provider's own object, for
    units_from_provider, with the tier and the tools that it says elsewhere put in; None where the answer told nothing.
    `is_begun`: some of it arrived. `is_complete`: nothing is missing. `is_error`: the provider said that it failed.
    `is_pending`: accepted, worked on later; what it uses is told by its result. `delivered_chars` is the text that was
    delivered, `response_id` the provider's id of the answer. `once_id` is set where the same use may be told again (the
    result of a job can be fetched many times): the record is made under this id, so that it counts once. `result_id`
    is what the result of a batch is fetched by, once it is known.
    """

    model: str = ""
    usage: Mapping[str, Any] | None = None
    tier: str = ""
    is_begun: bool = False
    is_complete: bool = False
    is_error: bool = False
    is_pending: bool = False
    delivered_chars: int = 0
    response_id: str = ""
    once_id: str = ""
    result_id: str = ""

    @property
    def status(self) -> str:
        """The status word of the record."""
        return ERROR if self.is_error else SUCCESS if self.is_complete else INCOMPLETE


class Bill(NamedTuple):
    """Units and price context for the record; `is_estimate` where the provider did not say all of it."""

    units: dict[str, Quantity]
    context: Context
    is_estimate: bool


def bill(sold: Sold, provider: str, input_tokens: Callable[[], int]) -> Bill:
    """What is recorded of an answer.

    `input_tokens` tells what the request was likely to hold (estimate.likely_input_tokens; 0 where input costs nothing
    or cannot be known), and is asked only where an answer broke off before it said so. Text that was delivered without
    its count is a token for every CHARS_PER_TOKEN characters. An answer that failed, or ended without a word about its
    use, with no text delivered has no units.
    """
    try:
        units, context = units_from_provider(provider, sold.usage) if sold.usage else ({}, tier_context(sold.tier))
    except Invalid:
        # A provider's mistake in its own counts is met as if there were none.
        units, context = {}, tier_context(sold.tier)
    is_told = bool(units) and sold.is_complete
    is_cut = sold.is_begun and not (sold.is_complete or sold.is_error)
    if is_told or sold.is_pending or not (is_cut or sold.delivered_chars):
        return Bill(units, context, is_estimate=False)
    likely = 0 if "input_tokens" in units else input_tokens()
    if likely:
        units["input_tokens"] = likely
    if sold.delivered_chars:
        units["output_tokens"] = max(units.get("output_tokens", 0), -(-sold.delivered_chars // CHARS_PER_TOKEN))
    return Bill(units, context, is_estimate=True)
