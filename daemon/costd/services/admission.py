"""Admission: may this call be made? Prices the worst case from memory; waits for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.ids import quick_uuid7, uuid_text
from costd.domain.usage import Usage, check_text
from costd.services.access import check_binding
from costd.services.prices import Prices

if TYPE_CHECKING:
    from costd.metrics import Metrics


class Decision(NamedTuple):
    """Whether the call may be made; the estimate in nano-USD is None when no price matches the model."""

    allow: bool
    request_id: str
    estimated_cost_nano: int | None
    deny_reason: str | None
    warnings: tuple[str, ...]


class Admission:
    """Answers preflights."""

    def __init__(self, prices: Prices, clock: Clock, metrics: Metrics) -> None:
        self._prices = prices
        self._clock = clock
        self._metrics = metrics

    def preflight(self, caller: Caller, estimate: Usage) -> Decision:
        """Price `estimate` (whose units are the most the call may use) and decide.

        Raises Invalid or Forbidden; a refusal for want of budget is a Decision.
        """
        caller.require("ingest")
        if not estimate.model:
            raise Invalid("model", "is required: the model as the provider names it")
        check_text(estimate)
        check_binding(caller.source_app, estimate.source_app, "source_app", caller.name)
        check_binding(caller.team, estimate.team, "team", caller.name)
        check_binding(caller.project, estimate.project, "project", caller.name)
        now_ms = self._clock.now_ms()
        book = self._prices.book
        units = book.units.canonical(dict(estimate.units), "estimated_units")
        book.units.check(units, "estimated_units")
        quote = book.price(caller.org_id, estimate.provider, estimate.model, units, now_ms, estimate.context)
        self._metrics.preflight("allow")
        return Decision(
            allow=True,
            request_id=estimate.request_id or uuid_text(quick_uuid7(now_ms)),
            estimated_cost_nano=quote.cost_nano,
            deny_reason=None,
            warnings=quote.warnings,
        )
