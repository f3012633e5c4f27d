"""Price rules and their history: rules are added and removed, never edited."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from costd.domain.ids import parse_uuid, uuid7, uuid_text
from costd.domain.price_rule import PriceRule
from costd.store.commit import Commit

_RULE = "id, org_id, provider, model, context, rates, multiplier, from_ms, until_ms, note"
_STORED = (
    f"SELECT {', '.join(f'r.{name.strip()}' for name in _RULE.split(','))}, "
    "o.name, r.created_ms, r.created_by, k.name, r.removed_ms, r.removed_by, l.name "
    "FROM price_rule r LEFT JOIN org o ON o.id = r.org_id "
    "LEFT JOIN api_key k ON k.id = r.created_by LEFT JOIN api_key l ON l.id = r.removed_by"
)


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule with its history; `org` is the organization's name, None for everybody. Times are UTC milliseconds.

    `created_by` and `removed_by` are keys, by id and by name; "" is the local user.
    """

    rule: PriceRule
    org: str | None
    created_ms: int
    created_by: str
    created_by_name: str
    removed_ms: int | None
    removed_by: str
    removed_by_name: str


def load_rules(connection: sqlite3.Connection) -> list[PriceRule]:
    """The rules in the books, those of the past and of the future included, removed ones not; the oldest first."""
    return [
        _rule(row) for row in connection.execute(f"SELECT {_RULE} FROM price_rule WHERE removed_ms IS NULL ORDER BY id")
    ]


def list_rules(connection: sqlite3.Connection, org_id: int | None, *, removed: bool) -> list[StoredRule]:
    """An organization's rules and everybody's (None: all there are), newest first; on demand removed ones as well."""
    where = "(?1 IS NULL OR r.org_id IS NULL OR r.org_id = ?1)" + ("" if removed else " AND r.removed_ms IS NULL")
    return [_stored(row) for row in connection.execute(f"{_STORED} WHERE {where} ORDER BY r.id DESC", (org_id,))]


def find_rules(connection: sqlite3.Connection, org_id: int | None, start: str) -> list[StoredRule]:
    """At most two rules whose id begins so, of those that `list_rules` may show; removed ones come last."""
    rows = connection.execute(
        f"{_STORED} WHERE (?1 IS NULL OR r.org_id IS NULL OR r.org_id = ?1) AND substr(r.id, 1, ?2) = ?3 "
        "ORDER BY r.id <> ?3, r.removed_ms IS NOT NULL, r.id LIMIT 2",
        (org_id, len(start), start),
    )
    return [_stored(row) for row in rows]


def rules_by_id(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, StoredRule]:
    """The rules with these ids, removed ones too."""
    wanted = json.dumps(list(ids))
    rows = connection.execute(f"{_STORED} WHERE r.id IN (SELECT value FROM json_each(?))", (wanted,))
    return {row[0]: _stored(row) for row in rows}


def new_rule_ids(commit: Commit, count: int) -> list[str]:
    """Ids for new rules, ascending and above all there are, also where the clock was set back: newer is stronger."""
    newest = commit.connection.execute("SELECT max(id) FROM price_rule").fetchone()[0]
    first = max(uuid7(commit.now_ms), (parse_uuid(newest) or 0) + 1 if newest is not None else 0)
    return [uuid_text(first + number) for number in range(count)]


def insert_rule(commit: Commit, rule: PriceRule, actor: str, revision: int) -> None:
    """Add a rule, which holds from this revision of the prices on."""
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


def remove_rule(commit: Commit, rule_id: str, actor: str, revision: int) -> None:
    """Take a rule out of the books from this revision of the prices on."""
    commit.connection.execute(
        "UPDATE price_rule SET removed_ms = ?, removed_by = ?, removed_revision = ? WHERE id = ?",
        (commit.now_ms, actor, revision, rule_id),
    )


def restore_rule(commit: Commit, rule_id: str) -> bool:
    """Put a rule back into the books that was removed; whether there is one with this id."""
    cursor = commit.connection.execute(
        "UPDATE price_rule SET removed_ms = NULL, removed_by = NULL, removed_revision = NULL WHERE id = ?", (rule_id,)
    )
    return cursor.rowcount > 0


def _stored(row: tuple[Any, ...]) -> StoredRule:
    org, created_ms, created_by, creator, removed_ms, removed_by, remover = row[10:]
    return StoredRule(
        _rule(row[:10]), org, created_ms, created_by, creator or "", removed_ms, removed_by or "", remover or ""
    )


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
