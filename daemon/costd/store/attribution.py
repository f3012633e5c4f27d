"""Whom a record is attributed to: the columns of its dimensions, with the catalog's word where it named no team itself.

A record's team is its own, else its project's, else its user's; its workspace is its own, else its project's, else its
team's. That is worked out when a report is read, so assigning a project moves its history too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from costd.domain.series import DIMENSIONS
from costd.store.catalog_kinds import PROJECT, TEAM, USER, Kind

# Each lookup runs only where what stands before it said nothing, and never for a record without a project or user.
_PROJECT = (
    "FROM catalog_project p WHERE p.org_id = s.org_id AND p.source_app = s.source_app "
    "AND p.external_id = nullif(s.project, '')"
)
_USER = (
    "FROM catalog_user u WHERE u.org_id = s.org_id AND u.source_app = s.source_app "
    "AND u.external_id = nullif(s.user, '')"
)
_TEAM = f"nullif(s.team, ''), (SELECT nullif(p.team_id, '') {_PROJECT}), (SELECT nullif(u.team_id, '') {_USER})"
_ITS_TEAM = f"FROM catalog_team g WHERE g.org_id = s.org_id AND g.team_id = coalesce({_TEAM})"
_WORKSPACE = (
    f"nullif(s.workspace, ''), (SELECT nullif(p.workspace_id, '') {_PROJECT}), "
    f"(SELECT nullif(g.workspace_id, '') {_ITS_TEAM})"
)
_RESOLVED = {"team": f"coalesce({_TEAM}, '')", "workspace": f"coalesce({_WORKSPACE}, '')"}


def column_of(name: str) -> str:
    """The value of a dimension, as an expression on `series s`."""
    assert name in DIMENSIONS, name
    return _RESOLVED.get(name, f"s.{name}")


class Assigned(NamedTuple):
    """Where the catalog says that a thing belongs, "" where it does not say."""

    team: str
    workspace: str


#: (kind, organization, application or "", id)
Said = tuple[str, int, str, str]

_ASSIGNABLE = (PROJECT, USER, TEAM)


def read_assigned(connection: sqlite3.Connection) -> dict[Said, Assigned]:
    """All users, projects and teams that the catalog says belong somewhere."""
    found: dict[Said, Assigned] = {}
    for kind in _ASSIGNABLE:
        team, workspace = _columns(kind)
        rows = connection.execute(
            f"{_select(kind)} WHERE coalesce({team}, '') <> '' OR coalesce({workspace}, '') <> ''"
        )
        found.update(((kind.name, org, app, id_), Assigned(*at)) for org, app, id_, *at in rows)
    return found


def read_said(connection: sqlite3.Connection, said: Iterable[Said]) -> dict[Said, Assigned]:
    """Where these belong now."""
    kinds = {kind.name: kind for kind in _ASSIGNABLE}
    found: dict[Said, Assigned] = {}
    for each in said:
        kind = kinds.get(each[0])
        if kind is None:
            continue
        app = "source_app = ? AND " if kind.has_apps else ""
        place = (each[1], *((each[2],) if kind.has_apps else ()), each[3])
        row = connection.execute(f"{_select(kind)} WHERE org_id = ? AND {app}{kind.id_column} = ?", place).fetchone()
        found[each] = Assigned(*row[3:]) if row else Assigned("", "")
    return found


def read_org_names(connection: sqlite3.Connection) -> dict[int, str]:
    """The names of all organizations, by their numbers."""
    return dict(connection.execute("SELECT id, name FROM org").fetchall())


def _select(kind: Kind) -> str:
    team, workspace = _columns(kind)
    app = "source_app" if kind.has_apps else "''"
    where = f"coalesce({team}, ''), coalesce({workspace}, '')"
    return f"SELECT org_id, {app}, {kind.id_column}, {where} FROM {kind.table}"


def _columns(kind: Kind) -> tuple[str, str]:
    """The columns of the team and the workspace of a kind; NULL where it has none."""
    return kind.columns.get("team", "NULL"), kind.columns.get("workspace", "NULL")
