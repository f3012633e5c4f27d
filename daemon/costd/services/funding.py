"""Where the money of a daemon's windows comes from: its own authority over them, or slices that a hub grants."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

from costd.domain.lending import charge_nano
from costd.domain.reservation import NEVER_MS
from costd.services.live_window import LiveWindow
from costd.store.charges import WindowCharge

BUDGET_EXCEEDED = "budget_exceeded"
LEASE_UNAVAILABLE = "lease_unavailable"
MODEL_BLOCKED = "model_blocked"


class Waitable(Protocol):
    """What a caller that is short of money or of a mark may wait for; made in its thread or its coroutine."""

    def wait(self, timeout_s: float | None = None) -> Any:
        """Block until it is there; Unavailable on timeout."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Suspend until it is there."""


class Funding(Protocol):
    """Called with the lock of the tills held; none of these waits for anything."""

    def opened(self, live: LiveWindow) -> None:
        """A window has come into memory: bind its till."""

    def recorded(self, live: LiveWindow, charge: WindowCharge, seq: int) -> None:
        """It was charged by a commit whose last number is `seq`; its row says what it comes to."""

    def changed(self, live: LiveWindow) -> None:
        """Its budget has changed, but for the revision."""

    def shortage(self, lives: Sequence[LiveWindow], amount_nano: int) -> Waitable | None:
        """Some of these, which are to reserve together, have too little: what is to be waited for, if anything."""

    def reason(self, live: LiveWindow) -> str:
        """Why nothing more is to be had of a window: BUDGET_EXCEEDED or LEASE_UNAVAILABLE."""

    def may_drop(self, live: LiveWindow) -> bool:
        """Whether a window that has ended, and of which nothing is reserved, may go from memory."""


class Authority:
    """A daemon that decides itself: its callers have whatever no source has."""

    #: Until when its own callers may use that, on the clock of reservations.
    usable_until_ms = NEVER_MS

    def opened(self, live: LiveWindow) -> None:
        """Bind the till to what is left; no more than that can have been reserved by a former process."""
        self._bind(live)
        live.till.cap_ghost()

    def recorded(self, live: LiveWindow, charge: WindowCharge, seq: int) -> None:
        """What its own records cost, and what sources' did, are in the row as a whole."""
        self._bind(live)

    def changed(self, live: LiveWindow) -> None:
        """Another amount takes effect at once."""
        self._bind(live)

    def shortage(self, lives: Sequence[LiveWindow], amount_nano: int) -> Waitable | None:
        """Nobody has more."""
        return None

    def reason(self, live: LiveWindow) -> str:
        """The money is spent, reserved or with sources."""
        return BUDGET_EXCEEDED

    def may_drop(self, live: LiveWindow) -> bool:
        """The rows know everything."""
        return True

    def _bind(self, live: LiveWindow) -> None:
        row, till = live.row, live.till
        charged_nano = sum(charge_nano(*account) for account in row.accounts.values())
        till.used_nano = row.settled_nano
        bound_nano = live.budget.amount_nano + row.credited_nano - charged_nano
        till.bind(bound_nano, till.mark_nano, self.usable_until_ms)
