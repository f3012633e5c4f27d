"""`costd projects`: the projects of applications, and the teams and workspaces they belong to."""

from __future__ import annotations

import click

from costd.cli import catalog
from costd.cli.catalog import Listing, Row
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.v1 import catalog_pb2


@click.group("projects", epilog="Example: costd projects list --unassigned")
def command() -> None:
    """List projects, register them, assign them to teams and workspaces."""


@command.command("list", epilog="Example: costd projects list --unassigned --spend")
@catalog.app_filter
@catalog.team_filter
@catalog.workspace_filter
@click.option("--unassigned", is_flag=True, help="Only those that nobody has registered or assigned.")
@catalog.spend_option
@catalog.limit_option
@daemon_options
@json_option
@csv_option
def list_projects(
    source_app: str | None,
    team: str | None,
    workspace: str | None,
    limit: int | None,
    reach: Reach,
    *,
    unassigned: bool,
    with_spend: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List projects, by application and id: those that were registered, and those first seen in a record."""
    request = catalog_pb2.ListProjectsRequest(
        source_app=source_app, team=team, workspace=workspace, unassigned=unassigned, with_spend=with_spend
    )
    catalog.print_list(reach, _LISTING, request, limit, as_json=as_json, as_csv=as_csv)


@command.command("set", epilog="Example: costd projects set indexer --source-app shop --name Indexer --team search")
@click.argument("project", metavar="ID")
@catalog.whose_option
@catalog.name_option
@catalog.team_option
@catalog.workspace_option
@daemon_options
@json_option
def set_project(
    project: str,
    source_app: str | None,
    name: str | None,
    team: str | None,
    workspace: str | None,
    reach: Reach,
    *,
    as_json: bool,
) -> None:
    """Register or change the project with this ID; what is not given stays as it is."""
    request = catalog_pb2.SetProjectRequest(
        id=project, source_app=source_app, name=name, team=team, workspace=workspace
    )
    catalog.print_set("project", _row(catalog.change(reach, "SetProject", request)), as_json=as_json)


@command.command(
    "assign", epilog="Example: costd projects assign --unassigned --source-app shop --team search --workspace retail"
)
@click.argument("projects", nargs=-1, metavar="ID…")
@click.option("--unassigned", is_flag=True, help="All unassigned projects of --source-app.")
@catalog.whose_option
@click.option("--team", metavar="TEAM", help="The team they belong to; '' for none.")
@click.option("--workspace", metavar="WORKSPACE", help="The workspace they belong to; '' for their team's, if any.")
@daemon_options
@json_option
def assign(
    projects: tuple[str, ...],
    source_app: str | None,
    team: str | None,
    workspace: str | None,
    reach: Reach,
    *,
    unassigned: bool,
    as_json: bool,
) -> None:
    """Assign the projects with these IDs, or all unassigned ones; their history moves with them."""
    if not projects and not unassigned:
        raise click.UsageError("name the projects, or give --unassigned")
    if team is None and workspace is None:
        raise click.UsageError("say where they belong: --team, --workspace, or both")
    request = catalog_pb2.AssignRequest(
        projects=projects, unassigned=unassigned, source_app=source_app, team=team, workspace=workspace
    )
    catalog.assign(reach, request, as_json=as_json)


def _row(project: catalog_pb2.CatalogProject) -> Row:
    return {
        "id": project.id,
        "source_app": project.source_app,
        "name": project.name or None,
        "team": project.team or None,
        "workspace": project.workspace or None,
        "effective_workspace": project.effective_workspace or None,
        "registered": project.registered,
        "unassigned": project.unassigned,
        **catalog.times_of(project),
        **catalog.spend_of(project),
    }


def _cells(row: Row) -> dict[str, str]:
    through = " (its team's)" if row["effective_workspace"] != row["workspace"] else ""
    state = "unassigned" if row["unassigned"] else "registered" if row["registered"] else "assigned"
    return {
        "id": row["id"],
        "application": row["source_app"],
        "name": catalog.shown(row["name"]),
        "team": catalog.shown(row["team"]),
        "workspace": catalog.shown(row["effective_workspace"]) + through,
        "state": state,
    }


_LISTING = Listing("ListProjects", "projects", catalog_pb2.CatalogProject, _row, _cells)
