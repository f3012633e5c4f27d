"""What an admin changes in the catalog, one thing at a time, each change with its line in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from costd.store.audit import append_audit
from costd.store.catalog_kinds import PROJECT, USER, Kind
from costd.store.catalog_log import log_change
from costd.store.commit import Commit

#: The audit trail outlives the people in it: it says that these changed, not from what to what.
_PERSONAL = frozenset({(USER.name, "email"), (USER.name, "name")})


class Key(NamedTuple):
    """Which thing of a kind; `source_app` is "" for the kinds that know none."""

    source_app: str
    id: str


class Outcome(NamedTuple):
    """What came of one change."""

    is_new: bool
    is_changed: bool


class Setting(NamedTuple):
    """New values for things of one kind, by the names in its `columns` (None is nothing), and who says so."""

    org_id: int
    actor: str
    kind: Kind
    values: Mapping[str, str | None]
    #: "set" registers a project as well; "assigned" leaves that as it is.
    verb: Literal["set", "assigned"]


def apply(commit: Commit, setting: Setting, keys: Sequence[Key], only_where: str = "1") -> list[Outcome]:
    """Create or change these things; those already there must satisfy `only_where`, else they stay as they are."""
    return [_apply(commit, setting, key, only_where) for key in keys]


def _apply(commit: Commit, setting: Setting, key: Key, only_where: str) -> Outcome:
    kind = setting.kind
    where, place = _at(setting, key)
    registered = "registered" if kind is PROJECT else "1"
    row = commit.connection.execute(
        f"SELECT {only_where}, {registered}, {', '.join(kind.columns.values())} FROM {kind.table} WHERE {where}", place
    ).fetchone()
    if row is None:
        _insert(commit, setting, key)
        _say(commit, setting, key, {name: (None, value) for name, value in setting.values.items()})
        return Outcome(is_new=True, is_changed=True)
    applies, is_registered, *held = row
    before = dict(zip(kind.columns, held, strict=True))
    changes = {name: (before[name], value) for name, value in setting.values.items() if (before[name] or None) != value}
    registers = setting.verb == "set" and not is_registered
    if not applies or not (changes or registers):
        return Outcome(is_new=False, is_changed=False)
    seq = commit.take_seq()
    changed = "".join(f"{kind.columns[name]} = ?, " for name in changes) + ("registered = 1, " if registers else "")
    commit.connection.execute(
        f"UPDATE {kind.table} SET {changed}updated_ms = ?, seq = ? WHERE {where}",
        (*(value for _, value in changes.values()), commit.now_ms, seq, *place),
    )
    said = {name: value for name, (_, value) in changes.items()}
    log_change(commit, seq, kind, (setting.org_id, *key), said, registers=registers)
    _say(commit, setting, key, changes)
    return Outcome(is_new=False, is_changed=True)


def _insert(commit: Commit, setting: Setting, key: Key) -> None:
    kind = setting.kind
    seq = commit.take_seq()
    log_change(commit, seq, kind, (setting.org_id, *key), setting.values, registers=kind is PROJECT)
    row = {
        "org_id": setting.org_id,
        **({"source_app": key.source_app} if kind.has_apps else {}),
        kind.id_column: key.id,
        **{kind.columns[name]: value for name, value in setting.values.items()},
        **({"registered": 1} if kind is PROJECT else {}),
        "created_ms": commit.now_ms,
        "updated_ms": commit.now_ms,
        "seq": seq,
    }
    commit.connection.execute(
        f"INSERT INTO {kind.table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
    )


def _say(commit: Commit, setting: Setting, key: Key, changes: Mapping[str, tuple[str | None, str | None]]) -> None:
    told: dict[str, object] = {"source_app": key.source_app} if setting.kind.has_apps else {}
    for name, (before, after) in changes.items():
        is_personal = (setting.kind.name, name) in _PERSONAL
        told[name] = "changed" if is_personal else {"from": before, "to": after}
    append_audit(commit, setting.org_id, setting.actor, f"{setting.kind.name}.{setting.verb}", key.id, told)


def _at(setting: Setting, key: Key) -> tuple[str, tuple[object, ...]]:
    kind = setting.kind
    if kind.has_apps:
        return f"org_id = ? AND source_app = ? AND {kind.id_column} = ?", (setting.org_id, *key)
    return f"org_id = ? AND {kind.id_column} = ?", (setting.org_id, key.id)
