"""`costd sources`: the sidecars of a hub."""

from __future__ import annotations

import socket

import click

from costd.cli.connection import Daemon, connected
from costd.cli.moments import iso_or_none
from costd.cli.options import Reach, csv_option, hub_options, json_option
from costd.cli.output import print_csv, print_json, print_table
from costd.v1 import admin_pb2, source_pb2

#: What a line of CSV tells of a source, by the names it has in JSON.
_COLUMNS = (
    "id",
    "name",
    "organizations",
    "state",
    "host",
    "version",
    "last_seen",
    "watermark",
    "lag_records",
    "lag_seconds",
    "clock_skew_ms",
    "records",
    "duplicates",
    "quarantined",
    "lost",
    "epochs",
    "problem",
    "created",
)
#: Hosts that only say "every address of this machine".
_ANY_HOST = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - nothing listens here


@click.group("sources")
def command() -> None:
    """Make, list and forget sources: the sidecars of a hub."""


@command.command("create", epilog="Example: costd sources create web-1 --org acme")
@click.argument("name")
@click.option(
    "--org",
    "organizations",
    multiple=True,
    metavar="ORG",
    help="An organization it may record for; the first is that of its own records. Made if it is not there. "
    "Repeatable. [default: the hub's own]",
)
@click.option("--renew", is_flag=True, help="Make another key for the source of that name; the one before is revoked.")
@hub_options
@json_option
def create(name: str, organizations: tuple[str, ...], reach: Reach, *, renew: bool, as_json: bool) -> None:
    """Make a source called NAME and print the key that its sidecar joins with, which is shown this once.

    On stdout are the two lines of an environment file that the sidecar needs; what belongs to them goes to stderr.
    """
    request = source_pb2.CreateSourceRequest(name=name, organizations=organizations, renew_key=renew)
    with connected(reach, create=True) as daemon:
        made: source_pb2.CreateSourceResponse = daemon.ask(daemon.admin.CreateSource, request)
        address = _address(daemon, reach)
    if as_json:
        named = list(made.organizations)
        print_json({"id": made.id, "name": made.name, "key": made.key, "organizations": named})
        return
    click.echo(f'source "{name}" of {", ".join(made.organizations)}; for its sidecar, shown this once:', err=True)
    click.echo(f"COSTD_HUB={address}\nCOSTD_HUB_KEY={made.key}")


@command.command("list", epilog="Example: costd sources list --json")
@hub_options
@json_option
@csv_option
def list_sources(reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List a hub's sources by name: whether each is connected, and how far it has come."""
    with connected(reach) as daemon:
        answer: source_pb2.ListSourcesResponse = daemon.ask(daemon.admin.ListSources, source_pb2.ListSourcesRequest())
    sources = [_described(source) for source in answer.sources]
    if as_json:
        print_json({"sources": sources})
    elif as_csv:
        print_csv(_COLUMNS, ([source[name] for name in _COLUMNS] for source in sources))
    else:
        columns = ["name", "state", "host", "version", "last seen", "watermark", "lag", "problem"]
        colours = {"connected": "green", "away": "yellow"}
        print_table(columns, [_row(source) for source in answer.sources], numbers=["watermark"], colours=colours)


@command.command("forget", epilog="Example: costd sources forget web-1")
@click.argument("which", metavar="SOURCE")
@hub_options
@json_option
def forget(which: str, reach: Reach, *, as_json: bool) -> None:
    """Forget the source with this name or id: its key dies, the hub waits for it no more, what it brought stays."""
    with connected(reach) as daemon:
        gone: source_pb2.Source = daemon.ask(daemon.admin.ForgetSource, source_pb2.ForgetSourceRequest(id=which))
    if as_json:
        print_json(_described(gone))
        return
    click.echo(f'forgot "{gone.name}"; its {gone.records:,} records stay')


def _address(daemon: Daemon, reach: Reach) -> str:
    """Where sidecars reach the hub, as far as can be known here."""
    if reach.address is not None and not reach.address.startswith("unix:"):
        return reach.address
    if daemon.target.is_offline:
        listen = str(reach.load().config.grpc.listen or "")
    else:
        status: admin_pb2.StatusResponse = daemon.ask(daemon.admin.Status, admin_pb2.StatusRequest())
        listen = status.grpc_address
    if not listen:
        click.echo("this hub does not listen on TCP yet: give it grpc.listen", err=True)
    host, _, port = listen.rpartition(":")
    return f"{socket.getfqdn()}:{port}" if host in _ANY_HOST else listen


def _described(source: source_pb2.Source) -> dict[str, object]:
    return {
        "id": source.id,
        "name": source.name,
        "organizations": list(source.organizations),
        "state": source.state,
        "host": source.host or None,
        "version": source.version or None,
        "last_seen": iso_or_none(source.last_seen_ms),
        "watermark": source.watermark,
        "lag_records": source.lag_records if source.state == "connected" else None,
        "lag_seconds": source.lag_ms / 1000 if source.state == "connected" else None,
        "clock_skew_ms": source.clock_skew_ms,
        "records": source.records,
        "duplicates": source.duplicates,
        "quarantined": source.quarantined,
        "lost": source.lost,
        "epochs": source.epochs,
        "problem": source.problem or None,
        "created": iso_or_none(source.created_ms),
    }


def _row(source: source_pb2.Source) -> list[str]:
    lag = f"{source.lag_records:,} records, {source.lag_ms / 1000:.0f} s" if source.lag_records else "none"
    set_aside = [f"{source.quarantined:,} records set aside"] if source.quarantined else []
    lost = [f"{source.lost:,} numbers lost"] if source.lost else []
    return [
        source.name,
        source.state,
        source.host or "-",
        source.version or "-",
        iso_or_none(source.last_seen_ms) or "never",
        f"{source.watermark:,}",
        lag if source.state == "connected" else "-",
        "; ".join([*filter(None, [source.problem]), *set_aside, *lost]) or "-",
    ]
