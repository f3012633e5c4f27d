"""Reads of the catalog: pages of each kind in the order of their ids, with what belongs to each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from costd.store.catalog import ProjectRecord, UserRecord
from costd.store.catalog_changes import Key
from costd.store.catalog_kinds import IS_UNASSIGNED, Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project, and where it belongs by itself or through its team; `unassigned` as in IS_UNASSIGNED."""

    project: ProjectRecord
    #: Its own workspace, else its team's.
    workspace_id: str | None
    unassigned: bool


@dataclass(frozen=True, slots=True)
class TeamRow:
    """A team; one that is not registered is only named by records, keys, projects or users, and has no times."""

    team_id: str
    name: str | None
    workspace_id: str | None
    registered: bool
    projects: int
    users: int
    #: Those in force that are bound to it.
    keys: int
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """A workspace; one that is not registered is only named by teams or projects, and has no times."""

    workspace_id: str
    name: str | None
    registered: bool
    teams: int
    #: Those assigned to it, and those of its teams that are assigned to no other.
    projects: int
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of one kind, by application and id; `next_after` is None at the end."""

    rows: list[T]
    next_after: Key | None


class Narrowed(NamedTuple):
    """Which things to list: None is any, "" those without. `unregistered` of projects means unassigned."""

    source_app: str | None = None
    id: str | None = None
    team: str | None = None
    workspace: str | None = None
    unregistered: bool = False


#: What lists one kind: (connection, org_id, narrowed, after, limit) → a page.
Lister = Callable[[sqlite3.Connection, int, Narrowed, "Key | None", int], Page[T]]


def list_users(
    connection: sqlite3.Connection, org_id: int, narrowed: Narrowed, after: Key | None, limit: int
) -> Page[UserRecord]:
    """Users after `after`."""
    wanted = _Conditions("c.org_id = ?", org_id)
    wanted.narrow("c.source_app = ?", narrowed.source_app)
    wanted.narrow("c.external_id = ?", narrowed.id)
    wanted.narrow("coalesce(c.team_id, '') = ?", narrowed.team)
    wanted.beyond("(c.source_app, c.external_id) > (?, ?)", after)
    rows = connection.execute(f"{_USERS} {wanted.where} ORDER BY c.source_app, c.external_id LIMIT ?", wanted.to(limit))
    users = [UserRecord(*row) for row in rows]
    return _paged(users, limit, lambda user: Key(user.source_app, user.external_id))


def list_projects(
    connection: sqlite3.Connection, org_id: int, narrowed: Narrowed, after: Key | None, limit: int
) -> Page[ProjectRow]:
    """Projects after `after`."""
    wanted = _Conditions("c.org_id = ?", org_id)
    wanted.narrow("c.source_app = ?", narrowed.source_app)
    wanted.narrow("c.external_id = ?", narrowed.id)
    wanted.narrow("coalesce(c.team_id, '') = ?", narrowed.team)
    wanted.narrow(f"coalesce({_PROJECT_WORKSPACE}, '') = ?", narrowed.workspace)
    wanted.narrow(f"({IS_UNASSIGNED}) = ?", 1 if narrowed.unregistered else None)
    wanted.beyond("(c.source_app, c.external_id) > (?, ?)", after)
    sql = f"{_PROJECTS} {wanted.where} ORDER BY c.source_app, c.external_id LIMIT ?"
    rows = []
    for external_id, app, name, own, team, registered, created, updated, workspace, unassigned in connection.execute(
        sql, wanted.to(limit)
    ):
        project = ProjectRecord(external_id, app, name, own, team, bool(registered), created, updated)
        rows.append(ProjectRow(project, workspace, bool(unassigned)))
    return _paged(rows, limit, lambda row: Key(row.project.source_app, row.project.external_id))


def list_teams(
    connection: sqlite3.Connection, org_id: int, narrowed: Narrowed, after: Key | None, limit: int
) -> Page[TeamRow]:
    """Teams after `after`, those that are only named included."""
    wanted = _Conditions("n.id != ''")
    wanted.narrow("n.id = ?", narrowed.id)
    wanted.narrow("coalesce(g.workspace_id, '') = ?", narrowed.workspace)
    wanted.narrow("(g.team_id IS NULL) = ?", 1 if narrowed.unregistered else None)
    wanted.beyond("n.id > ?", after)
    sql = f"{_TEAMS} {wanted.where} ORDER BY n.id LIMIT ?"
    rows = connection.execute(sql, [org_id] * _TEAMS.count("?") + wanted.to(limit))
    teams = [TeamRow(id_, name, its, bool(known), *counts) for id_, name, its, known, *counts in rows]
    return _paged(teams, limit, lambda team: Key("", team.team_id))


def list_workspaces(
    connection: sqlite3.Connection, org_id: int, narrowed: Narrowed, after: Key | None, limit: int
) -> Page[WorkspaceRow]:
    """Workspaces after `after`, those that are only named included."""
    wanted = _Conditions("n.id != ''")
    wanted.narrow("n.id = ?", narrowed.id)
    wanted.narrow("(g.workspace_id IS NULL) = ?", 1 if narrowed.unregistered else None)
    wanted.beyond("n.id > ?", after)
    sql = f"{_WORKSPACES} {wanted.where} ORDER BY n.id LIMIT ?"
    rows = connection.execute(sql, [org_id] * _WORKSPACES.count("?") + wanted.to(limit))
    workspaces = [WorkspaceRow(id_, name, bool(known), *counts) for id_, name, known, *counts in rows]
    return _paged(workspaces, limit, lambda workspace: Key("", workspace.workspace_id))


def find_keys(
    connection: sqlite3.Connection, org_id: int, kind: Kind, ids: Sequence[str], source_app: str | None
) -> dict[str, list[Key]]:
    """Every user or project with one of these ids, of any application where `source_app` is None."""
    found: dict[str, list[Key]] = {id_: [] for id_ in ids}
    wanted = _Conditions("org_id = ?", org_id)
    wanted.narrow("source_app = ?", source_app)
    wanted.narrow("external_id IN (SELECT value FROM json_each(?))", json.dumps(list(ids)))
    sql = f"SELECT source_app, external_id FROM {kind.table} {wanted.where} ORDER BY source_app"
    for app, id_ in connection.execute(sql, wanted.values):
        found[id_].append(Key(app, id_))
    return found


def unassigned_projects(connection: sqlite3.Connection, org_id: int, source_app: str) -> list[Key]:
    """All unassigned projects of an application."""
    sql = f"SELECT external_id FROM catalog_project WHERE org_id = ? AND source_app = ? AND {IS_UNASSIGNED} ORDER BY 1"
    return [Key(source_app, id_) for (id_,) in connection.execute(sql, (org_id, source_app))]


def registered_names(connection: sqlite3.Connection, org_id: int, kind: Kind) -> dict[str, str | None]:
    """The names of all registered teams or workspaces, by id."""
    return dict(connection.execute(f"SELECT {kind.id_column}, name FROM {kind.table} WHERE org_id = ?", (org_id,)))


class _Conditions:
    """The conditions of a list, and their values."""

    def __init__(self, condition: str, *values: object) -> None:
        self._conditions, self.values = [condition], [*values]

    def narrow(self, condition: str, value: object) -> None:
        """Only where this holds; nothing where the value is None."""
        if value is not None:
            self._conditions.append(condition)
            self.values.append(value)

    def beyond(self, condition: str, after: Key | None) -> None:
        """Only what comes after this."""
        if after is not None:
            self._conditions.append(condition)
            self.values += [*after] if condition.count("?") > 1 else [after.id]

    @property
    def where(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)}"

    def to(self, limit: int) -> list[object]:
        """The values, one row more than asked for: it tells whether there is another page."""
        return [*self.values, limit + 1]


def _paged(rows: list[T], limit: int, key: Callable[[T], Key]) -> Page[T]:
    page = rows[:limit]
    return Page(page, key(page[-1]) if len(rows) > limit else None)


_TEAM_WORKSPACE = (
    "(SELECT nullif(g.workspace_id, '') FROM catalog_team g WHERE g.org_id = c.org_id AND g.team_id = c.team_id)"
)
_PROJECT_WORKSPACE = f"coalesce(nullif(c.workspace_id, ''), {_TEAM_WORKSPACE})"
_USERS = (
    "SELECT c.external_id, c.source_app, c.email, c.full_name, c.created_ms, c.updated_ms, c.team_id "
    "FROM catalog_user c"
)
_PROJECTS = (
    "SELECT c.external_id, c.source_app, c.name, c.workspace_id, c.team_id, c.registered, c.created_ms, c.updated_ms, "
    f"{_PROJECT_WORKSPACE}, {IS_UNASSIGNED} FROM catalog_project c"
)
# Of an id's mentions each source says how many things of which sort; they are added up by id.
_TEAMS = """
SELECT n.id, g.name, g.workspace_id, g.team_id IS NOT NULL, n.projects, n.users, n.keys,
       coalesce(g.created_ms, 0), coalesce(g.updated_ms, 0)
