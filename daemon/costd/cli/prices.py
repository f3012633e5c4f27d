"""`costd prices`: what models cost: the group, and listing and removing what was set."""

from __future__ import annotations

import click

from costd.cli import price_set, price_show, price_tables, reprice
from costd.cli import unpriced as unpriced_models
from costd.cli.connection import connected
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table, safe
from costd.cli.price_entries import described
from costd.cli.price_text import span_words, unit_words, what_words, when_words, whom_words
from costd.v1 import prices_pb2

#: What a line of CSV tells of a price, by the names it has in JSON; what is a table there is words here.
_COLUMNS = (
    "id",
    "model",
    "provider",
    "org",
    "when",
    "rates",
    "multiplier",
    "from",
    "until",
    "note",
    "created",
    "created_by",
    "created_by_name",
    "removed",
    "removed_by",
    "removed_by_name",
)


@click.group("prices")
def command() -> None:
    """Set, import and show prices; rate history again."""


command.add_command(price_set.set_prices)
command.add_command(price_show.show)


@command.command("list", epilog="Example: costd prices list gpt-4o --removed")
@click.argument("model", required=False, default="")
@click.option("--removed", is_flag=True, help="Also those that were removed: the whole history.")
@daemon_options
@json_option
@csv_option
def list_prices(model: str, removed: bool, reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List the prices that were set, oldest first; with MODEL, those that speak of it.

    What --json prints is a file for `costd prices set --file`.
    """
    request = prices_pb2.ListPricesRequest(model=model, removed=removed)
    with connected(reach) as daemon:
        answer: prices_pb2.ListPricesResponse = daemon.ask(daemon.admin.ListPrices, request)
    prices = list(reversed(answer.prices))
    if as_json:
        print_json({"prices": [described(price) for price in prices]})
    elif as_csv:
        rows = [_line(price) for price in prices]
        print_csv(_COLUMNS, ([row[name] for name in _COLUMNS] for row in rows))
    elif not prices:
        click.echo("no prices were set; `costd prices show MODEL` says what a model costs by the list")
    else:
        _print(prices, with_state=removed)


def _line(price: prices_pb2.Price) -> dict[str, object]:
    return {**described(price), "when": when_words(price.when), "rates": unit_words(price.rates, None)}


def _print(prices: list[prices_pb2.Price], *, with_state: bool) -> None:
    columns = ["price", "model", "provider", "for", "context", "when", "rates", "set by", "note"]
    rows = [
        [
            price.id,
            price.model,
            price.provider or "any",
            whom_words(price),
            when_words(price.when) or "any",
            span_words(price),
            unit_words(price.rates, price.multiplier if price.HasField("multiplier") else None),
            price.created_by_name or price.created_by or "local",
            price.note,
            *([_state(price)] if with_state else []),
        ]
        for price in prices
    ]
    print_table([*columns, *(["state"] if with_state else [])], rows)


def _state(price: prices_pb2.Price) -> str:
    data = described(price)
    if data["removed"] is None:
        return "in the books"
    return f"removed {data['removed']} by {price.removed_by_name or price.removed_by or 'local'}"


@command.command("remove", epilog="Example: costd prices remove 019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071")
@click.argument("which", metavar="ID")
@daemon_options
@json_option
def remove(which: str, reach: Reach, *, as_json: bool) -> None:
    """Remove the price with this ID, or with the only one that begins so; it stays in the history.

    In force for the very next record; what was recorded keeps its cost until `costd prices reprice`.
    """
    with connected(reach) as daemon:
        gone: prices_pb2.Price = daemon.ask(daemon.admin.RemovePrice, prices_pb2.RemovePriceRequest(id=which))
    if as_json:
        print_json(described(gone))
        return
    multiplier = gone.multiplier if gone.HasField("multiplier") else None
    click.echo(
        safe(f"removed {gone.id}: {what_words(gone)}, for {whom_words(gone)}: {unit_words(gone.rates, multiplier)}")
    )


command.add_command(price_tables.import_file)
command.add_command(price_tables.update)
command.add_command(unpriced_models.unpriced)
command.add_command(reprice.reprice)
command.add_command(reprice.whatif)
