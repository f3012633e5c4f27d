"""Budgets as the ledger keeps them: those in force, those removed, and who changed what of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from costd.domain.budget import Budget
from costd.store.commit import Commit

#: Where a budget is from, "" where it was made here: a copy of the hub's.
HUB = "hub"

#: The `known_seq` of a budget that is not in force, and so not charged.
NOT_COUNTED = -1

CREATED = "created"
CHANGED = "changed"
REMOVED = "removed"

_BUDGET = (
    "id, org_id, name, scope, amount_nano, period, timezone, anchor_day, each, thresholds, hard, on_unpriced, "
    "on_hub_down, revision, since_ms"
)
_HELD = "created_ms, updated_ms, removed_ms, origin, known_seq"
_STORED = (
    f"SELECT {', '.join(f'b.{name.strip()}' for name in (*_BUDGET.split(','), *_HELD.split(',')))}, o.name "
    "FROM budget b JOIN org o ON o.id = b.org_id"
)
_WIDTH = 20
_PUT = (
    f"INSERT INTO budget ({_BUDGET}, {_HELD}) VALUES ({', '.join('?' * _WIDTH)}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name.strip()} = excluded.{name.strip()}" for name in (*_BUDGET.split(","), *_HELD.split(","))[1:])
)


@dataclass(frozen=True, slots=True)
class StoredBudget:
    """A budget with its organization's name. Times are UTC milliseconds, None where it did not happen.

    `known_seq` is the ledger's last number when its present revision came to be known here.
    """

    budget: Budget
    organization: str
    created_ms: int
    updated_ms: int
    removed_ms: int | None = None
    origin: str = ""
    known_seq: int = 0


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change of a budget: when (UTC milliseconds), the key that did it by id and name, and the budget after it."""

    at_ms: int
    actor: str
    actor_name: str
    action: str
    budget: Budget


def load_budgets(connection: sqlite3.Connection) -> list[StoredBudget]:
    """All that were not removed, by name."""
    rows = connection.execute(f"{_STORED} WHERE b.removed_ms IS NULL ORDER BY b.name, b.id")
    return [_stored(row) for row in rows]


def find_budget(connection: sqlite3.Connection, budget_id: str) -> StoredBudget | None:
    """The budget with this id, a removed one too."""
    row = connection.execute(f"{_STORED} WHERE b.id = ?", (budget_id,)).fetchone()
    return None if row is None else _stored(row)


def budget_named(connection: sqlite3.Connection, org_id: int, name: str, origin: str) -> StoredBudget | None:
    """The budget of this name that was not removed."""
    row = connection.execute(
        f"{_STORED} WHERE b.org_id = ? AND b.name = ? AND b.origin = ? AND b.removed_ms IS NULL", (org_id, name, origin)
    ).fetchone()
    return None if row is None else _stored(row)


def put_budget(commit: Commit, held: StoredBudget, actor: str, action: str) -> None:
    """Store a budget as it is after a change, and the change; `action` is CREATED, CHANGED or REMOVED."""
    _put(commit, held)
    commit.connection.execute(
        "INSERT INTO budget_change (budget_id, at_ms, actor, action, said) VALUES (?, ?, ?, ?, ?)",
        (held.budget.id, commit.now_ms, actor, action, _json(_said(held.budget))),
    )


def known_from_here(commit: Commit, budget_id: str) -> None:
    """Let a budget's revision be known from the end of this commit on: all that is in it was recorded before."""
    commit.at_end.append(lambda commit: _set_known(commit, "id = ?", commit.next_seq - 1, budget_id))


def begin_anew(commit: Commit, budget_id: str) -> None:
    """Let a copy of the hub's be charged from the end of this commit on, in windows in which nothing is yet."""
    commit.connection.execute(
        "UPDATE budget_window SET settled_nano = 0, credited_nano = 0 WHERE budget_id = ?", (budget_id,)
    )
    known_from_here(commit, budget_id)


def suspend(commit: Commit, origin: str) -> None:
    """Note that budgets of this origin are not in force, so that nobody counts what they would be charged with."""
    _set_known(commit, "origin = ? AND removed_ms IS NULL", NOT_COUNTED, origin)


def _set_known(commit: Commit, where: str, seq: int, value: str) -> None:
    commit.connection.execute(f"UPDATE budget SET known_seq = ? WHERE {where}", (seq, value))