FROM (SELECT id, max(org_id) AS org_id, sum(projects) AS projects, sum(users) AS users, sum(keys) AS keys FROM (
  SELECT org_id, team_id AS id, 0 AS projects, 0 AS users, 0 AS keys FROM catalog_team WHERE org_id = ?
  UNION ALL SELECT DISTINCT org_id, team, 0, 0, 0 FROM series WHERE org_id = ?
  UNION ALL SELECT org_id, team_id, count(*), 0, 0 FROM catalog_project WHERE org_id = ? GROUP BY team_id
  UNION ALL SELECT org_id, team_id, 0, count(*), 0 FROM catalog_user WHERE org_id = ? GROUP BY team_id
  UNION ALL SELECT org_id, team, 0, 0, count(*) FROM api_key WHERE org_id = ? AND revoked_ms IS NULL GROUP BY team
) GROUP BY id) n LEFT JOIN catalog_team g ON g.org_id = n.org_id AND g.team_id = n.id
"""
_WORKSPACES = f"""
SELECT n.id, g.name, g.workspace_id IS NOT NULL, n.teams, n.projects,
       coalesce(g.created_ms, 0), coalesce(g.updated_ms, 0)
FROM (SELECT id, max(org_id) AS org_id, sum(teams) AS teams, sum(projects) AS projects FROM (
  SELECT org_id, workspace_id AS id, 0 AS teams, 0 AS projects FROM catalog_workspace WHERE org_id = ?
  UNION ALL SELECT DISTINCT org_id, workspace, 0, 0 FROM series WHERE org_id = ?
  UNION ALL SELECT org_id, workspace_id, count(*), 0 FROM catalog_team WHERE org_id = ? GROUP BY workspace_id
  UNION ALL SELECT c.org_id, {_PROJECT_WORKSPACE}, 0, count(*) FROM catalog_project c WHERE c.org_id = ? GROUP BY 2
) GROUP BY id) n LEFT JOIN catalog_workspace g ON g.org_id = n.org_id AND g.workspace_id = n.id
"""
