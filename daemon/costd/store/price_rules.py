"""Price rules and their history: rules are added and removed, never edited."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from costd.domain.errors import NotFound
from costd.domain.price_rule import PriceRule
from costd.store.commit import Commit

_RULE = "id, org_id, provider, model, context, rates, multiplier, from_ms, until_ms, note"


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule with its history; `org` is the organization's name, None for everybody. Times are UTC milliseconds."""

    rule: PriceRule
    org: str | None
    created_ms: int
    created_by: str
    removed_ms: int | None
    removed_by: str | None


def load_rules(connection: sqlite3.Connection) -> list[PriceRule]:
    """The rules in the books, those of the past and of the future included, removed ones not."""
    return [_rule(row) for row in connection.execute(f"SELECT {_RULE} FROM price_rule WHERE removed_ms IS NULL")]


def list_rules(connection: sqlite3.Connection, org_id: int, *, removed: bool) -> list[StoredRule]:
    """An organization's rules and everybody's, newest first; on demand those that were removed as well."""
    names = ", ".join(f"r.{name.strip()}" for name in _RULE.split(","))
    rows = connection.execute(
        f"SELECT {names}, o.name, r.created_ms, r.created_by, r.removed_ms, r.removed_by "
        "FROM price_rule r LEFT JOIN org o ON o.id = r.org_id WHERE (r.org_id IS NULL OR r.org_id = ?) "
        f"{'' if removed else 'AND r.removed_ms IS NULL '}ORDER BY r.id DESC",
        (org_id,),
    )
    return [StoredRule(_rule(row[:10]), *row[10:]) for row in rows]


def insert_rule(commit: Commit, rule: PriceRule, actor: str, revision: int) -> None:
    """Add a rule, which holds from this revision of the prices on; what it leaves nothing of is removed."""
    for held in load_rules(commit.connection):
        if _is_replaced(held, rule):
            _remove(commit, held.id, actor, revision)
    commit.connection.execute(
        f"INSERT INTO price_rule ({_RULE}, created_ms, created_by, revision) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            rule.id,
            rule.org_id,
            rule.provider,
            rule.model,
            _json(dict(rule.context)),
            _json(rule.rates),
            _json(rule.multiplier),
            rule.from_ms,
            rule.until_ms,
            rule.note,
            commit.now_ms,
            actor,
            revision,
        ),
    )


def remove_rule(commit: Commit, org_ids: tuple[int | None, ...], rule_id: str, actor: str, revision: int) -> PriceRule:
    """Remove a rule of one of these organizations (None: everybody's); NotFound where there is none in the books."""
    row = commit.connection.execute(
        f"SELECT {_RULE} FROM price_rule WHERE id = ? AND removed_ms IS NULL", (rule_id,)
    ).fetchone()
    if row is None or row[1] not in org_ids:
        raise NotFound(f'there is no price with the id "{rule_id[:64]}"; `costd prices list` shows them')
    _remove(commit, rule_id, actor, revision)
    return _rule(row)


def _remove(commit: Commit, rule_id: str, actor: str, revision: int) -> None:
    commit.connection.execute(
        "UPDATE price_rule SET removed_ms = ?, removed_by = ?, removed_revision = ? WHERE id = ?",
        (commit.now_ms, actor, revision, rule_id),
    )


def _is_replaced(held: PriceRule, rule: PriceRule) -> bool:
    """Whether nothing is left of a rule once another is in the books."""
    same = held[1:5] == rule[1:5] and (held.from_ms, held.until_ms) == (rule.from_ms, rule.until_ms)
    return same and held.rates.keys() <= rule.rates.keys() and (held.multiplier is None or rule.multiplier is not None)


def _rule(row: tuple[Any, ...]) -> PriceRule:
    rule_id, org_id, provider, model, context, rates, multiplier, from_ms, until_ms, note = row
    words: Mapping[str, str] = json.loads(context)
    factor = json.loads(multiplier)
    return PriceRule(
        rule_id,
        org_id,
        provider,
        model,
        tuple(sorted(words.items())),
        json.loads(rates),
        tuple(factor) if factor is not None else None,
        from_ms,
        until_ms,
        note,
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
