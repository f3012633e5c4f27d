"""`costd prices reprice` and `costd prices whatif`: recorded usage by other prices, in earnest or only asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal

import click

from costd.cli.connection import connected
from costd.cli.filters import read_filters
from costd.cli.moments import iso, read_moment
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table
from costd.cli.progress import progress
from costd.clock import Clock
from costd.domain.errors import ConfigError
from costd.v1 import correction_pb2

_DEFAULT_SINCE = "30d"
_COLUMNS = (
    "provider",
    "model",
    "records",
    "changed",
    "before_usd",
    "after_usd",
    "difference_usd",
    "newly_priced",
    "newly_unpriced",
    "unpriced",
    "unrated",
)


@click.command(
    "reprice",
    epilog="Example: costd prices reprice --model gpt-4o --since 2026-11-01 --reason 'contract of November'",
)
@click.option("--model", metavar="MODEL", help="Only this model's records, by the name they were sent with.")
@click.option("--provider", metavar="PROVIDER", help="Only this provider's records.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only records whose dimension has this value. Repeatable.",
)
@click.option("--since", default="all", metavar="WHEN", show_default=True, help='Only records from then on, or "all".')
@click.option("--until", metavar="WHEN", help="Only records before then; a date is inclusive. [default: now]")
@click.option(
    "--at-prices-of", metavar="DATE", help="By the prices of that UTC day, instead of each record's own time."
)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit trail.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Neither show the difference first nor ask.")
@daemon_options
@json_option
@csv_option
def reprice(
    model: str | None,
    provider: str | None,
    filters: tuple[str, ...],
    since: str,
    until: str | None,
    at_prices_of: str | None,
    reason: str,
    reach: Reach,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Rate recorded usage again, by the prices in force for each record's own time.

    Shows the difference first. Nothing is edited: what changes is appended as adjustments, reports follow, and the
    audit trail says so. A run that was stopped goes on when the same command is given again. Costs that callers sent
    themselves stay.
    """
    if dry_run and yes:
        raise click.UsageError("--dry-run and --yes exclude each other")
    request = correction_pb2.RepriceRequest(filters=_filters(model, provider, filters), reason=reason, dry_run=True)
    _set_span(request, since, until)
    if at_prices_of is not None:
        request.prices_of_ms = read_moment(at_prices_of, Clock().now_ms(), "--at-prices-of")
    with connected(reach) as daemon:
        seen = None
        if not yes:
            seen = _watch(daemon.stream(daemon.admin.Reprice, request), "looking")
            if not as_json:
                _show(seen, "now", "then", as_csv=as_csv)
            changes = sum(row.changed for row in seen.models)
            if dry_run or not (changes or seen.resumed):
                if as_json:
                    print_json(_described(seen) | {"applied": False})
                return
            if sys.stdin.isatty():
                click.confirm(f"Append adjustments to {changes:,} records?", abort=True, err=True)
        request.dry_run = False
        done = _watch(daemon.stream(daemon.admin.Reprice, request), "repricing")
    if as_json:
        print_json(_described(seen or done) | {"applied": True, "correction": _finished(done.finished)})
        return
    if seen is None:
        _show(done, "before", "now", as_csv=as_csv)
    click.echo(
        f"adjusted {done.finished.adjusted:,} records: raised by ${done.finished.raised_usd}, "
        f"lowered by ${done.finished.lowered_usd} (correction {done.finished.id}"
        f"{', begun by an earlier run' if done.resumed else ''})",
        err=as_csv,
    )


