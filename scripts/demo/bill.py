"""What came of it: the hub's totals beside the sidecars', its sources, the bill, and how fresh it all is."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import NamedTuple

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from scripts.demo.daemon import Daemon

from costd.v1 import query_pb2, source_pb2

console = Console(width=None if sys.stdout.isatty() else 110)


class Totals(NamedTuple):
    """What a ledger sums to; the cost in USD is exact."""

    requests: int
    input_tokens: int
    output_tokens: int
    unpriced: int
    cost_usd: Decimal


def agrees(hub: Daemon, sidecars: tuple[Daemon, ...]) -> bool:
    """Whether the hub's totals are the sum of the sidecars'."""
    return _totals(hub) == _sum([_totals(sidecar) for sidecar in sidecars])


def _sum(parts: list[Totals]) -> Totals:
    return Totals(*(sum(column) for column in zip(*parts, strict=True)))  # type: ignore[arg-type]


def _totals(daemon: Daemon) -> Totals:
    """What a daemon's ledger sums to, corrections included."""
    total = daemon.query.Summarize(query_pb2.SummarizeRequest(), metadata=daemon.metadata).total
    return Totals(
        total.requests, total.input_tokens, total.output_tokens, total.unpriced, Decimal(total.cost_usd or "0")
    )


def show_totals(title: str, hub: Daemon, sidecars: tuple[Daemon, ...]) -> None:
    """The ledgers side by side."""
    table = Table(title=title, title_justify="left")
    table.add_column("ledger")
    for name in ("requests", "input tokens", "output tokens", "unpriced", "USD"):
        table.add_column(name, justify="right")
    parts = [_totals(sidecar) for sidecar in sidecars]
    for sidecar, part in zip(sidecars, parts, strict=True):
        _add_row(table, f"{sidecar.name} (sidecar)", part)
    table.add_section()
    _add_row(table, "both sidecars", _sum(parts))
    _add_row(table, "the hub", _totals(hub))
    console.print(table)


def _add_row(table: Table, name: str, of: Totals) -> None:
    table.add_row(name, *(f"{number:,}" for number in of[:-1]), f"{of.cost_usd:.9f}")


def show_sources(hub: Daemon) -> None:
    """The sidecars as the hub's operator sees them."""
    table = Table(title="costd sources list", title_justify="left")
    for name in ("source", "state", "records", "counted already", "clock"):
        table.add_column(name, justify="left" if name in {"source", "state"} else "right")
    for source in hub.admin.ListSources(source_pb2.ListSourcesRequest(), metadata=hub.metadata).sources:
        numbers = f"{source.records:,}", f"{source.duplicates:,}"
        table.add_row(source.name, source.state, *numbers, f"{source.clock_skew_ms:+} ms")
    console.print(table)


def show_bill(hub: Daemon) -> None:
    """The company's bill by model and by application, from the hub's rollups."""
    for dimension in ("model", "source_app"):
        request = query_pb2.SummarizeRequest(group_by=[dimension])
        summary = hub.query.Summarize(request, metadata=hub.metadata)
        table = Table(title=f"The bill by {dimension}", title_justify="left", show_footer=True)
        table.add_column(dimension, footer="total")
        for name in ("requests", "input_tokens", "output_tokens"):
            table.add_column(name.replace("_", " "), justify="right", footer=f"{getattr(summary.total, name):,}")
        table.add_column("USD", justify="right", footer=summary.total.cost_usd)
        for row in summary.rows:
            cost = "no price" if row.unpriced == row.requests else row.cost_usd
            numbers = (row.requests, row.input_tokens, row.output_tokens)
            table.add_row(row.dimensions[dimension] or "(none)", *(f"{number:,}" for number in numbers), cost)
        console.print(table)
    month = hub.http("GET", "/api/costs/all")["data"]
    console.print(f"This month with the entries of bills: [bold]{month['total']} USD[/], {month['byProvider']}\n")


def show_state(hub: Daemon) -> None:
    """What Prometheus sees at the hub."""
    page = hub.http("GET", "/metrics").splitlines()
    costs = [line for line in page if line.startswith("costd_cost_usd_total")]
    lines = [*costs[:3], *(line for line in page if line.startswith(("costd_records_", "costd_queue_records")))]
    console.print(Panel("\n".join(lines), title="/metrics of the hub (excerpt)", title_align="left", highlight=True))
