"""The catalog: users, projects, teams and workspaces, and what applications say of their own users and projects."""

from __future__ import annotations

from dataclasses import dataclass

from costd.store.catalog_kinds import PROJECT, USER, Kind
from costd.store.catalog_log import log_change
from costd.store.commit import Commit


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user of one application; None where nobody said. Times are UTC milliseconds."""

    external_id: str
    source_app: str
    email: str | None = None
    full_name: str | None = None
    created_ms: int = 0
    updated_ms: int = 0
    team_id: str | None = None


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project of one application; one that is not registered was only seen in a record."""

    external_id: str
    source_app: str
    name: str | None = None
    workspace_id: str | None = None
    team_id: str | None = None
    registered: bool = True
    created_ms: int = 0
    updated_ms: int = 0


# A row's number is that of its last real change: by it a hub tells its sources what is news.


def upsert_user(commit: Commit, org_id: int, user: UserRecord) -> UserRecord:
    """Create or update a user; what is None is left as it was. Returns the stored record."""
    seq = commit.take_seq()
    said = {"email": user.email, "name": user.full_name}
    _log(commit, seq, USER, (org_id, user.source_app, user.external_id), said)
    row = commit.connection.execute(
        "INSERT INTO catalog_user (org_id, source_app, external_id, email, full_name, created_ms, updated_ms, seq) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET email = coalesce(excluded.email, email), "
        "full_name = coalesce(excluded.full_name, full_name), updated_ms = excluded.updated_ms, "
        "seq = iif((coalesce(excluded.email, email), coalesce(excluded.full_name, full_name)) IS (email, full_name), "
        "seq, excluded.seq) "
        "RETURNING email, full_name, created_ms, updated_ms, team_id",
        (
            org_id,
            user.source_app,
            user.external_id,
            user.email,
            user.full_name,
            commit.now_ms,
            commit.now_ms,
            seq,
        ),
    ).fetchone()
    return UserRecord(user.external_id, user.source_app, *row)


def upsert_project(commit: Commit, org_id: int, project: ProjectRecord) -> ProjectRecord:
    """Create, register or update a project; what is None is left as it was. Returns the stored record."""
    seq = commit.take_seq()
    said = {"name": project.name, "team": project.team_id, "workspace": project.workspace_id}
    _log(commit, seq, PROJECT, (org_id, project.source_app, project.external_id), said, registers=True)
    row = commit.connection.execute(
        "INSERT INTO catalog_project "
        "(org_id, source_app, external_id, name, workspace_id, team_id, registered, created_ms, updated_ms, seq) "
        "VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET name = coalesce(excluded.name, name), "
        "workspace_id = coalesce(excluded.workspace_id, workspace_id), team_id = coalesce(excluded.team_id, team_id), "
        "registered = 1, updated_ms = excluded.updated_ms, "
        "seq = iif((coalesce(excluded.name, name), coalesce(excluded.workspace_id, workspace_id), "
        "coalesce(excluded.team_id, team_id), 1) IS (name, workspace_id, team_id, registered), seq, excluded.seq) "
        "RETURNING name, workspace_id, team_id, registered, created_ms, updated_ms",
        (
            org_id,
            project.source_app,
            project.external_id,
            project.name,
            project.workspace_id,
            project.team_id,
            commit.now_ms,
            commit.now_ms,
            seq,
        ),
    ).fetchone()
    name, workspace_id, team_id, registered, created_ms, updated_ms = row
    return ProjectRecord(
        project.external_id,
        project.source_app,
        name,
        workspace_id,
        team_id,
        registered=bool(registered),
        created_ms=created_ms,
        updated_ms=updated_ms,
    )


def _log(
    commit: Commit,
    seq: int,
    kind: Kind,
    key: tuple[int, str, str],
    said: dict[str, str | None],
    *,
    registers: bool = False,
) -> None:
    """Write down an upsert, in which None says nothing."""
    values = {name: value for name, value in said.items() if value is not None}
    log_change(commit, seq, kind, key, values, registers=registers)
