"""The catalog's part of AdminService: lists, settings and assignments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import Message

from costd.domain.access import Caller
from costd.domain.money import usd_text
from costd.services.assignment import Assignment
from costd.services.catalog_lists import Asked
from costd.store.catalog_kinds import PROJECT, TEAM, USER, WORKSPACE
from costd.store.catalog_lists import Narrowed
from costd.v1 import catalog_pb2 as pb

if TYPE_CHECKING:
    from costd.domain.spend import Spend
    from costd.services.catalog import Catalog
    from costd.services.catalog_lists import CatalogLists
    from costd.store.catalog import UserRecord
    from costd.store.catalog_kinds import Kind
    from costd.store.catalog_lists import ProjectRow, TeamRow, WorkspaceRow


class CatalogService:
    """Answers the calls of costd.v1.AdminService that are about the catalog."""

    def __init__(self, catalog: Catalog, lists: CatalogLists) -> None:
        self._catalog = catalog
        self._lists = lists

    def list_users(self, caller: Caller, request: pb.ListUsersRequest) -> pb.ListUsersResponse:
        """A page of users."""
        narrowed = Narrowed(source_app=_said(request, "source_app"), team=_said(request, "team"))
        found = self._lists.users(caller, _asked(request, narrowed))
        return pb.ListUsersResponse(users=[_user(*row) for row in found.rows], next_cursor=found.next_cursor)

    def list_projects(self, caller: Caller, request: pb.ListProjectsRequest) -> pb.ListProjectsResponse:
        """A page of projects."""
        narrowed = Narrowed(
            source_app=_said(request, "source_app"),
            team=_said(request, "team"),
            workspace=_said(request, "workspace"),
            unregistered=request.unassigned,
        )
        found = self._lists.projects(caller, _asked(request, narrowed))
        return pb.ListProjectsResponse(projects=[_project(*row) for row in found.rows], next_cursor=found.next_cursor)

    def list_teams(self, caller: Caller, request: pb.ListTeamsRequest) -> pb.ListTeamsResponse:
        """A page of teams."""
        narrowed = Narrowed(workspace=_said(request, "workspace"), unregistered=request.unregistered)
        found = self._lists.teams(caller, _asked(request, narrowed))
        return pb.ListTeamsResponse(teams=[_team(*row) for row in found.rows], next_cursor=found.next_cursor)

    def list_workspaces(self, caller: Caller, request: pb.ListWorkspacesRequest) -> pb.ListWorkspacesResponse:
        """A page of workspaces."""
        found = self._lists.workspaces(caller, _asked(request, Narrowed(unregistered=request.unregistered)))
        rows = [_workspace(*row) for row in found.rows]
        return pb.ListWorkspacesResponse(workspaces=rows, next_cursor=found.next_cursor)

    def set_user(self, caller: Caller, request: pb.SetUserRequest) -> pb.CatalogUser:
        """Create or change a user; the user as it is then."""
        return _user(*self._lists.users(caller, self._set(caller, USER, request)).rows[0])

    def set_project(self, caller: Caller, request: pb.SetProjectRequest) -> pb.CatalogProject:
        """Register or change a project; the project as it is then."""
        return _project(*self._lists.projects(caller, self._set(caller, PROJECT, request)).rows[0])

    def set_team(self, caller: Caller, request: pb.SetTeamRequest) -> pb.CatalogTeam:
        """Register or change a team; the team as it is then."""
        return _team(*self._lists.teams(caller, self._set(caller, TEAM, request)).rows[0])

    def set_workspace(self, caller: Caller, request: pb.SetWorkspaceRequest) -> pb.CatalogWorkspace:
        """Register or change a workspace; the workspace as it is then."""
        return _workspace(*self._lists.workspaces(caller, self._set(caller, WORKSPACE, request)).rows[0])

    def assign(self, caller: Caller, request: pb.AssignRequest) -> pb.AssignResponse:
        """Assign users, projects and teams."""
        wanted = Assignment(
            tuple(request.projects),
            tuple(request.users),
            tuple(request.teams),
            _said(request, "source_app"),
            unassigned=request.unassigned,
            team=_said(request, "team"),
            workspace=_said(request, "workspace"),
        )
        made = self._catalog.assign(caller, wanted)
        return pb.AssignResponse(
            changed=made.changed,
            unchanged=made.unchanged,
            new_teams=made.new_teams,
            unregistered_team=made.unregistered_team,
            unregistered_workspace=made.unregistered_workspace,
        )

    def _set(self, caller: Caller, kind: Kind, request: Message) -> Asked:
        """Carry out a setting; what to ask for to see what came of it."""
        given: dict[str, str] = {field.name: value for field, value in request.ListFields()}
        id_, app = given.pop("id", ""), given.pop("source_app", None)
        key = self._catalog.set(caller, kind, id_, app, given)
        return Asked(Narrowed(source_app=key.source_app if kind.has_apps else None, id=key.id), limit=1)


class _Paged(Protocol):
    """What every request for a list has."""

    cursor: str
    limit: int
    with_spend: bool


def _asked(request: _Paged, narrowed: Narrowed) -> Asked:
    return Asked(narrowed, request.cursor, request.limit, request.with_spend)


def _said(request: Message, field: str) -> str | None:
    """The value of an optional field; None where it is absent."""
    return getattr(request, field) if request.HasField(field) else None


def _user(user: UserRecord, spend: Spend | None) -> pb.CatalogUser:
    return pb.CatalogUser(
        id=user.external_id,
        source_app=user.source_app,
        email=user.email or "",
        name=user.full_name or "",
        team=user.team_id or "",
        created_ms=user.created_ms,
        updated_ms=user.updated_ms,
        spend=_spend(spend),
    )


def _project(row: ProjectRow, spend: Spend | None) -> pb.CatalogProject:
    project = row.project
    return pb.CatalogProject(
        id=project.external_id,
        source_app=project.source_app,
        name=project.name or "",
        team=project.team_id or "",
        workspace=project.workspace_id or "",
        effective_workspace=row.workspace_id or "",
        registered=project.registered,
        unassigned=row.unassigned,
        created_ms=project.created_ms,
        updated_ms=project.updated_ms,
        spend=_spend(spend),
    )


def _team(row: TeamRow, spend: Spend | None) -> pb.CatalogTeam:
    return pb.CatalogTeam(
        id=row.team_id,
        name=row.name or "",
        workspace=row.workspace_id or "",
        registered=row.registered,
        projects=row.projects,
        users=row.users,
        keys=row.keys,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        spend=_spend(spend),
    )


def _workspace(row: WorkspaceRow, spend: Spend | None) -> pb.CatalogWorkspace:
    return pb.CatalogWorkspace(
        id=row.workspace_id,
        name=row.name or "",
        registered=row.registered,
        teams=row.teams,
        projects=row.projects,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        spend=_spend(spend),
    )


def _spend(spend: Spend | None) -> pb.CatalogSpend | None:
    if spend is None:
        return None
    cost_nano = spend.shown_cost_nano
    cost_usd = None if cost_nano is None else usd_text(cost_nano)
    return pb.CatalogSpend(requests=spend.requests, cost_usd=cost_usd, unpriced=spend.unpriced)
