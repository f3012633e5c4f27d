"""`costd users`: the users of applications, and their teams."""

from __future__ import annotations

import click

from costd.cli import catalog
from costd.cli.catalog import Listing, Row
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.v1 import catalog_pb2


@click.group("users", epilog="Example: costd users assign u1 u2 --team search")
def command() -> None:
    """List users, name them, assign them to teams."""


@command.command("list", epilog="Example: costd users list --source-app shop --spend")
@catalog.app_filter
@catalog.team_filter
@catalog.spend_option
@catalog.limit_option
@daemon_options
@json_option
@csv_option
def list_users(
    source_app: str | None,
    team: str | None,
    limit: int | None,
    reach: Reach,
    *,
    with_spend: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List users, by application and id: those that applications registered, and those first seen in a record."""
    request = catalog_pb2.ListUsersRequest(source_app=source_app, team=team, with_spend=with_spend)
    catalog.print_list(reach, _LISTING, request, limit, as_json=as_json, as_csv=as_csv)


@command.command("set", epilog='Example: costd users set u1 --source-app shop --name "Ada Lovelace" --team search')
@click.argument("user", metavar="ID")
@catalog.whose_option
@click.option("--email", metavar="ADDRESS", help="The e-mail address; '' for none.")
@catalog.name_option
@catalog.team_option
@daemon_options
@json_option
def set_user(
    user: str,
    source_app: str | None,
    email: str | None,
    name: str | None,
    team: str | None,
    reach: Reach,
    *,
    as_json: bool,
) -> None:
    """Create or change the user with this ID; what is not given stays as it is."""
    request = catalog_pb2.SetUserRequest(id=user, source_app=source_app, email=email, name=name, team=team)
    catalog.print_set("user", _row(catalog.change(reach, "SetUser", request)), as_json=as_json)


@command.command("assign", epilog="Example: costd users assign u1 u2 --team search")
@click.argument("users", nargs=-1, required=True, metavar="ID…")
@click.option("--team", required=True, metavar="TEAM", help="The team they belong to; '' for none.")
@catalog.whose_option
@daemon_options
@json_option
def assign(users: tuple[str, ...], team: str, source_app: str | None, reach: Reach, *, as_json: bool) -> None:
    """Assign the users with these IDs to a team; what they have spent in no other team's name moves with them."""
    request = catalog_pb2.AssignRequest(users=users, team=team, source_app=source_app)
    catalog.assign(reach, request, as_json=as_json)


def _row(user: catalog_pb2.CatalogUser) -> Row:
    return {
        "id": user.id,
        "source_app": user.source_app,
        "email": user.email or None,
        "name": user.name or None,
        "team": user.team or None,
        **catalog.times_of(user),
        **catalog.spend_of(user),
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "id": row["id"],
        "application": row["source_app"],
        "name": catalog.shown(row["name"]),
        "e-mail": catalog.shown(row["email"]),
        "team": catalog.shown(row["team"]),
    }


_LISTING = Listing("ListUsers", "users", catalog_pb2.CatalogUser, _row, _cells)
