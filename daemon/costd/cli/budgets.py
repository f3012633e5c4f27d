"""`costd budgets`: what may be spent on what, and how it stands: the group, its lists and its history."""

from __future__ import annotations

import click

from costd.cli import budget_set
from costd.cli.budget_text import (
    amount_words,
    described,
    described_change,
    described_window,
    print_budget,
    print_windows,
    scope_words,
    usd,
)
from costd.cli.connection import connected
from costd.cli.moments import iso
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table, safe
from costd.v1 import budget_pb2 as pb

#: What a line of CSV tells of a budget, by the names it has in JSON; what is a table there is words here.
_COLUMNS = (
    "id",
    "name",
    "scope",
    "each",
    "amount_usd",
    "period",
    "timezone",
    "anchor_day",
    "hard",
    "limit_usd",
    "settled_usd",
    "reserved_usd",
    "held_usd",
    "available_usd",
    "overshoot_usd",
    "forecast_usd",
    "seconds_to_exhaustion",
    "end",
)
_limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=None, metavar="N", help="At most so many."
)


@click.group("budgets")
def command() -> None:
    """Set budgets, and see how they stand."""


command.add_command(budget_set.set_budget)


@command.command("list", epilog="Example: costd budgets list --json")
@daemon_options
@json_option
@csv_option
def list_budgets(reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List the budgets by name, each as its fullest window stands."""
    with connected(reach) as daemon:
        answer: pb.ListBudgetsResponse = daemon.ask(daemon.query.ListBudgets, pb.ListBudgetsRequest())
    if as_json:
        print_json({"budgets": [_listed(found) for found in answer.budgets]})
    elif as_csv:
        print_csv(_COLUMNS, map(_line, answer.budgets))
    elif not answer.budgets:
        click.echo("no budgets are set; `costd budgets set NAME --scope team=NAME --amount USD` sets one")
    else:
        columns = ["name", "of", "amount", "settled", "held", "available", "overshoot", "forecast", "kind"]
        numbers = ["settled", "held", "available", "overshoot", "forecast"]
        rows = [_row(found) for found in answer.budgets]
        print_table(columns, rows, numbers=numbers, colours={"spent": "red"})


@command.command("show", epilog="Example: costd budgets show video")
@click.argument("which", metavar="NAME")
@click.option("--value", metavar="VALUE", help="Of a budget for --each: only the window of this value.")
@_limit_option
@daemon_options
@json_option
@csv_option
def show(which: str, value: str | None, limit: int | None, reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """Show how the budget with this NAME, or id, stands: what is spent, held and left, and where it is heading."""
    request = pb.BudgetStatusRequest(budget=which, value=value or "", limit=limit or 0)
    with connected(reach) as daemon:
        answer: pb.BudgetStatusResponse = daemon.ask(daemon.query.BudgetStatus, request)
    windows = [described_window(window) for window in answer.windows]
    if as_json:
        print_json({"budget": described(answer.budget), "windows": windows, "window_count": answer.window_count})
    elif as_csv:
        names = [*described_window(pb.WindowStanding())]
        names.remove("holders")
        print_csv(names, ([window[name] for name in names] for window in windows))
    else:
        print_budget(answer)


@command.command("remove", epilog="Example: costd budgets remove video")
@click.argument("which", metavar="NAME")
@daemon_options
@json_option
def remove(which: str, reach: Reach, *, as_json: bool) -> None:
    """Remove the budget with this NAME, or id: nothing is denied for it any more; its history stays."""
    with connected(reach) as daemon:
        gone: pb.Budget = daemon.ask(daemon.admin.RemoveBudget, pb.RemoveBudgetRequest(budget=which))
    if as_json:
        print_json(described(gone))
        return
    click.echo(
        safe(f'removed "{gone.name}": {scope_words(gone)}, {amount_words(gone)}; its history is that of {gone.id}')
    )


@command.command("history", epilog="Example: costd budgets history video")
@click.argument("which", metavar="NAME")
@_limit_option
@daemon_options
@json_option
def history(which: str, limit: int | None, reach: Reach, *, as_json: bool) -> None:
    """Show who changed the budget with this NAME, or id, and how its past windows ended; both newest first."""
    request = pb.BudgetHistoryRequest(budget=which, limit=limit or 0)
    with connected(reach) as daemon:
        answer: pb.BudgetHistoryResponse = daemon.ask(daemon.query.BudgetHistory, request)
    if as_json:
        changes = [described_change(change) for change in answer.changes]
        print_json({"changes": changes, "windows": [described_window(window) for window in answer.windows]})
        return
    rows = [
        [
            iso(change.at_ms),
            change.action,
            change.actor_name or change.actor or "local",
            scope_words(change.budget),
            amount_words(change.budget),
            "hard" if change.budget.hard else "soft",
            str(change.budget.revision),
        ]
        for change in answer.changes
    ]
    print_table(["when", "what", "by", "of", "amount", "kind", "revision"], rows, numbers=["revision"])
    click.echo("")
    if answer.windows:
        print_windows(answer.windows, is_past=True)
    else:
        click.echo("no window has ended yet")


def _listed(found: pb.BudgetStanding) -> dict[str, object]:
    window = described_window(found.window) if found.HasField("window") else None
    return {**described(found.budget), "window": window, "window_count": found.window_count}


def _line(found: pb.BudgetStanding) -> list[object]:
    data = {**described(found.budget), "scope": scope_words(found.budget, with_each=False)}
    if found.HasField("window"):
        data = described_window(found.window) | data
    return [data.get(name) for name in _COLUMNS]


def _row(found: pb.BudgetStanding) -> list[str]:
    budget, window = found.budget, found.window
    kind = "hard" if budget.hard else "soft"
    figures = ["-"] * 5
    if found.HasField("window"):
        figures = [
            usd(window.settled_nano_usd),
            usd(window.held_nano_usd),
            usd(window.available_nano_usd),
            usd(window.overshoot_nano_usd),
            usd(window.forecast_nano_usd) if window.HasField("forecast_nano_usd") else "-",
        ]
        kind = "spent" if budget.hard and not window.available_nano_usd else kind
    return [budget.name, scope_words(budget), amount_words(budget), *figures, kind]
