"""`costd export`: single records as JSON Lines or CSV, into a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click

from costd.cli.connection import Daemon
from costd.cli.filters import filter_option, read_filters
from costd.cli.lasting import lasting
from costd.cli.moments import iso, read_moment
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json
from costd.cli.progress import progress
from costd.cli.sink import sink
from costd.clock import Clock
from costd.domain.errors import ConfigError
from costd.v1 import records_pb2

#: How long an export waits for a daemon that is restarted while it goes on.
PATIENCE_S = 60.0


@click.command(
    "export", epilog="Example: costd export --format csv --since 2026-10-01 --until 2026-10-31 --output october.csv"
)
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), help="[default: by the name of --output, else jsonl]"
)
@click.option("--since", metavar="WHEN", help="From when: a time back from now (24h, 7d), a UTC date, ISO 8601.")
@click.option("--until", metavar="WHEN", help="Until when, in the same forms; a date is inclusive.")
@filter_option
@click.option("--output", metavar="FILE", help="Write to FILE, which appears when it is whole. [default: stdout]")
@daemon_options
@json_option
def command(
    form: str | None,
    since: str | None,
    until: str | None,
    filters: Sequence[str],
    output: str | None,
    reach: Reach,
    *,
    as_json: bool,
) -> None:
    """Write single records, in the order they were recorded, as `costd import` reads them.

    Costs are those of now; records that were taken back are left out. With --output, --json tells how many there were.
    """
    if as_json and output is None:
        raise click.UsageError("--json tells of the file that --output names; records are JSON with --format jsonl")
    request = _request(form or _form_of(output), since, until, filters)
    count, size = 0, 0
    # A bar over the records themselves would be in their way.
    with sink(output) as write, progress("exporting", shown=output is not None or not sys.stdout.isatty()) as advance:
        for chunk in lasting(reach, lambda daemon: _chunks(daemon, request), patience_s=PATIENCE_S):
            write(chunk.text)
            count, size = count + chunk.records, size + len(chunk.text)
            advance(chunk.position - chunk.start, chunk.end - chunk.start, f"{count:,} records")
    if as_json:
        print_json({"file": output, "format": request.format, "records": count, "bytes": size})
    elif output is not None:
        click.echo(f"{count:,} records in {output}")


def _chunks(daemon: Daemon, request: records_pb2.ExportRequest) -> Iterator[records_pb2.ExportChunk]:
    """The chunks; `request` is moved on with each that arrived."""
    for chunk in daemon.stream(daemon.query.Export, request):
        yield chunk
        request.after, request.end = chunk.position, chunk.end


def _form_of(output: str | None) -> str:
    return "csv" if output is not None and output.lower().endswith(".csv") else "jsonl"


def _request(form: str, since: str | None, until: str | None, filters: Sequence[str]) -> records_pb2.ExportRequest:
    request = records_pb2.ExportRequest(format=form, filters=read_filters(filters))
    now_ms = Clock().now_ms()
    if since is not None and since.strip().lower() != "all":
        request.since_ms = read_moment(since, now_ms, "--since")
    if until is not None:
        request.until_ms = read_moment(until, now_ms, "--until", end_of_day=True)
    if request.HasField("since_ms") and request.HasField("until_ms") and request.until_ms <= request.since_ms:
        raise ConfigError("--until", until, f"must be after --since ({iso(request.since_ms)})")
    return request
