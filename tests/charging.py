"""Budgets at the door of the store's writer: the least that charges them, by the dimensions that series name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from costd.domain.budget import Budget
from costd.domain.budget_index import BudgetIndex, Dimensions
from costd.domain.series import TAG_SEPARATOR, Series
from costd.domain.window_key import WindowKey
from costd.store.charges import Place, write_charges
from costd.store.commit import QUARTER_MS, Change, Commit
from costd.store.writer import Writer


class Charging:
    """Charges budgets of one organization; remembers what commits came to, `held` by every (holder, window)."""

    def __init__(self, *budgets: Budget) -> None:
        self.budgets = list(budgets)
        self.held: dict[Any, tuple[int, int]] = {}
        self.named: list[tuple[int, bytes | str]] = []

    @property
    def is_needed(self) -> bool:
        """Whether there are any."""
        return bool(self.budgets)

    def charge(self, commit: Commit) -> None:
        """Find the windows and write."""
        index = BudgetIndex(self.budgets)

        def windows_of(series_id: int, quarter: int) -> Sequence[Place]:
            found = index.matching(1, dimensions_of(commit.series_of(series_id)))
            places = []
            for budget, value in found:
                window = budget.windows().at(quarter * QUARTER_MS)
                if window.end_ms > budget.since_ms:
                    key = WindowKey(budget.id, budget.revision, value, window.start_ms)
                    places.append(Place(key, window.end_ms, budget.amount_nano))
            return places

        commit.window_charges = write_charges(commit, windows_of)

    def abandoned(self, commit: Commit) -> None:
        """Nothing was learned."""

    def charged(self, commit: Commit) -> None:
        """Take over what was written."""
        for opened in commit.opened:
            self.held.update({(None, key): (settled, 0) for key, (_, settled) in opened.windows.items()})
        for each in commit.window_charges:
            self.held[each.holder, each.place.key] = (each.settled_nano, each.credited_nano)
        self.named += commit.named


def dimensions_of(series: Series) -> Dimensions:
    """What a series names itself."""
    tags = tuple(series.tags.split(TAG_SEPARATOR)) if series.tags else ()
    own = {name: getattr(series, name) for name in Dimensions._fields[1:] if name not in ("key", "tags")}
    return Dimensions(org="default", key=series.key_id, tags=tags, **own)


def keep(writer: Writer, *budgets: Budget, then: Callable[[Commit], None] = lambda commit: None) -> None:
    """Write budgets down, as far as windows need them; `then` is done in the same change."""

    def apply(commit: Commit) -> None:
        for budget in budgets:
            commit.connection.execute(
                "INSERT OR REPLACE INTO budget (id, org_id, name, scope, each, amount_nano, period, timezone, "
                "anchor_day, thresholds, hard, on_unpriced, on_hub_down, revision, since_ms, known_seq, created_ms, "
                "updated_ms, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '[]', 1, 'allow', 'deny', ?, ?, ?, 0, 0, '')",
                (
                    *(budget.id, budget.org_id, budget.name, json.dumps(budget.scope), budget.each),
                    *(budget.amount_nano, budget.period, budget.timezone, budget.anchor_day, budget.revision),
                    *(budget.since_ms, commit.next_seq - 1),
                ),
            )
        then(commit)

    writer.submit(Change(apply)).wait(20)