@click.command("whatif", epilog="Example: costd prices whatif --from gpt-4o --to gpt-4o-mini --since 30d")
@click.option(
    "--from", "from_model", required=True, metavar="MODEL", help="The model whose records are priced otherwise."
)
@click.option("--to", "to_model", required=True, metavar="MODEL", help="The model to price them as.")
@click.option("--from-provider", metavar="PROVIDER", help="Only this provider's records.")
@click.option(
    "--to-provider", default="", metavar="PROVIDER", help="Who sells the other model. [default: found by its name]"
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only records whose dimension has this value. Repeatable.",
)
@click.option(
    "--since", default=_DEFAULT_SINCE, metavar="WHEN", show_default=True, help='Only records from then on, or "all".'
)
@click.option("--until", metavar="WHEN", help="Only records before then; a date is inclusive. [default: now]")
@daemon_options
@json_option
@csv_option
def whatif(
    from_model: str,
    to_model: str,
    from_provider: str | None,
    to_provider: str,
    filters: tuple[str, ...],
    since: str,
    until: str | None,
    reach: Reach,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what the same traffic would have cost on another model; nothing is changed."""
    request = correction_pb2.WhatIfRequest(
        filters=_filters(from_model, from_provider, filters), to_model=to_model, to_provider=to_provider
    )
    _set_span(request, since, until)
    with connected(reach) as daemon:
        seen = _watch(daemon.stream(daemon.admin.WhatIf, request), "pricing")
    if as_json:
        print_json(_described(seen))
    else:
        _show(seen, "as recorded", f"as {to_model}", as_csv=as_csv)


def _filters(model: str | None, provider: str | None, texts: Sequence[str]) -> dict[str, str]:
    filters = read_filters(texts)
    for name, value in (("model", model), ("provider", provider)):
        if value is not None and filters.setdefault(name, value) != value:
            raise ConfigError(f"--{name}", value, "is contradicted by --filter")
    return filters


def _set_span(
    request: correction_pb2.RepriceRequest | correction_pb2.WhatIfRequest, since: str, until: str | None
) -> None:
    now_ms = Clock().now_ms()
    if since.strip().lower() != "all":
        request.since_ms = read_moment(since, now_ms, "--since")
    if until is not None:
        request.until_ms = read_moment(until, now_ms, "--until", end_of_day=True)
        if request.HasField("since_ms") and request.until_ms <= request.since_ms:
            raise ConfigError("--until", until, f"must be after --since ({iso(request.since_ms)})")


def _watch(steps: Iterable[correction_pb2.RepriceProgress], what: str) -> correction_pb2.RepriceProgress:
    """The last message, with a bar while it is waited for."""
    last = correction_pb2.RepriceProgress()
    with progress(what) as show:
        for step in steps:
            show(step.done, step.through)
            last = step
    return last


def _show(seen: correction_pb2.RepriceProgress, before: str, after: str, *, as_csv: bool) -> None:
    if as_csv:
        print_csv(_COLUMNS, ([row[name] for name in _COLUMNS] for row in _rows(seen)))
    else:
        _print(seen, before, after)


def _print(seen: correction_pb2.RepriceProgress, before: str, after: str) -> None:
    rows = sorted(seen.models, key=lambda row: (-abs(_difference(row)), row.provider, row.model))
    columns = ["provider", "model", "records", "changed", before, after, "difference", "unpriced"]
    table = [
        [
            row.provider or "-",
            row.model,
            f"{row.events:,}",
            f"{row.changed:,}",
            f"${row.before_usd}",
            f"${row.after_usd}",
            _signed(_difference(row)),
            f"{row.unpriced:,}",
        ]
        for row in rows
    ]
    total = [
        Decimal(sum(map(Decimal, figures)))
        for figures in zip(*((r.before_usd, r.after_usd) for r in rows), strict=True)
    ]
    footer = None
    if total:
        counts = (sum(row.events for row in rows), sum(row.changed for row in rows), sum(row.unpriced for row in rows))
        figures = [f"${_plain(total[0])}", f"${_plain(total[1])}", _signed(total[1] - total[0])]
        footer = ["total", "", f"{counts[0]:,}", f"{counts[1]:,}", *figures, f"{counts[2]:,}"]
    print_table(columns, table, numbers=columns[2:], footer=footer)
    if seen.kept:
        click.echo(
            f"{seen.kept:,} records keep their cost: it is the caller's own word, or they were taken back", err=True
        )
    if seen.unratable:
        click.echo(f"{seen.unratable:,} records cannot be rated by these prices and stay as they are", err=True)


def _difference(row: correction_pb2.ModelChange) -> Decimal:
    return Decimal(row.after_usd) - Decimal(row.before_usd)


def _signed(amount: Decimal) -> str:
    return f"{'+' if amount > 0 else '-' if amount < 0 else ''}${_plain(abs(amount))}"


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _rows(seen: correction_pb2.RepriceProgress) -> list[dict[str, object]]:
    return [
        {
            "provider": row.provider,
            "model": row.model,
            "records": row.events,
            "changed": row.changed,
            "before_usd": row.before_usd,
            "after_usd": row.after_usd,
            "difference_usd": _plain(_difference(row)),
            "newly_priced": row.newly_priced,
            "newly_unpriced": row.newly_unpriced,
            "unpriced": row.unpriced,
            "unrated": row.unrated,
        }
        for row in sorted(seen.models, key=lambda row: (row.provider, row.model))
    ]


def _described(seen: correction_pb2.RepriceProgress) -> dict[str, object]:
    before = sum((Decimal(row.before_usd) for row in seen.models), Decimal(0))
    after = sum((Decimal(row.after_usd) for row in seen.models), Decimal(0))
    return {
        "models": _rows(seen),
        "total": {"before_usd": _plain(before), "after_usd": _plain(after), "difference_usd": _plain(after - before)},
        "kept": seen.kept,
        "unratable": seen.unratable,
    }


def _finished(done: correction_pb2.Correction) -> dict[str, object]:
    return {"id": done.id, "adjusted": done.adjusted, "raised_usd": done.raised_usd, "lowered_usd": done.lowered_usd}
