"""Which series fall under a budget, and which value of its `each` they have, in the words of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from costd.domain.budget import TAG, Budget
from costd.domain.series import TAG_SEPARATOR
from costd.store.attribution import column_of
from costd.store.sums import Wanted

_ORG = "org"
#: Dimensions of budgets that series have under another name.
_COLUMNS = {"key": "key_id", TAG: "tags"}
#: Those that the catalog says where a record does not: what it says now need not be what it said when a record came.
ATTRIBUTED = frozenset(("team", "workspace"))


class BudgetScope(NamedTuple):
    """The series wanted, and the dimension ("" for none) that has the budget's values."""

    wanted: Wanted
    by: str
    is_tag: bool
    #: The one value there is where no dimension has it.
    value: str

    def where(self) -> tuple[str, list[object]]:
        """A condition on `series s`."""
        return self.wanted.where()

    def column(self) -> str:
        """The text that has the values, as an expression on `series s`."""
        return column_of(self.by) if self.by else "''"

    def values(self, text: str) -> Iterable[str]:
        """The values of `each` that a text of that column stands for, each once."""
        if not self.by:
            return (self.value,)
        return set(text.split(TAG_SEPARATOR)) if self.is_tag and text else (text,)


def scope_of(connection: sqlite3.Connection, budget: Budget) -> BudgetScope | None:
    """The scope of a budget; None where nothing can fall under it: it names another organization than its own."""
    (name,) = connection.execute("SELECT name FROM org WHERE id = ?", (budget.org_id,)).fetchone()
    scope = dict(budget.scope)
    if scope.pop(_ORG, name) != name:
        return None
    tags = [scope.pop(TAG)] if TAG in scope else []
    wanted = Wanted(budget.org_id, {_COLUMNS.get(each, each): (value,) for each, value in scope.items()}, tags)
    by = "" if budget.each == _ORG else _COLUMNS.get(budget.each, budget.each)
    return BudgetScope(wanted, by, budget.each == TAG, name if budget.each == _ORG else "")


def is_attributed(budget: Budget) -> bool:
    """Whether the catalog has a say in what falls under the budget."""
    return not ATTRIBUTED.isdisjoint((budget.each, *dict(budget.scope)))
