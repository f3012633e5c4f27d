"""Batches on their way: what an order of one may use at most, and what its object tells of its state.

Formats: https://docs.anthropic.com/en/api/creating-message-batches (the requests are in the order; the object has
`processing_status` and `results_url`) and https://platform.openai.com/docs/api-reference/batch (the requests are in a
file that was uploaded before; the object has `status` and `output_file_id`).
"""

from __future__ import annotations

import re
from typing import Any

from costd.domain.proxied.estimate import Estimate, estimate
from costd.domain.proxied.said import Said, word
from costd.domain.proxied.tally import Dialect, Tally, has_error
from costd.domain.units import MAX_QUANTITY

#: Models of one batch that are told apart; what there is of others counts as the last of these.
MAX_MODELS = 8
_PENDING = frozenset({"validating", "in_progress", "finalizing", "cancelling", "canceling"})
#: Where Anthropic says that results are: an address of its own, which SDKs call as it is.
_RESULTS_URL = re.compile(rb'("results_url"\s*:\s*")[^"\\]*(/messages/batches/[A-Za-z0-9_-]+/results")')


class Ordered:
    """What requests of a batch may use at most, by model, as estimate does it."""

    def __init__(self, unlimited_output_tokens: int) -> None:
        self._unlimited = unlimited_output_tokens
        self._last = ""
        self.units: dict[str, Estimate] = {}

    def add(self, endpoint: str, request: dict[str, Any]) -> None:
        """Add a request of an endpoint (routes.Route.endpoint); one that names no model is of the last."""
        model = word(request, "model")
        if model in self.units or (model and len(self.units) < MAX_MODELS):
            self._last = model
        elif not self._last:
            return
        units = self.units.setdefault(self._last, {})
        for unit, count in estimate(endpoint, request, self._unlimited).items():
            units[unit] = min(units.get(unit, 0) + count, MAX_QUANTITY)


def ordered(body: dict[str, Any], unlimited_output_tokens: int) -> dict[str, Estimate]:
    """Units by model that the requests in an order of messages may use at most; {} where none are in it."""
    found = Ordered(unlimited_output_tokens)
    requests = body.get("requests")
    for request in requests if isinstance(requests, list) else ():
        params = request.get("params") if isinstance(request, dict) else None
        if isinstance(params, dict):
            found.add("messages", params)
    return found.units


def with_results_at(base: bytes, document: bytes) -> bytes:
    """The same batch objects with their results below `base`, by the way that the object itself was fetched."""
    return _RESULTS_URL.sub(lambda found: found[1] + base + found[2], document)


def _document(tally: Tally, said: Said) -> None:
    state = word(said, "processing_status") or word(said, "status")
    tally.response_id = word(said, "id")
    tally.is_pending = state in _PENDING
    # Anthropic's results are at the batch, OpenAI's in a file, if any request came to an end.
    tally.result_id = tally.response_id if "processing_status" in said else word(said, "output_file_id")
    tally.is_counted = True
    if has_error(said):
        tally.fail()


BATCH = Dialect(_document, lambda _tally, _name, _said: None)
