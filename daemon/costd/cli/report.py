"""`costd report`: what was used and what it cost, grouped by any dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import click

from costd.cli.connection import connected
from costd.cli.filters import filter_option, read_dimension, read_filters
from costd.cli.moments import iso, read_moment
from costd.cli.options import Reach, csv_option, daemon_options, json_option, plot_option
from costd.cli.output import print_csv, print_json, print_table
from costd.cli.suggestions import dimensions
from costd.clock import Clock
from costd.domain.errors import ConfigError
from costd.domain.series import DIMENSIONS
from costd.v1 import query_pb2

_NUMBERS = ("requests", "errors", "input_tokens", "output_tokens", "cost_usd", "unpriced")


@click.command("report", epilog="Example: costd report --by team,model --since 30d --filter provider=openai")
@click.option(
    "--by",
    default="provider,model",
    show_default=True,
    metavar="NAMES",
    shell_complete=dimensions,
    help=f"Dimensions to group by, with commas: {', '.join(DIMENSIONS)}; empty for the total only.",
)
@click.option(
    "--since",
    default="7d",
    show_default=True,
    metavar="WHEN",
    help='From when: a time back from now (30m, 24h, 7d, 4w), a UTC date, ISO 8601, or "all".',
)
@click.option("--until", metavar="WHEN", help="Until when, in the same forms; a date is inclusive. [default: now]")
@filter_option
@click.option("--bucket", type=click.Choice(["hour", "day"]), help="A row for each hour or (UTC) day as well.")
@daemon_options
@json_option
@csv_option
@plot_option
def command(
    by: str,
    since: str,
    until: str | None,
    filters: tuple[str, ...],
    bucket: str | None,
    reach: Reach,
    *,
    as_json: bool,
    as_csv: bool,
    as_plot: bool,
) -> None:
    """Show what was used and what it cost, the dearest first.

    Costs are exact. Records that no price matches are counted as unpriced, never as free. Moments are widened to
    whole hours. With --plot the first dimension of --by is drawn by day, or by hour with --bucket hour.
    """
    dimensions = _dimensions(by)[:1] if as_plot else _dimensions(by)
    if as_plot:
        bucket = bucket or "day"
    request = _request(dimensions, since, until, filters, bucket)
    with connected(reach) as daemon:
        answer: query_pb2.SummarizeResponse = daemon.ask(daemon.query.Summarize, request)
    leading = [*(["time"] if bucket else []), *dimensions]
    rows = [_described(row, dimensions, has_time=bool(bucket)) for row in answer.rows]
    if as_plot:
        _plot(answer, bucket or "day")
    elif as_json:
        print_json({"rows": rows, "total": _described(answer.total, (), has_time=False)})
    elif as_csv:
        columns = (*leading, *_NUMBERS)
        print_csv(columns, ([row[column] for column in columns] for row in rows))
    else:
        _print(leading, rows, _described(answer.total, (), has_time=False))


def _plot(answer: query_pb2.SummarizeResponse, bucket: str) -> None:
    from costd.cli.plot import chart  # noqa: PLC0415 - only who draws waits for it

    spend: dict[str, dict[int, Decimal]] = {}
    for row in answer.rows:
        name = next(iter(row.dimensions.values()), "") if row.dimensions else "all"
        spend.setdefault(name, {})[row.bucket_ms] = Decimal(row.cost_usd or "0")
    if not spend:
        click.echo("no records in this time")
        return
    click.echo(chart(spend, bucket))
    unpriced = f", {answer.total.unpriced:,} of them unpriced" if answer.total.unpriced else ""
    click.echo(f"${answer.total.cost_usd or '0'} for {answer.total.requests:,} records{unpriced}")


def _request(
    dimensions: Sequence[str], since: str, until: str | None, filters: Sequence[str], bucket: str | None
) -> query_pb2.SummarizeRequest:
    now_ms = Clock().now_ms()
    request = query_pb2.SummarizeRequest(group_by=dimensions, filters=read_filters(filters), bucket=bucket or "")
    if since.strip().lower() != "all":
        request.since_ms = read_moment(since, now_ms, "--since")
    if until is not None:
        request.until_ms = read_moment(until, now_ms, "--until", end_of_day=True)
    if request.HasField("since_ms") and request.HasField("until_ms") and request.until_ms <= request.since_ms:
        raise ConfigError("--until", until, f"must be after --since ({iso(request.since_ms)})")
    return request


def _dimensions(text: str) -> list[str]:
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    return [read_dimension(name, "--by") for name in names]


def _described(row: query_pb2.SummaryRow, dimensions: Sequence[str], *, has_time: bool) -> dict[str, object]:
    return {
        **({"time": iso(row.bucket_ms)} if has_time else {}),
        **{name: row.dimensions.get(name, "") for name in dimensions},
        "requests": row.requests,
        "errors": row.errors,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": row.cost_usd or "0",
        "unpriced": row.unpriced,
    }


def _print(leading: Sequence[str], rows: Sequence[dict[str, object]], total: dict[str, object]) -> None:
    if not rows and not total["requests"]:
        click.echo("no records in this time")
        return
    numbers = ["requests", "errors", "input tokens", "output tokens", "cost"]
    cells = [[str(row[name]) or "-" for name in leading] + _cells(row) for row in rows]
    footer = [*(["total", *([""] * (len(leading) - 1))] if leading else []), *_cells(total)]
    if not leading:
        print_table(numbers, [footer], numbers=numbers)
        return
    print_table([*leading, *numbers], cells, numbers=numbers, footer=footer)


def _cells(row: dict[str, object]) -> list[str]:
    counts = [f"{row[name]:,}" for name in ("requests", "errors", "input_tokens", "output_tokens")]
    return [
        *counts,
        _cost(str(row["cost_usd"]), unpriced=int(str(row["unpriced"])), requests=int(str(row["requests"]))),
    ]


def _cost(usd: str, *, unpriced: int, requests: int) -> str:
    """The cost for people: what has no price is said to have none, and never shown as $0."""
    if not unpriced:
        return f"${usd}"
    return f"unpriced: {unpriced:,}" if unpriced >= requests else f"${usd} + unpriced: {unpriced:,}"
