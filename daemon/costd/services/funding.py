"""Where the money of a daemon's windows comes from: its own authority over them, or slices that a hub grants."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from costd.domain.books import Account, Books, Holder, Unbalanced, open_books
from costd.domain.reservation import NEVER_MS
from costd.services.live_window import LiveWindow
from costd.store.charges import WindowCharge
from costd.store.lease_rows import OWN

BUDGET_EXCEEDED = "budget_exceeded"
LEASE_UNAVAILABLE = "lease_unavailable"
MODEL_BLOCKED = "model_blocked"


_log = logging.getLogger(__name__)


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

    def explained(self, live: LiveWindow) -> str:
        """What stands behind LEASE_UNAVAILABLE at present, for people: a clause without a full stop."""

    def may_drop(self, live: LiveWindow) -> bool:
        """Whether a window that has ended, and of which nothing is reserved, may go from memory."""

    def dropped(self, live: LiveWindow) -> None:
        """It goes from memory: its budget is no more, or has another revision."""


class Authority:
    """A daemon that decides itself: its callers have whatever no source has."""

    #: Until when its own callers may use that, on the clock of reservations.
    usable_until_ms = NEVER_MS

    def opened(self, live: LiveWindow) -> None:
        """Bind the till to what is left; no more than that can have been reserved by a former process."""
        row = live.row
        accounts = {Holder(*at): Account(*account) for at, account in row.accounts.items() if at[0] != OWN}
        # More than there ever was may be out where the books were restored.
        out_nano = sum(account.bound_nano for account in accounts.values()) - row.credited_nano
        live.books = open_books(
            live.budget.amount_nano,
            accounts,
            ceiling_nano=max(row.ceiling_nano, out_nano),
            own_settled_nano=row.settled_nano,
            credited_nano=row.credited_nano,
        )
        self._bind(live)
        # The amount may have been lowered since a former process reserved.
        lowered_nano = live.books.ceiling_nano - live.books.limit_nano
        live.till.cap_ghost(live.till.bound_nano - live.till.used_nano + lowered_nano)

    def recorded(self, live: LiveWindow, charge: WindowCharge, seq: int) -> None:
        """What its own records cost, and what sources' did, are in the row as a whole."""
        row, reserved_nano, holder = live.row, live.till.reserved_nano, charge.holder
        if holder is None:
            self._move(live, lambda books: books.take_over_own(row.settled_nano, row.credited_nano, reserved_nano))
        else:
            account = Account(0, 0, charge.settled_nano)
            self._move(live, lambda books: books.take_over(Holder(*holder), account, reserved_nano))

    def changed(self, live: LiveWindow) -> None:
        """Another amount takes effect at once."""
        limit_nano, reserved_nano = live.budget.amount_nano, live.till.reserved_nano
        self._move(live, lambda books: books.change_limit(limit_nano, reserved_nano))

    def shortage(self, lives: Sequence[LiveWindow], amount_nano: int) -> Waitable | None:
        """Nobody has more."""
        return None

    def reason(self, live: LiveWindow) -> str:
        """The money is spent, reserved or with sources."""
        return BUDGET_EXCEEDED

    def explained(self, live: LiveWindow) -> str:
        """It never is."""
        return ""

    def may_drop(self, live: LiveWindow) -> bool:
        """The rows know everything."""
        return True

    def dropped(self, live: LiveWindow) -> None:
        """The rows know everything."""

    def _move(self, live: LiveWindow, transition: Callable[[Books], Books]) -> None:
        """Let the books move on. Where they would not balance, nothing more of the window is given until a restart."""
        try:
            live.books = transition(live.books)
        except Unbalanced as error:
            live.is_sound = False
            _log.exception(
                "the books of a budget's window do not balance (%s); it denies until costd is started again",
                error,
                extra={"budget": live.budget.name},
            )
        self._bind(live)

    def _bind(self, live: LiveWindow) -> None:
        till, books = live.till, live.books
        till.used_nano = books.own_settled_nano
        if live.is_sound:
            till.bind(books.own_bound_nano, till.mark_nano, self.usable_until_ms)
        else:
            till.bind(till.used_nano, till.mark_nano, 0)
