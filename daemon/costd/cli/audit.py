"""`costd audit`: who did what."""

from __future__ import annotations

import json

import click

from costd.cli.connection import connected
from costd.cli.moments import iso
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table
from costd.v1 import audit_pb2 as pb

#: What a line of CSV tells, by the names it has in JSON.
_COLUMNS = ("id", "at", "actor", "action", "resource_type", "resource_id", "metadata")


@click.group("audit", epilog="Example: costd audit list")
def command() -> None:
    """Read the audit trail: who changed keys, budgets, prices, proxy endpoints and the rest."""


@command.command("list", epilog="Example: costd audit list --limit 100 --json")
@click.option("--limit", type=click.IntRange(1, 100), default=None, metavar="N", help="At most so many; 20 if not.")
@click.option("--cursor", metavar="CURSOR", default="", help="Go on after a page: its next_cursor.")
@daemon_options
@json_option
@csv_option
def list_audit(limit: int | None, cursor: str, reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List who changed what, newest first."""
    with connected(reach) as daemon:
        request = pb.ListAuditRequest(cursor=cursor, limit=limit or 0)
        answer: pb.ListAuditResponse = daemon.ask(daemon.admin.ListAudit, request)
    if as_json:
        lines = [_described(line) | {"metadata": json.loads(line.metadata)} for line in answer.lines]
        print_json({"lines": lines, "next_cursor": answer.next_cursor or None})
    elif as_csv:
        print_csv(_COLUMNS, ([_described(line)[name] for name in _COLUMNS] for line in answer.lines))
    else:
        rows = [
            [iso(line.created_ms), line.actor or "-", line.action, line.resource_id, line.metadata]
            for line in answer.lines
        ]
        print_table(["at", "actor", "action", "resource", "metadata"], rows)
        if answer.next_cursor:
            click.echo(f"there are more: --cursor {answer.next_cursor}", err=True)


def _described(line: pb.AuditLine) -> dict[str, object]:
    return {
        "id": line.id,
        "at": iso(line.created_ms),
        "actor": line.actor or None,
        "action": line.action,
        "resource_type": line.resource_type,
        "resource_id": line.resource_id,
        "metadata": line.metadata,
    }
