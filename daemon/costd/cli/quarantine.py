"""`costd quarantine`: what a hub could not take."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.moments import iso_or_none
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table
from costd.v1 import source_pb2

#: What a line of CSV tells of an entry, by the names it has in JSON.
_COLUMNS = (
    "id",
    "source",
    "state",
    "first",
    "last",
    "records",
    "cost_usd",
    "reason",
    "at",
    "settled",
    "ordered",
)


@click.group("quarantine", epilog="Example: costd quarantine list")
def command() -> None:
    """List, retry and drop what a hub could not take."""


@command.command("list", epilog="Example: costd quarantine list --json")
@click.option("--all", "settled", is_flag=True, help="Settled entries too.")
@daemon_options
@json_option
@csv_option
def list_quarantine(reach: Reach, *, settled: bool, as_json: bool, as_csv: bool) -> None:
    """List what a hub could not take and keeps apart, newest first: at the hub of all its sources, else its own."""
    request = source_pb2.ListQuarantineRequest(all=settled)
    with connected(reach) as daemon:
        answer: source_pb2.ListQuarantineResponse = daemon.ask(daemon.admin.ListQuarantine, request)
    entries = [_described(entry) for entry in answer.entries]
    if as_json:
        print_json({"entries": entries})
    elif as_csv:
        print_csv(_COLUMNS, ([entry[name] for name in _COLUMNS] for entry in entries))
    else:
        columns = ["id", "source", "state", "records", "cost (USD)", "since", "reason"]
        print_table(columns, [_row(entry) for entry in answer.entries], numbers=["records", "cost (USD)"])


@command.command("retry", epilog="Example: costd quarantine retry 01985a3c")
@click.argument("which", metavar="ID")
@daemon_options
@json_option
def retry(which: str, reach: Reach, *, as_json: bool) -> None:
    """Try again to take what has this ID, or the only one that begins so.

    At a sidecar, the hub is asked to.
    """
    _settle(which, "retry", reach, as_json=as_json)


@command.command("drop", epilog="Example: costd quarantine drop 01985a3c")
@click.argument("which", metavar="ID")
@daemon_options
@json_option
def drop(which: str, reach: Reach, *, as_json: bool) -> None:
    """Give up what has this ID: it counts nowhere from then on, at its source neither.

    At a sidecar, the hub is asked to.
    """
    _settle(which, "drop", reach, as_json=as_json)


def _settle(which: str, action: str, reach: Reach, *, as_json: bool) -> None:
    request = source_pb2.SettleQuarantineRequest(id=which, action=action)
    with connected(reach) as daemon:
        entry: source_pb2.Quarantined = daemon.ask(daemon.admin.SettleQuarantine, request)
    if as_json:
        print_json(_described(entry))
        return
    what = f"{entry.records:,} records (${entry.cost_usd})"
    if entry.ordered:
        click.echo(f"the hub is asked to {entry.ordered} {what}; `costd quarantine list --all` shows what came of it")
    else:
        click.echo(f"{entry.state} {what}")


def _described(entry: source_pb2.Quarantined) -> dict[str, object]:
    return {
        "id": entry.id,
        "source": entry.source or None,
        "state": entry.state,
        "first": entry.first,
        "last": entry.last,
        "records": entry.records,
        "cost_usd": entry.cost_usd,
        "reason": entry.reason,
        "at": iso_or_none(entry.at_ms),
        "settled": iso_or_none(entry.settled_ms),
        "ordered": entry.ordered or None,
    }


def _row(entry: source_pb2.Quarantined) -> list[str]:
    state = f"{entry.state}, to {entry.ordered}" if entry.ordered else entry.state
    since = iso_or_none(entry.at_ms) or "-"
    return [entry.id, entry.source or "-", state, f"{entry.records:,}", entry.cost_usd, since, entry.reason]
