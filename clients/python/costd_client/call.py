"""One call to a provider: what it is for, how long it took, what it used, and the one record that becomes of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import Self

from costd_client import decision, messages
from costd_client.complaints import Complaints
from costd_client.core import Core
from costd_client.decision import Decision
from costd_client.messages import Amount
from costd_client.provider_usage import ERROR, INCOMPLETE, PENDING, ProviderUsage, find_usage
from costd_client.v1 import record_pb2, usage_pb2

_log = logging.getLogger("costd_client")


def usage_in(response: object, complaints: Complaints) -> ProviderUsage | None:
    """The usage in what a provider answered; None, and a warning, where there is none."""
    found = response if isinstance(response, ProviderUsage) else find_usage(response)
    if found is None or not (found.usage or found.tool_calls):
        complaints.say("no usage", "there is no usage in a %s", type(response).__name__)
        return None
    return found


class BaseCall:
    """What calls of both trackers share. Everything here may be used from any thread, and never blocks."""

    def __init__(
        self,
        core: Core,
        who: record_pb2.Dimensions,
        request_id: str,
        question: usage_pb2.PreflightRequest | None,
        price_context: Mapping[str, str] | None,
    ) -> None:
        """`question` is the preflight to make, None where none is to be made. Made by a tracker's call()."""
        #: The id of the record; the preflight and every retry carry it.
        self.request_id = request_id
        self._core = core
        self._who = who
        self._question = question
        self._price_context = price_context
        self._decision = decision.ALLOWED_UNASKED
        self._units: dict[str, Amount] = {}
        self._found: ProviderUsage | None = None
        self._status: str | None = None
        self._began_ms: int | None = None
        self._began_s = 0.0
        # Taken by whoever finishes first, never given back, never waited for.
        self._finished = threading.Lock()

    @property
    def estimated_cost(self) -> Decimal | None:
        """The preflight's estimate in USD; None before it, where no price matches the model, or nobody answered."""
        return self._decision.estimated_cost

    @property
    def decision(self) -> Decision:
        """What came of the preflight."""
        return self._decision

    def units(self, **counts: Amount) -> None:
        """Say how much of each unit was used; a unit said again replaces what was said before.

        Beside usage() these are further units, which the provider's object does not count. Raises TypeError for what
        is no number.
        """
        messages.quantities(counts, "units")
        self._units.update(counts)

    def usage(self, response: object) -> None:
        """Say what was used by what the provider answered.

        That is an SDK's response, a dict, a usage object or a ProviderUsage; said again, it replaces what was said
        before. Where there is no usage in it, a warning is logged. Raises ValueError where neither the call nor the
        response names the provider: it says how to read the object.
        """
        found = usage_in(response, self._core.complaints)
        if found is not None:
            messages.check_provider(self._who, found)
            self._found = found

    def price_context(self, context: Mapping[str, str] | None) -> None:
        """Say what selects the price variant, instead of what the preflight was told.

        What was served may differ from what was asked for. Raises TypeError for what is no text.
        """
        messages.context(context)
        self._price_context = context

    def status(self, word: str) -> None:
        """Say how the call ended: "success", "error", "incomplete" or a word of one's own."""
        self._status = messages.text(word, "status")

    def finish(self, status: str | None = None, error: BaseException | None = None) -> None:
        """The call is over: record it, with the time since begin().

        Only the first finish counts. Never blocks and never raises, whatever thread or destructor it is called from.
        `status` wins over status(), which wins over "error" where there is an `error`, which wins over what the
        provider's answer said, which wins over "success".
        """
        if not self._finished.acquire(blocking=False):
            return
        try:
            self._core.outbox.put(self._record(status or self._status or self._status_of(error)))
        except Exception:
            _log.exception("a call of %s could not be recorded", self._who.model)

    def release(self) -> None:
        """The call will not be made: let go of what its preflight reserved, and record nothing.

        What finish() is for calls that were made; only the first of both counts. Never blocks and never raises. What
        is not released, because costd is away or the process ends, is freed when the reservation's time to live has
        passed.
        """
        if not self._finished.acquire(blocking=False):
            return
        try:
            if self._question is not None:
                self._core.release(self.request_id)
        except Exception:
            _log.exception("what a call of %s had reserved could not be released", self._who.model)

    def _status_of(self, error: BaseException | None) -> str | None:
        if error is not None:
            return ERROR
        said = self._found.status if self._found is not None else None
        return INCOMPLETE if said == PENDING else said

    def _record(self, status: str | None) -> bytes:
        units, usage = messages.used(self._who, self._found, self._units)
        latency_ms = None
        if self._began_ms is not None:
            latency_ms = round((time.perf_counter() - self._began_s) * 1000)
        return messages.record(
            self._who,
            request_id=self.request_id,
            units=units,
            usage=usage,
            status=status,
            latency_ms=latency_ms,
            time_ms=self._began_ms or time.time_ns() // 1_000_000,
            price_context=self._price_context,
        )

    def _decided(self, made: Decision) -> None:
        """Start the clock, or raise BudgetExceeded; then there is nothing to record."""
        self._decision = made
        if not made.allow:
            self._finished.acquire(blocking=False)
            made.check(self.request_id, self._who.model)
        if self._finished.locked() and self._question is not None:
            # Let go of while another thread was asking: nobody will make the call.
            self._core.release(self.request_id)
        self._began_ms = time.time_ns() // 1_000_000
        self._began_s = time.perf_counter()


class Call(BaseCall):
    """A call of a Tracker: `with tracker.call(...) as call`, or begin() and, maybe elsewhere and later, finish()."""

    def begin(self) -> Self:
        """Ask whether the call may be made, and start the clock. Raises BudgetExceeded; then nothing is recorded."""
        try:
            made = decision.ALLOWED_UNASKED if self._question is None else self._core.ask(self._question)
        except BaseException:  # interrupted: nobody will make the call
            self.release()
            raise
        self._decided(made)
        return self

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(error=error)


class AsyncCall(BaseCall):
    """A call of an AsyncTracker: `async with tracker.call(...) as call`, or await begin(), and finish()."""

    async def begin(self) -> Self:
        """As Call.begin."""
        question = self._question
        try:
            made = decision.ALLOWED_UNASKED if question is None else await self._core.ask_from_loop(question)
        except BaseException:  # cancelled: nobody will make the call
            self.release()
            raise
        self._decided(made)
        return self

    async def __aenter__(self) -> Self:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(error=error)
