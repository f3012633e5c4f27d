"""`costd workspaces`: workspaces, and the teams and projects that belong to them."""

from __future__ import annotations

import click

from costd.cli import catalog
from costd.cli.catalog import Listing, Row
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.v1 import catalog_pb2


@click.group("workspaces", epilog="Example: costd workspaces assign retail --team search")
def command() -> None:
    """List workspaces, register them, assign teams and projects to them."""


@command.command("list", epilog="Example: costd workspaces list --spend")
@catalog.unregistered_option
@catalog.spend_option
@catalog.limit_option
@daemon_options
@json_option
@csv_option
def list_workspaces(
    limit: int | None, reach: Reach, *, unregistered: bool, with_spend: bool, as_json: bool, as_csv: bool
) -> None:
    """List workspaces, with what belongs to each: those that were registered, and those only named somewhere."""
    request = catalog_pb2.ListWorkspacesRequest(unregistered=unregistered, with_spend=with_spend)
    catalog.print_list(reach, _LISTING, request, limit, as_json=as_json, as_csv=as_csv)


@command.command("set", epilog='Example: costd workspaces set retail --name "Retail"')
@click.argument("workspace", metavar="ID")
@catalog.name_option
@daemon_options
@json_option
def set_workspace(workspace: str, name: str | None, reach: Reach, *, as_json: bool) -> None:
    """Register or change the workspace with this ID; what is not given stays as it is."""
    request = catalog_pb2.SetWorkspaceRequest(id=workspace, name=name)
    catalog.print_set("workspace", _row(catalog.change(reach, "SetWorkspace", request)), as_json=as_json)


@command.command("assign", epilog="Example: costd workspaces assign retail --team search --team ads --project indexer")
@click.argument("workspace", metavar="ID")
@click.option("--team", "teams", multiple=True, metavar="TEAM", help="A team that belongs to it. Repeatable.")
@click.option(
    "--project", "projects", multiple=True, metavar="PROJECT", help="A project, whatever its team. Repeatable."
)
@catalog.whose_option
@daemon_options
@json_option
def assign(
    workspace: str,
    teams: tuple[str, ...],
    projects: tuple[str, ...],
    source_app: str | None,
    reach: Reach,
    *,
    as_json: bool,
) -> None:
    """Assign teams and projects to the workspace with this ID; their history moves with them."""
    if not teams and not projects:
        raise click.UsageError("name what belongs to it: --team, --project, or both")
    request = catalog_pb2.AssignRequest(teams=teams, projects=projects, source_app=source_app, workspace=workspace)
    catalog.assign(reach, request, as_json=as_json)


def _row(workspace: catalog_pb2.CatalogWorkspace) -> Row:
    return {
        "id": workspace.id,
        "name": workspace.name or None,
        "registered": workspace.registered,
        "teams": workspace.teams,
        "projects": workspace.projects,
        **catalog.times_of(workspace),
        **catalog.spend_of(workspace),
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "id": row["id"],
        "name": catalog.shown(row["name"]),
        "state": "registered" if row["registered"] else "unregistered",
        **{name: catalog.shown(row[name]) for name in ("teams", "projects")},
    }


_LISTING = Listing("ListWorkspaces", "workspaces", catalog_pb2.CatalogWorkspace, _row, _cells)
