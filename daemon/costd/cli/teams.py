"""`costd teams`: teams, what belongs to them, and the workspaces they belong to."""

from __future__ import annotations

import click

from costd.cli import catalog
from costd.cli.catalog import Listing, Row
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.v1 import catalog_pb2


@click.group("teams", epilog="Example: costd teams list --spend")
def command() -> None:
    """List teams, register them, assign them to workspaces."""


@command.command("list", epilog="Example: costd teams list --spend")
@catalog.workspace_filter
@catalog.unregistered_option
@catalog.spend_option
@catalog.limit_option
@daemon_options
@json_option
@csv_option
def list_teams(
    workspace: str | None,
    limit: int | None,
    reach: Reach,
    *,
    unregistered: bool,
    with_spend: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List teams, with what belongs to each: those that were registered, and those only named somewhere."""
    request = catalog_pb2.ListTeamsRequest(workspace=workspace, unregistered=unregistered, with_spend=with_spend)
    catalog.print_list(reach, _LISTING, request, limit, as_json=as_json, as_csv=as_csv)


@command.command("set", epilog='Example: costd teams set search --name "Search and ads" --workspace retail')
@click.argument("team", metavar="ID")
@catalog.name_option
@catalog.workspace_option
@daemon_options
@json_option
def set_team(team: str, name: str | None, workspace: str | None, reach: Reach, *, as_json: bool) -> None:
    """Register or change the team with this ID; what is not given stays as it is."""
    request = catalog_pb2.SetTeamRequest(id=team, name=name, workspace=workspace)
    catalog.print_set("team", _row(catalog.change(reach, "SetTeam", request)), as_json=as_json)


@command.command("assign", epilog="Example: costd teams assign search ads --workspace retail")
@click.argument("teams", nargs=-1, required=True, metavar="ID…")
@click.option("--workspace", required=True, metavar="WORKSPACE", help="The workspace they belong to; '' for none.")
@daemon_options
@json_option
def assign(teams: tuple[str, ...], workspace: str, reach: Reach, *, as_json: bool) -> None:
    """Assign the teams with these IDs to a workspace; their history moves with them."""
    catalog.assign(reach, catalog_pb2.AssignRequest(teams=teams, workspace=workspace), as_json=as_json)


def _row(team: catalog_pb2.CatalogTeam) -> Row:
    return {
        "id": team.id,
        "name": team.name or None,
        "workspace": team.workspace or None,
        "registered": team.registered,
        "projects": team.projects,
        "users": team.users,
        "keys": team.keys,
        **catalog.times_of(team),
        **catalog.spend_of(team),
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "id": row["id"],
        "name": catalog.shown(row["name"]),
        "workspace": catalog.shown(row["workspace"]),
        "state": "registered" if row["registered"] else "unregistered",
        **{name: catalog.shown(row[name]) for name in ("projects", "users", "keys")},
    }


_LISTING = Listing("ListTeams", "teams", catalog_pb2.CatalogTeam, _row, _cells)
