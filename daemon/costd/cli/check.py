"""`costd check`: whether the ledger is sound."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.main import ANSWER_IS_NO
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, safe
from costd.v1 import admin_pb2


@click.command("check", epilog="Example: costd check --data-dir /srv/costd")
@daemon_options
@json_option
@click.pass_context
def command(context: click.Context, reach: Reach, *, as_json: bool) -> None:
    """Prove that rollups equal events and that the database is sound; exit 1 if not.

    Reads the whole ledger.
    """
    with connected(reach) as daemon:
        answer: admin_pb2.CheckResponse = daemon.ask(daemon.admin.Check, admin_pb2.CheckRequest(), timeout_s=None)
    if as_json:
        counts = {"ok": answer.ok, "events": answer.events, "rollups": answer.rollups}
        print_json({**counts, "findings": list(answer.findings)})
    else:
        for finding in answer.findings:
            click.echo(safe(finding))
        verdict = "sound" if answer.ok else "NOT sound"
        click.echo(f"the ledger is {verdict}: {answer.events:,} events, {answer.rollups:,} rollups")
    if not answer.ok:
        context.exit(ANSWER_IS_NO)
