"""One call to a provider: what it is for, how long it took, what it used, and the one record that becomes of it.

The interface that the wrappers build on; see Tracker.start_call.
"""

from __future__ import annotations

from decimal import Decimal


class BaseCall:
    """What calls of both trackers share. Everything here may be used from any thread, and never blocks."""

    #: The id of the record; the preflight and every retry carry it.
    request_id: str
    #: The preflight's estimate in USD; None before it, where no price matches the model, or nobody answered.
    estimated_cost: Decimal | None

    def units(self, **counts: int | Decimal | float) -> None:
        """Say how much of each unit was used; a unit said again replaces what was said before."""
        raise NotImplementedError

    def usage(self, response: object) -> None:
        """Say what was used by what the provider answered: an SDK's response, a dict, a usage object or a
        ProviderUsage. Said again, it replaces what was said before. Without any usage in it: a warning, once.
        """
        raise NotImplementedError

    def status(self, word: str) -> None:
        """Say how the call ended: "success", "error", "incomplete" or a word of one's own."""
        raise NotImplementedError

    def finish(self, status: str | None = None, error: BaseException | None = None) -> None:
        """The call is over: record it, with the time since begin().

        Only the first finish counts. Never blocks and never raises, whatever thread or destructor it is called from.
        `status` wins over status(), which wins over "error" where there is an `error`, which wins over what the
        provider's answer said, which wins over "success".
        """
        raise NotImplementedError


class Call(BaseCall):
    """A call of a Tracker: `with tracker.call(...) as call`, or begin() and, maybe elsewhere and later, finish()."""

    def begin(self) -> Call:
        """Ask whether the call may be made, and start the clock. Raises BudgetExceeded; then nothing is recorded."""
        raise NotImplementedError


class AsyncCall(BaseCall):
    """A call of an AsyncTracker: `async with tracker.call(...) as call`, or await begin(), and finish()."""

    async def begin(self) -> AsyncCall:
        """As Call.begin."""
        raise NotImplementedError
