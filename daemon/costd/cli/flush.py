"""`costd flush`: everything to the hub, now."""

from __future__ import annotations

import click

from costd.cli.connection import ANSWER_S, connected
from costd.cli.main import ANSWER_IS_NO
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, safe
from costd.v1 import source_pb2


@click.command("flush", epilog="Example: costd flush --timeout 60")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.001, 300),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the hub, up to 300.",
)
@daemon_options
@json_option
@click.pass_context
def command(context: click.Context, timeout_s: float, reach: Reach, *, as_json: bool) -> None:
    """Forward what waits at once, and wait until the hub has it.

    Exits 0 when the hub has everything recorded before the command, or when there is no hub; with 1 and the reason
    when not. Nothing is lost then: what waits goes when the hub is back.
    """
    request = source_pb2.FlushRequest(timeout_ms=max(1, round(timeout_s * 1000)))
    with connected(reach) as daemon:
        done: source_pb2.FlushResponse = daemon.ask(daemon.admin.Flush, request, timeout_s + ANSWER_S)
    if as_json:
        print_json(
            {
                "flushed": done.flushed,
                "watermark": done.watermark,
                "unforwarded_records": done.unforwarded_records,
                "problem": done.problem or None,
            }
        )
    elif done.flushed:
        click.echo("the hub has everything" if done.watermark else "nothing waits for a hub")
    if not done.flushed:
        click.echo(f"costd: {safe(done.problem)}", err=True)
        context.exit(ANSWER_IS_NO)
