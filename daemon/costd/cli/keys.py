"""`costd keys`: who may talk to a daemon."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.moments import iso_or_none
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table
from costd.cli.suggestions import roles
from costd.domain.access import ROLES, parse_roles
from costd.v1 import admin_pb2

#: What a line of CSV tells of a key, by the names it has in JSON.
_COLUMNS = (
    "id",
    "name",
    "organization",
    "key_prefix",
    "roles",
    "team",
    "project",
    "source_app",
    "created",
    "last_used",
    "revoked",
)


@click.group("keys")
def command() -> None:
    """Make, list and revoke keys."""


@command.command("create", epilog="Example: costd keys create checkout --role ingest --team payments")
@click.argument("name")
@click.option(
    "--role",
    multiple=True,
    metavar="ROLE",
    shell_complete=roles,
    help=f"What it may do: {', '.join(ROLES)}. Repeatable. [default: ingest,read]",
)
@click.option("--team", default="", metavar="TEAM", help="Every record with this key is this team's.")
@click.option("--project", default="", metavar="PROJECT", help="Every record with this key is this project's.")
@click.option("--source-app", default="", metavar="APP", help="Every record with this key is this application's.")
@click.option("--description", default="", metavar="TEXT", help="A note for people.")
@click.option("--org", default="", metavar="ORG", help="The organization to make it for. [default: the maker's own]")
@daemon_options
@json_option
def create(
    name: str,
    role: tuple[str, ...],
    team: str,
    project: str,
    source_app: str,
    description: str,
    org: str,
    reach: Reach,
    *,
    as_json: bool,
) -> None:
    """Make a key called NAME and print its secret, which is shown this once.

    The secret alone goes to stdout, what belongs to it to stderr.
    """
    request = admin_pb2.CreateKeyRequest(
        name=name,
        roles=parse_roles(",".join(role), "--role"),
        team=team,
        project=project,
        source_app=source_app,
        description=description,
        organization=org,
    )
    with connected(reach, create=True) as daemon:
        made: admin_pb2.CreateKeyResponse = daemon.ask(daemon.admin.CreateKey, request)
    if as_json:
        key = made.key
        print_json({"id": key.id, "name": key.name, "key": made.secret, "key_prefix": key.key_prefix})
        return
    click.echo(f'key "{name}" ({", ".join(made.key.roles)}), shown this once:', err=True)
    click.echo(made.secret)


@command.command("list", epilog="Example: costd keys list --csv")
@daemon_options
@json_option
@csv_option
def list_keys(reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List all keys, newest first, without their secrets.

    An admin of the installation's own organization sees, and may revoke, those of every other, too.
    """
    with connected(reach) as daemon:
        answer: admin_pb2.ListKeysResponse = daemon.ask(daemon.admin.ListKeys, admin_pb2.ListKeysRequest())
    keys = [_described(key) for key in answer.keys]
    if as_json:
        print_json({"keys": keys})
        return
    if as_csv:
        print_csv(_COLUMNS, ([key[name] for name in _COLUMNS] for key in keys))
        return
    columns = ["name", "organization", "prefix", "roles", "bound to", "created", "last used", "state"]
    print_table(columns, [_row(key) for key in answer.keys])


@command.command("revoke", epilog="Example: costd keys revoke checkout")
@click.argument("which", metavar="ID")
@daemon_options
@json_option
def revoke(which: str, reach: Reach, *, as_json: bool) -> None:
    """Revoke the key with this ID, prefix, or name if only one living key has it."""
    with connected(reach) as daemon:
        gone: admin_pb2.Key = daemon.ask(daemon.admin.RevokeKey, admin_pb2.RevokeKeyRequest(id=which))
    if as_json:
        print_json(_described(gone))
        return
    click.echo(f'revoked "{gone.name}" ({gone.key_prefix}…)')


def _described(key: admin_pb2.Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "organization": key.organization,
        "key_prefix": key.key_prefix,
        "roles": list(key.roles),
        "team": key.team,
        "project": key.project,
        "source_app": key.source_app,
        "created": iso_or_none(key.created_ms),
        "last_used": iso_or_none(key.last_used_ms),
        "revoked": iso_or_none(key.revoked_ms),
    }


def _row(key: admin_pb2.Key) -> list[str]:
    bindings = {"team": key.team, "project": key.project, "source_app": key.source_app}
    return [
        key.name,
        key.organization,
        key.key_prefix,
        ",".join(key.roles),
        ", ".join(f"{name}={value}" for name, value in bindings.items() if value) or "-",
        iso_or_none(key.created_ms) or "-",
        iso_or_none(key.last_used_ms) or "never",
        f"revoked {iso_or_none(key.revoked_ms)}" if key.revoked_ms else "living",
    ]
