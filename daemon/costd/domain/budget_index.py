"""Which budgets a record falls under, found by its dimensions instead of by looking at every budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from costd.domain.budget import DIMENSIONS, TAG, Budget


class Dimensions(NamedTuple):
    """A record's dimensions as budgets see them: attributed as the catalog says, "" where there is none.

    In the order of budget.DIMENSIONS. Hashable, so that what was found for it can be kept.
    """

    org: str = ""
    workspace: str = ""
    team: str = ""
    project: str = ""
    user: str = ""
    key: str = ""
    source_app: str = ""
    provider: str = ""
    model: str = ""
    prompt_key: str = ""
    tags: tuple[str, ...] = ()


class Match(NamedTuple):
    """A budget that a record falls under, and the value of its `each` ("" where it is for all)."""

    budget: Budget
    value: str

    @property
    def key(self) -> tuple[str, int, str]:
        """What the windows of this budget, revision and value are kept under."""
        return self.budget.id, self.budget.revision, self.value


_Shape = tuple[int, ...]


class BudgetIndex:
    """Budgets by organization, by which dimensions their scopes name, and by the values of these.

    A look-up costs one dictionary access for each combination of dimensions that some budget of the organization
    uses, however many budgets share it. Immutable: a change of budgets is another index.
    """

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._by_org: dict[int, dict[_Shape, dict[tuple[str, ...], list[Budget]]]] = {}
        self._budgets = tuple(sorted(budgets, key=lambda budget: budget.id))
        for budget in self._budgets:
            shape = tuple(DIMENSIONS.index(dimension) for dimension, _ in budget.scope)
            values = tuple(value for _, value in budget.scope)
            shapes = self._by_org.setdefault(budget.org_id, {})
            shapes.setdefault(shape, {}).setdefault(values, []).append(budget)

    def __len__(self) -> int:
        """How many budgets there are."""
        return len(self._budgets)

    def __iter__(self) -> Iterator[Budget]:
        """All budgets, in the order of their ids."""
        return iter(self._budgets)

    def matching(self, org_id: int, record: Dimensions) -> tuple[Match, ...]:
        """All budgets that a record of this organization falls under, once for each of its values of `each`.

        In the order of budget ids: whoever reserves several windows meets them in one order. A record that has no
        value where a budget is for each one falls under that of "": to leave it out is no way around a budget.
        """
        found = [
            Match(budget, value)
            for shape, by_values in self._by_org.get(org_id, {}).items()
            for values in _values(shape, record)
            for budget in by_values.get(values, ())
            for value in _each(budget, record)
        ]
        found.sort(key=lambda match: match.key)
        return tuple(found)


def _values(shape: _Shape, record: Dimensions) -> Iterator[tuple[str, ...]]:
    """What a record has for the dimensions of a shape; a record with several tags has as many answers."""
    texts: tuple[str, ...] = record[:10]  # all but the tags, of which a record may have several
    if shape and shape[-1] == len(texts):
        own = tuple(texts[place] for place in shape[:-1])
        yield from ((*own, tag) for tag in set(record.tags))
    else:
        yield tuple(texts[place] for place in shape)


def _each(budget: Budget, record: Dimensions) -> Iterable[str]:
    if not budget.each:
        return ("",)
    if budget.each == TAG:
        return set(record.tags) or ("",)
    value: str = getattr(record, budget.each)
    return (value,)
