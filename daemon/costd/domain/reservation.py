"""Reservations: money set aside before a call in every window that it falls under, all or none; settled after it.

Mutable, unlike the rest of the domain, and one thread's at a time: this is what every preflight waits for, and a copy
of each value costs more than the check. Times are milliseconds of a clock that never goes back and counts suspend.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

#: The use of money that does not expire: where there is no hub.
NEVER_MS = 2**63 - 1

SPENT = "spent"
EXPIRED = "expired"
MARK = "mark"


class Till:
    """What one window has at this daemon: its bound, what is used of it and what is reserved, in nano-USD.

    Admits while used + reserved + estimate ≤ bound, and reserved + estimate ≤ mark (what is persisted as reserved).
    `used_nano` is what was recorded here in this window and is, or will be, forwarded in the present epoch; it may
    pass the bound. `ghost_nano` is what a former process may have reserved: opened with, and let go once their time
    to live has passed.
    """

    __slots__ = (
        "bound_nano",
        "ceiling_nano",
        "ghost_nano",
        "mark_nano",
        "reserved_nano",
        "usable_until_ms",
        "used_nano",
    )

    def __init__(self, bound_nano: int = 0, used_nano: int = 0, mark_nano: int = 0, ghost_nano: int = 0) -> None:
        self.bound_nano = bound_nano
        self.used_nano = used_nano
        self.mark_nano = mark_nano
        self.ghost_nano = ghost_nano
        self.reserved_nano = ghost_nano
        self.usable_until_ms = 0
        self._weigh()

    def bind(self, bound_nano: int, mark_nano: int, usable_until_ms: int) -> None:
        """Use a slice as it is persisted; `usable_until_ms` counts from when its grant was asked for, less a margin."""
        self.bound_nano = bound_nano
        self.mark_nano = mark_nano
        self.usable_until_ms = usable_until_ms
        self._weigh()

    def raise_mark(self, mark_nano: int) -> None:
        """Another mark is on disk, or is about to be where it is lower."""
        self.mark_nano = mark_nano
        self._weigh()

    def withdraw(self, most_nano: int = NEVER_MS) -> int:
        """Let go of money that is neither used nor reserved, at most so much; how much it is, to be given back."""
        amount = max(0, min(most_nano, self.bound_nano - self.used_nano - self.reserved_nano))
        self.bound_nano -= amount
        self._weigh()
        return amount

    def charge(self, cost_nano: int) -> None:
        """What was recorded, reserved or not; below zero for a correction that lowers it."""
        self.used_nano += cost_nano
        self._weigh()

    def reconcile(self, spent_nano: int, unforwarded_nano: int) -> None:
        """What is used, as the hub has it up to its watermark, and what was recorded beyond it."""
        self.used_nano = spent_nano + unforwarded_nano
        self._weigh()

    def cap_ghost(self, most_nano: int) -> None:
        """A former process cannot have had more reserved than this; what it reserved beyond has been settled since."""
        excess = self.ghost_nano - max(0, most_nano)
        if excess > 0:
            self.ghost_nano -= excess
            self.reserved_nano -= excess

    def let_ghost_go(self) -> None:
        """The time to live of what a former process reserved has passed."""
        self.reserved_nano -= self.ghost_nano
        self.ghost_nano = 0

    def release(self, amount_nano: int) -> None:
        """What was reserved is so no longer."""
        self.reserved_nano -= amount_nano
        assert self.reserved_nano >= self.ghost_nano

    def refusal(self, amount_nano: int, now_ms: int) -> str | None:
        """Why this much cannot be reserved: SPENT, EXPIRED (ask the hub), MARK (persist a higher one, try again)."""
        if self.used_nano + self.reserved_nano + amount_nano > self.bound_nano:
            return SPENT
        if now_ms >= self.usable_until_ms:
            return EXPIRED
        return MARK if self.reserved_nano + amount_nano > self.mark_nano else None

    def _weigh(self) -> None:
        self.ceiling_nano = min(self.bound_nano - self.used_nano, self.mark_nano)


class Reservation(NamedTuple):
    """So much in each of these windows, until then; `said` is whatever its maker wants to remember with it."""

    amount_nano: int
    tills: Sequence[Till]
    expires_ms: int
    said: Any = None


class Shortage(NamedTuple):
    """The first window that has too little, and why: SPENT, EXPIRED or MARK."""

    till: Till
    reason: str


class Reservations:
    """All that is reserved, by id, for `ttl_ms` each; the oldest first."""

    def __init__(self, ttl_ms: int) -> None:
        self._ttl_ms = ttl_ms
        self._open: dict[Hashable, Reservation] = {}

    def __len__(self) -> int:
        return len(self._open)

    def get(self, name: Hashable) -> Reservation | None:
        """A reservation that is neither settled, released nor expired."""
        return self._open.get(name)

    def reserve(
        self, name: Hashable, tills: Sequence[Till], amount_nano: int, now_ms: int, said: object = None
    ) -> Shortage | None:
        """Reserve in all windows and return None, or in none and return the first that has too little.

        The caller has looked `name` up: the same call asked again gets its first answer.
        """
        for till in tills:
            if till.reserved_nano + amount_nano > till.ceiling_nano or till.usable_until_ms <= now_ms:
                reason = till.refusal(amount_nano, now_ms)
                assert reason is not None
                return Shortage(till, reason)
        for till in tills:
            till.reserved_nano += amount_nano
        self._open[name] = Reservation(amount_nano, tills, now_ms + self._ttl_ms, said)
        return None

    def release(self, name: Hashable) -> bool:
        """Let a reservation go, unused; whether there was one."""
        reservation = self._open.pop(name, None)
        if reservation is None:
            return False
        for till in reservation.tills:
            till.release(reservation.amount_nano)
        return True

    def expire(self, now_ms: int, most: int = NEVER_MS) -> int:
        """Let go of those whose time to live has passed, the oldest first and at most so many; how many they were."""
        expired: list[Hashable] = []
        for name, reservation in self._open.items():
            if reservation.expires_ms > now_ms or len(expired) >= most:
                break
            expired.append(name)
        for name in expired:
            self.release(name)
        return len(expired)