def list_changes(connection: sqlite3.Connection, budget: Budget, limit: int) -> list[StoredChange]:
    """What became of a budget, newest first."""
    rows = connection.execute(
        "SELECT c.at_ms, c.actor, coalesce(k.name, ''), c.action, c.said FROM budget_change c "
        "LEFT JOIN api_key k ON k.id = c.actor WHERE c.budget_id = ? ORDER BY c.id DESC LIMIT ?",
        (budget.id, limit),
    )
    return [
        StoredChange(at_ms, actor, actor_name, action, _of_said(budget.id, budget.org_id, json.loads(said)))
        for at_ms, actor, actor_name, action, said in rows
    ]


# -- a hub and its sources ---------------------------------------------------------------------------------------------


def read_version(connection: sqlite3.Connection) -> int:
    """How often budgets have changed at this hub; 0 where this ledger is no hub's."""
    row = connection.execute("SELECT budgets_version FROM hub_state").fetchone()
    return 0 if row is None else int(row[0])


def next_version(commit: Commit) -> int:
    """The number of another change of budgets; 0 where this ledger is no hub's."""
    row = commit.connection.execute(
        "UPDATE hub_state SET budgets_version = budgets_version + 1 RETURNING budgets_version"
    ).fetchone()
    return 0 if row is None else int(row[0])


def store_copies(commit: Commit, copies: Sequence[StoredBudget]) -> list[StoredBudget]:
    """Take over the hub's budgets, which are all there are: what was copied before and is not among them is removed.

    Their organizations are numbered as here. What is known here of them afterwards; complete once the commit is made.
    """
    before = {row[0]: row[1:] for row in commit.connection.execute("SELECT id, revision, known_seq FROM budget")}
    # All at first, so that two that have exchanged their names do not meet.
    commit.connection.execute(
        "UPDATE budget SET removed_ms = ? WHERE origin = ? AND removed_ms IS NULL", (commit.now_ms, HUB)
    )
    for copy in copies:
        revision, known_seq = before.get(copy.budget.id, (0, 0))
        _put(commit, _copy(copy, known_seq))
        if revision != copy.budget.revision:
            known_from_here(commit, copy.budget.id)
    known: list[StoredBudget] = []
    commit.at_end.append(lambda commit: known.extend(copies_of_hub(commit.connection)))
    return known


def copies_of_hub(connection: sqlite3.Connection) -> list[StoredBudget]:
    """The hub's budgets as they are known here, by name."""
    return [held for held in load_budgets(connection) if held.origin == HUB]


def keys_known_as(connection: sqlite3.Connection, org_id: int, named: str) -> list[tuple[str, bool]]:
    """Ids of an organization's keys with this id, prefix or name, and whether each is in force."""
    rows = connection.execute(
        "SELECT id, revoked_ms IS NULL FROM api_key WHERE org_id = ?1 AND (id = ?2 OR key_prefix = ?2 OR name = ?2)",
        (org_id, named),
    )
    return [(key_id, bool(is_living)) for key_id, is_living in rows]


def _copy(copy: StoredBudget, known_seq: int) -> StoredBudget:
    return StoredBudget(copy.budget, copy.organization, copy.created_ms, copy.updated_ms, None, HUB, known_seq)


def _put(commit: Commit, held: StoredBudget) -> None:
    budget = held.budget
    commit.connection.execute(
        _PUT,
        (
            *budget[:3],
            _json(budget.scope),
            *budget[4:9],
            _json([f"{threshold:f}" for threshold in budget.thresholds]),
            *budget[10:],
            held.created_ms,
            held.updated_ms,
            held.removed_ms,
            held.origin,
            held.known_seq,
        ),
    )


def _stored(row: tuple[Any, ...]) -> StoredBudget:
    created_ms, updated_ms, removed_ms, origin, known_seq, organization = row[15:]
    return StoredBudget(_budget(row[:15]), organization, created_ms, updated_ms, removed_ms, origin, known_seq)


def _budget(row: tuple[Any, ...]) -> Budget:
    budget = Budget(*row)
    return budget._replace(
        scope=_pairs(json.loads(row[3])),
        thresholds=tuple(Decimal(text) for text in json.loads(row[9])),
        hard=bool(budget.hard),
    )


def _said(budget: Budget) -> dict[str, object]:
    """What the history keeps of a budget, by its fields' names; its id and organization never change."""
    said = budget._asdict()
    del said["id"], said["org_id"]
    return said | {"thresholds": [f"{threshold:f}" for threshold in budget.thresholds]}


def _of_said(budget_id: str, org_id: int, said: dict[str, Any]) -> Budget:
    thresholds = tuple(Decimal(text) for text in said["thresholds"])
    return Budget(budget_id, org_id, **said | {"scope": _pairs(said["scope"]), "thresholds": thresholds})


def _pairs(scope: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((dimension, value) for dimension, value in scope)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
