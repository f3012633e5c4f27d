"""`costd void`: takes a wrong record back."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json
from costd.domain.money import usd_text
from costd.v1 import correction_pb2


@click.command("void", epilog="Example: costd void order-1234 --reason 'sent twice by a broken retry'")
@click.argument("record", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes into the audit trail.")
@daemon_options
@json_option
def command(record: str, reason: str, reach: Reach, *, as_json: bool) -> None:
    """Take back the record with this request id or event id.

    What it added to reports goes. The record itself stays, marked, and so does its id: sent again, it is still a
    duplicate. Counters do not run backward.
    """
    with connected(reach) as daemon:
        request = correction_pb2.VoidRequest(id=record, reason=reason)
        gone: correction_pb2.VoidResponse = daemon.ask(daemon.admin.Void, request)
    cost = usd_text(gone.cost_nano_usd) if gone.HasField("cost_nano_usd") else None
    if as_json:
        print_json({"event_id": gone.event_id, "cost_usd": cost, "was_void": gone.was_void})
        return
    worth = f"${cost}" if cost is not None else "unpriced"
    click.echo(f"{gone.event_id} was taken back before" if gone.was_void else f"took back {gone.event_id} ({worth})")
