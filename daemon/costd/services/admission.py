"""Admission: may this call be made? Prices the worst case from memory, and reserves it in budgets.

A verdict is there at once in the usual case. Else something has to happen first (a window comes into memory, a mark
gets to the disk, the hub grants more), for which a thread waits and a coroutine is suspended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Invalid, Unavailable
from costd.domain.ids import quick_uuid7, uuid_text
from costd.domain.usage import Usage, check_text
from costd.services.access import check_binding
from costd.services.ask import Ask, Pause, Verdict
from costd.services.live_window import Noted
from costd.services.metering import series_of
from costd.services.prices import Prices
from costd.services.tills import Tills
from costd.store.requests import stored_request_id

if TYPE_CHECKING:
    from costd.domain.pricebook import Quote
    from costd.metrics import Metrics

#: How long a preflight waits for the disk where it must; past this it is told to ask again.
DISK_WAIT_S = 10.0
#: How often it may find that something else has to happen first: far more often than anything does.
_MAX_TRIES = 1_000
_ALLOWED = Verdict("", None)
_RESTLESS = "budgets change faster than they can be looked up; ask again"


class Decision(NamedTuple):
    """Whether the call may be made; the estimate in nano-USD is None when no price matches the model.

    `budget` is the one that refused, or the tightest of those that allowed; None where none matches.
    """

    allow: bool
    request_id: str
    estimated_cost_nano: int | None
    deny_reason: str | None
    warnings: tuple[str, ...]
    budget: Noted | None = None


class _Priced(NamedTuple):
    """A preflight that was checked and priced, and when it came; `ask` is None where there are no budgets."""

    asked_s: float
    request_id: str
    quote: Quote
    ask: Ask | None


class Admission:
    """Answers preflights."""

    def __init__(self, prices: Prices, tills: Tills, clock: Clock, metrics: Metrics, *, hub_wait_ms: int) -> None:
        self._prices = prices
        self._tills = tills
        self._clock = clock
        self._metrics = metrics
        self._hub_wait_s = hub_wait_ms / 1_000

    def preflight(self, caller: Caller, estimate: Usage) -> Decision:
        """Price `estimate` (whose units are the most the call may use), decide and reserve; may block.

        Raises Invalid, Forbidden, Conflict, Overloaded or Unavailable; a refusal for want of budget is a Decision.
        """
        decided = self.ask(caller, estimate)
        return decided if isinstance(decided, Decision) else decided()

    def ask(self, caller: Caller, estimate: Usage) -> Decision | Callable[[], Decision]:
        """The same without waiting: where something has to happen first, what waits for it, in any thread."""
        priced = self._priced(caller, estimate)
        if priced.ask is None:
            return self._decision(priced, _ALLOWED)
        verdict = self._tills.reserve(priced.ask)
        if not isinstance(verdict, Pause):
            return self._decision(priced, verdict)
        return partial(self._wait, priced, priced.ask, verdict, self._clock.monotonic_s() + self._hub_wait_s)

    def _wait(self, priced: _Priced, ask: Ask, pause: Pause, hub_until_s: float) -> Decision:
        for _ in range(_MAX_TRIES):
            try:
                pause.waitable.wait(self._patience_s(pause, hub_until_s))
            except Unavailable:
                if not pause.is_hubs:
                    raise
            verdict = self._tills.reserve(ask, is_last=self._clock.monotonic_s() >= hub_until_s)
            if not isinstance(verdict, Pause):
                return self._decision(priced, verdict)
            pause = verdict
        raise Unavailable(_RESTLESS)

    async def decide(self, caller: Caller, estimate: Usage) -> Decision:
        """The same for a coroutine, which is suspended instead."""
        priced = self._priced(caller, estimate)
        if priced.ask is None:
            return self._decision(priced, _ALLOWED)
        verdict = self._tills.reserve(priced.ask)
        hub_until_s = 0.0
        for _ in range(_MAX_TRIES):
            if not isinstance(verdict, Pause):
                return self._decision(priced, verdict)
            hub_until_s = hub_until_s or self._clock.monotonic_s() + self._hub_wait_s
            try:
                async with asyncio.timeout(self._patience_s(verdict, hub_until_s)):
                    await verdict.waitable
            except TimeoutError:
                if not verdict.is_hubs:
                    raise Unavailable("the disk did not answer in time; ask again") from None
            verdict = self._tills.reserve(priced.ask, is_last=self._clock.monotonic_s() >= hub_until_s)
        raise Unavailable(_RESTLESS)

    def release(self, caller: Caller, request_id: str) -> bool:
        """Let go of what a preflight reserved; whether it had. Raises Invalid or Forbidden."""
        caller.require("ingest")
        if not request_id:
            raise Invalid("request_id", "is required: the id of the preflight")
        return self._tills.release((caller.org_id, stored_request_id(request_id)))

    def _priced(self, caller: Caller, estimate: Usage) -> _Priced:
        asked_s = self._clock.monotonic_s()
        caller.require("ingest")
        if not estimate.model:
            raise Invalid("model", "is required: the model as the provider names it")
        check_text(estimate)
        now_ms = self._clock.now_ms()
        book = self._prices.book
        units = book.units.canonical(dict(estimate.units), "estimated_units")
        book.units.check(units, "estimated_units")
        quote = book.price(caller.org_id, estimate.provider, estimate.model, units, now_ms, estimate.context)
        request_id = estimate.request_id
        if not self._tills.is_needed:
            check_binding(caller.source_app, estimate.source_app, "source_app", caller.name)
            check_binding(caller.team, estimate.team, "team", caller.name)
            check_binding(caller.project, estimate.project, "project", caller.name)
            return _Priced(asked_s, request_id or uuid_text(quick_uuid7(now_ms)), quote, None)
        series = series_of(caller, estimate, quote.provider)
        amount_nano = quote.cost_nano if estimate.cost_nano is None else estimate.cost_nano
        if amount_nano == 0 and (quote.unrated or not any(units.values())):
            amount_nano = 1  # what it may cost is not said, or not known: it is made as long as there is any money
        if request_id:
            stored = stored_request_id(request_id)
        else:
            number = quick_uuid7(now_ms)
            request_id, stored = uuid_text(number), number.to_bytes(16, "big")
        ask = Ask((caller.org_id, stored), series, estimate, amount_nano, quote.cost_nano, now_ms)
        return _Priced(asked_s, request_id, quote, ask)

    def _patience_s(self, pause: Pause, hub_until_s: float) -> float:
        return max(0.0, hub_until_s - self._clock.monotonic_s()) if pause.is_hubs else DISK_WAIT_S

    def _decision(self, priced: _Priced, verdict: Verdict) -> Decision:
        reason, quote = verdict.deny_reason, priced.quote
        if verdict.repeated is not None:
            return Decision(True, priced.request_id, verdict.repeated.cost_nano, None, quote.warnings, verdict.noted)
        self._metrics.budgets.preflight(reason, self._clock.monotonic_s() - priced.asked_s)
        warnings = (*quote.warnings, verdict.warning) if verdict.warning else quote.warnings
        return Decision(not reason, priced.request_id, quote.cost_nano, reason or None, warnings, verdict.noted)
