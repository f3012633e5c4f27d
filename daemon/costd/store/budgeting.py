"""What the writer asks of budgets: what a commit charges goes into its transaction, and into memory once it is durable.

The order within a commit, all of it in the writer's thread:

    records and changes     are applied; each notes what it charges, whom it settles and what it says of the catalog
    Commit.at_end           what has to see all of that (a new budget's history) runs
    Budgeting.charge        finds the windows and adds to their rows, in the same transaction
    Commit.seal, COMMIT
    Budgeting.charged       moves what is in memory, before any ticket is woken and before any Change.after is called

A commit that failed changes nothing in memory: what was reserved for its records stays reserved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from costd.store.commit import Commit


class Budgeting(Protocol):
    """Budgets as the writer knows them."""

    @property
    def is_needed(self) -> bool:
        """Whether a commit that begins now has anything to collect: false where there are no budgets."""

    def charge(self, commit: Commit) -> None:
        """Add what the commit charges to its windows, within its transaction."""

    def abandoned(self, commit: Commit) -> None:
        """The commit failed, and nothing of it has been: forget what was learned from it."""

    def charged(self, commit: Commit) -> None:
        """The commit is durable: charge and release in memory, together. Quick; must not raise."""
