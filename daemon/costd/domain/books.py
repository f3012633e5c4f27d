"""The books of one window at its authority: what every source was granted, gave back and has spent of one limit.

For each source and epoch there are three counters that only grow, so that every message may be repeated, come late or
in another order: taking the larger is always right. With

    bound     = granted - returned                what a source may have spent by the authority's word
    charge    = max(bound, settled)               what it takes of the limit
    held      = charge - settled

and what the authority has of its own (what was recorded at its own doors, what its own callers have reserved, what
corrections have credited to the window), it holds after every transition that

    settled   = Σ settled of sources + own settled - credited
    held      = Σ held of sources + reserved
    available = max(0, limit - settled - held)
    overshoot = max(0, settled + held - limit)
    limit     = available + held + settled - overshoot
    Σ bound  <= the highest limit there has been + credited

The authority's own callers are a source like any other, whose slice is at every moment just what no other source has.
Transitions take a value and return another, so that a caller can write first and believe after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Unbalanced(Exception):
    """Books that cannot be: money would be spent twice, or is missing."""


class Holder(NamedTuple):
    """A source in one of its epochs."""

    source: int
    epoch: bytes


class Account(NamedTuple):
    """The counters of a holder, in nano-USD; each only grows."""

    granted_nano: int = 0
    returned_nano: int = 0
    settled_nano: int = 0

    @property
    def bound_nano(self) -> int:
        """What the holder was granted and has not given back."""
        return self.granted_nano - self.returned_nano

    @property
    def charge_nano(self) -> int:
        """What the holder takes of the limit."""
        return max(self.bound_nano, self.settled_nano)

    @property
    def held_nano(self) -> int:
        """What is with the holder, unsettled."""
        return self.charge_nano - self.settled_nano

    def merged(self, other: Account) -> Account:
        """Both views of the same counters: the larger of each."""
        return Account(*map(max, self, other))


_NOTHING = Account()


class Books(NamedTuple):
    """The books of one window; all amounts in nano-USD.

    `ceiling_nano` is the highest limit so far, or more where sources have proved, after the books were restored, that
    more had been granted. `own_settled_nano` is what was recorded here, or before there was this budget.
    `credited_nano` is what corrections have lowered, whosever records they corrected: that is known of the window, but
    not always of a source. The sums are those over all accounts, kept so that no transition costs more the more sources
    there are. Transitions raise Unbalanced rather than return books that are not in balance.
    """

    limit_nano: int
    ceiling_nano: int
    accounts: Mapping[Holder, Account]
    own_settled_nano: int = 0
    credited_nano: int = 0
    charge_nano: int = 0
    bound_nano: int = 0
    spent_nano: int = 0

    @property
    def settled_nano(self) -> int:
        """What recorded calls cost, corrections counted."""
        return self.spent_nano + self.own_settled_nano - self.credited_nano

    @property
    def own_bound_nano(self) -> int:
        """What the authority's own callers may have spent and reserved in all: whatever no source has."""
        return self.limit_nano + self.credited_nano - self.charge_nano

    def held_nano(self, reserved_nano: int = 0) -> int:
        """What is with sources, unsettled, and with our own callers, who have reserved so much."""
        return self.charge_nano - self.spent_nano + reserved_nano

    def available_nano(self, reserved_nano: int = 0) -> int:
        """What may still be granted or reserved."""
        return max(0, self._left_nano(reserved_nano))

    def overshoot_nano(self, reserved_nano: int = 0) -> int:
        """By how much the limit is passed."""
        return max(0, -self._left_nano(reserved_nano))

    def account(self, holder: Holder) -> Account:
        """A holder's counters; zeros for one that is not known yet."""
        return self.accounts.get(holder, _NOTHING)

    def grant(self, holder: Holder, needed_nano: int, wanted_nano: int, reserved_nano: int = 0) -> Books:
        """Let `granted` grow to what is wanted, but not past what is needed by more than half of what is available.

        Both are cumulative: what the source says it was granted so far, and what it needs or wants on top. So a request
        that is repeated because its answer was lost grants nothing twice. Where what is needed does not fit into what
        is available, nothing is granted: a part of it helps nobody. What a source has spent beyond its bound is charged
        to it already, and a grant of that much takes nothing from what is available.
        """
        account = self.account(holder)
        paid_nano = account.returned_nano + account.charge_nano
        available_nano = self.available_nano(reserved_nano)
        # Where nothing is left, what it has overspent is not granted either: it would come to more than the limit.
        if not available_nano or needed_nano > paid_nano + available_nano:
            return self
        target_nano = min(max(needed_nano, wanted_nano), max(needed_nano, paid_nano + available_nano // 2))
        if target_nano <= account.granted_nano:
            return self
        return self._put(holder, account._replace(granted_nano=target_nano), reserved_nano)

    def accept_return(self, holder: Holder, returned_nano: int, reserved_nano: int = 0) -> Books:
        """Take back what a source has given back in all; the caller knows that all its records up to then are here.

        Money that came back sooner could have been spent by a record that is still on its way. More than was granted is
        not taken: no source says so once it has reported.
        """
        account = self.account(holder)
        if not account.returned_nano < returned_nano <= account.granted_nano:
            return self
        return self._put(holder, account._replace(returned_nano=returned_nano), reserved_nano)

    def take_over(self, holder: Holder, account: Account, reserved_nano: int = 0) -> Books:
        """Counters as they are on disk, or as another copy of the books has them: the larger of each counts."""
        return self._put(holder, account, reserved_nano)

    def take_over_own(self, settled_nano: int, credited_nano: int, reserved_nano: int = 0) -> Books:
        """What was recorded here and what was credited, as they are on disk."""
        own_nano, credited_nano = max(self.own_settled_nano, settled_nano), max(self.credited_nano, credited_nano)
        return self._replace(own_settled_nano=own_nano, credited_nano=credited_nano)._checked(reserved_nano)

    def change_limit(self, limit_nano: int, reserved_nano: int = 0) -> Books:
        """Another amount. A lower one takes nothing away from sources: what they hold shows as overshoot."""
        ceiling_nano = max(self.ceiling_nano, limit_nano)
        return self._replace(limit_nano=limit_nano, ceiling_nano=ceiling_nano)._checked(reserved_nano)

    def report(self, source: int, told: Mapping[bytes, tuple[int, int]], reserved_nano: int = 0) -> Books:
        """What a source knows it was granted and has returned, by epoch, after these books were restored.

        The caller knows that all records of the source up to its report are here: before, what it has spent is not
        known.
        """
        books = self
        for epoch, (granted_nano, returned_nano) in told.items():
            books = books._taken(Holder(source, epoch), Account(granted_nano, returned_nano))
        return books._heard(reserved_nano)

    def forget(self, source: int, reserved_nano: int = 0) -> Books:
        """A source is gone for good: what it has not settled is free again, by the operator's word."""
        books = self
        for holder, account in self.accounts.items():
            if holder.source == source:
                books = books._taken(holder, account._replace(returned_nano=account.granted_nano))
        return books._heard(reserved_nano)

    def _heard(self, reserved_nano: int) -> Books:
        # What has been granted has been granted: epochs that nobody can speak for stay as the backup has them, and
        # may count money twice.
        ceiling_nano = max(self.ceiling_nano, self.bound_nano - self.credited_nano)
        return self._replace(ceiling_nano=ceiling_nano)._checked(reserved_nano)

    def _put(self, holder: Holder, account: Account, reserved_nano: int) -> Books:
        return self._taken(holder, account)._checked(reserved_nano)

    def _taken(self, holder: Holder, account: Account) -> Books:
        old = self.account(holder)
        account = old.merged(account)
        if account == old:
            return self
        if account.returned_nano > account.granted_nano:
            raise Unbalanced("more came back than was granted")
        return self._replace(
            accounts={**self.accounts, holder: account},
            charge_nano=self.charge_nano + account.charge_nano - old.charge_nano,
            bound_nano=self.bound_nano + account.bound_nano - old.bound_nano,
            spent_nano=self.spent_nano + account.settled_nano - old.settled_nano,
        )

    def _left_nano(self, reserved_nano: int) -> int:
        return self.limit_nano - self.settled_nano - self.held_nano(reserved_nano)

    def _checked(self, reserved_nano: int) -> Books:
        parts_nano = self.available_nano(reserved_nano) + self.held_nano(reserved_nano) + self.settled_nano
        if self.limit_nano != parts_nano - self.overshoot_nano(reserved_nano):
            raise Unbalanced("the parts of the limit do not come to it")
        if self.bound_nano - self.credited_nano > self.ceiling_nano:
            raise Unbalanced("more is granted than there ever was")
        return self


def open_books(
    limit_nano: int,
    accounts: Mapping[Holder, Account] | None = None,
    *,
    ceiling_nano: int = 0,
    own_settled_nano: int = 0,
    credited_nano: int = 0,
) -> Books:
    """Books as they are stored, or new ones."""
    ceiling_nano = max(limit_nano, ceiling_nano)
    books = Books(limit_nano, ceiling_nano, {}, own_settled_nano, credited_nano)
    for holder, account in (accounts or {}).items():
        books = books._taken(holder, account)
    return books._checked(0)
