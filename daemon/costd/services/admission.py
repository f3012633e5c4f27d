"""Admission: may this call be made? Prices the worst case from memory, and reserves it in budgets.

A verdict is there at once in the usual case. Else something has to happen first (a window comes into memory, a mark
gets to the disk, the hub grants more), for which a thread waits and a coroutine is suspended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Invalid, Unavailable
from costd.domain.ids import quick_uuid7, uuid_text
from costd.domain.usage import Usage, check_text
from costd.services.live_window import Noted
from costd.services.metering import series_of
from costd.services.prices import Prices
from costd.services.tills import Ask, Pause, Tills, Verdict
from costd.store.requests import stored_request_id

if TYPE_CHECKING:
    from costd.domain.pricebook import Quote
    from costd.metrics import Metrics

#: How long a preflight waits for the disk where it must; past this it is told to ask again.
DISK_WAIT_S = 10.0
#: How often it may find that something else has to happen first: far more often than anything does.
_MAX_TRIES = 1_000
_RESTLESS = "budgets change faster than they can be looked up; ask again"


Aside = Callable[[], AbstractContextManager[None]]


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


class _Attempt(NamedTuple):
    """A preflight that was checked and priced; when it came, and until when it may wait for the hub (monotonic)."""

    ask: Ask
    request_id: str
    quote: Quote
    asked_s: float
    hub_until_s: float


class Admission:
    """Answers preflights."""

    def __init__(self, prices: Prices, tills: Tills, clock: Clock, metrics: Metrics, *, hub_wait_ms: int) -> None:
        self._prices = prices
        self._tills = tills
        self._clock = clock
        self._metrics = metrics
        self._hub_wait_s = hub_wait_ms / 1_000

    def preflight(self, caller: Caller, estimate: Usage, aside: Aside = nullcontext) -> Decision:
        """Price `estimate` (whose units are the most the call may use), decide and reserve; may block, within `aside`.

        Raises Invalid, Forbidden, Conflict, Overloaded or Unavailable; a refusal for want of budget is a Decision.
        """
        attempt = self._attempt(caller, estimate)
        for is_last in self._tries(attempt):
            verdict = self._tills.reserve(attempt.ask, is_last=is_last)
            if not isinstance(verdict, Pause):
                return self._decision(attempt, verdict)
            try:
                with aside():
                    verdict.waitable.wait(self._patience_s(attempt, verdict))
            except Unavailable:
                if not verdict.is_hubs:
                    raise
        raise Unavailable(_RESTLESS)

    async def decide(self, caller: Caller, estimate: Usage) -> Decision:
        """The same for a coroutine, which is suspended instead."""
        attempt = self._attempt(caller, estimate)
        for is_last in self._tries(attempt):
            verdict = self._tills.reserve(attempt.ask, is_last=is_last)
            if not isinstance(verdict, Pause):
                return self._decision(attempt, verdict)
            try:
                async with asyncio.timeout(self._patience_s(attempt, verdict)):
                    await verdict.waitable
            except TimeoutError:
                if not verdict.is_hubs:
                    raise Unavailable("the disk did not answer in time; ask again") from None
        raise Unavailable(_RESTLESS)

    def release(self, caller: Caller, request_id: str) -> bool:
        """Let go of what a preflight reserved; whether it had. Raises Invalid or Forbidden."""
        caller.require("ingest")
        if not request_id:
            raise Invalid("request_id", "is required: the id of the preflight")
        return self._tills.release((caller.org_id, stored_request_id(request_id)))

    def _attempt(self, caller: Caller, estimate: Usage) -> _Attempt:
        caller.require("ingest")
        if not estimate.model:
            raise Invalid("model", "is required: the model as the provider names it")
        check_text(estimate)
        asked_s = self._clock.monotonic_s()
        now_ms = self._clock.now_ms()
        book = self._prices.book
        units = book.units.canonical(dict(estimate.units), "estimated_units")
        book.units.check(units, "estimated_units")
        quote = book.price(caller.org_id, estimate.provider, estimate.model, units, now_ms, estimate.context)
        series = series_of(caller, estimate, quote.provider)
        request_id = estimate.request_id or uuid_text(quick_uuid7(now_ms))
        amount_nano = quote.cost_nano
        if amount_nano == 0 and not any(units.values()):
            amount_nano = (
                1  # of a call that does not say what it may use no more is known than that there must be money
            )
        name = (caller.org_id, stored_request_id(request_id))
        ask = Ask(name, series, estimate, amount_nano, now_ms)
        return _Attempt(ask, request_id, quote, asked_s, asked_s + self._hub_wait_s)

    def _tries(self, attempt: _Attempt) -> Iterator[bool]:
        """Whether the next try is the last that the hub is asked before, as often as it may take."""
        for _ in range(_MAX_TRIES):
            yield self._clock.monotonic_s() >= attempt.hub_until_s

    def _patience_s(self, attempt: _Attempt, pause: Pause) -> float:
        return max(0.0, attempt.hub_until_s - self._clock.monotonic_s()) if pause.is_hubs else DISK_WAIT_S

    def _decision(self, attempt: _Attempt, verdict: Verdict) -> Decision:
        if verdict.held is not None and verdict.held.answer is not None:
            first: Decision = verdict.held.answer
            return first
        self._metrics.budgets.preflight(verdict.deny_reason, self._clock.monotonic_s() - attempt.asked_s)
        decision = Decision(
            not verdict.deny_reason,
            attempt.request_id,
            attempt.quote.cost_nano,
            verdict.deny_reason or None,
            attempt.quote.warnings,
            verdict.noted,
        )
        if verdict.held is not None:
            verdict.held.answer = decision
        return decision
