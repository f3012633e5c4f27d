"""`costd prices unpriced`: which models have no price, and how to give them one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from costd.cli.connection import connected
from costd.cli.moments import iso, read_moment
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table, safe
from costd.clock import Clock
from costd.domain.errors import ConfigError
from costd.v1 import prices_pb2

#: The units that have an option of their own; a price has both of the first where either was used.
_OPTIONS = {
    "input_tokens": "--input-per-mtok",
    "output_tokens": "--output-per-mtok",
    "cache_read_tokens": "--cache-read-per-mtok",
    "cache_write_tokens": "--cache-write-per-mtok",
}
#: What a rate for the whole covers too, so that nobody is asked for it.
_COVERED = {"output_reasoning_tokens": "output_tokens"}
_COLUMNS = (
    "provider",
    "model",
    "source_apps",
    "requests",
    "unpriced",
    "unrated",
    "input_tokens",
    "output_tokens",
    "first",
    "last",
    "units",
    "priced_now",
    "command",
)


@click.command("unpriced", epilog="Example: costd prices unpriced --since 30d")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    metavar="WHEN",
    help='Only records from then on: a time back from now, a UTC date, ISO 8601, or "all".',
)
@click.option("--until", metavar="WHEN", help="Only records before then; a date is inclusive. [default: now]")
@daemon_options
@json_option
@csv_option
def unpriced(since: str, until: str | None, reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List the models with records that no price matches, or with units that nothing has a rate for.

    Gives a command for each, which only needs the prices. Moments are widened to whole hours.
    """
    request = _request(since, until)
    with connected(reach) as daemon:
        answer: prices_pb2.ListUnpricedResponse = daemon.ask(daemon.admin.ListUnpriced, request)
    rows = [_described(model) for model in answer.models]
    if as_json:
        print_json({"models": rows})
    elif as_csv:
        print_csv(_COLUMNS, ([row[name] for name in _COLUMNS] for row in rows))
    elif not rows:
        click.echo("every record in this time has its price")
    else:
        _print(answer.models)


def _request(since: str, until: str | None) -> prices_pb2.ListUnpricedRequest:
    now_ms = Clock().now_ms()
    request = prices_pb2.ListUnpricedRequest()
    if since.strip().lower() != "all":
        request.since_ms = read_moment(since, now_ms, "--since")
    if until is not None:
        request.until_ms = read_moment(until, now_ms, "--until", end_of_day=True)
        if request.HasField("since_ms") and request.until_ms <= request.since_ms:
            raise ConfigError("--until", until, f"must be after --since ({iso(request.since_ms)})")
    return request


def how_to(model: prices_pb2.UnpricedModel) -> str:
    """The command that gives a model its price, with USD in the place of numbers; or rates its records anew."""
    if model.is_priced_now:
        provider = ["--provider", model.provider] if model.provider else []
        return shlex.join(["costd", "prices", "reprice", "--model", model.model, *provider])
    words = ["costd", "prices", "set", model.model]
    if model.provider:
        words += ["--provider", model.provider]
    units = list(model.units)
    if model.unpriced and (not units or {"input_tokens", "output_tokens"}.intersection(units)):
        units = list(dict.fromkeys(["input_tokens", "output_tokens", *units]))
    for unit in units:
        if unit in _OPTIONS:
            words += [_OPTIONS[unit], "USD"]
        elif _COVERED.get(unit) not in units:
            words += ["--unit", f"{unit}=USD"]
    return shlex.join([*words, "--from", "always"])


def _described(model: prices_pb2.UnpricedModel) -> dict[str, object]:
    return {
        "provider": model.provider,
        "model": model.model,
        "source_apps": list(model.source_apps),
        "requests": model.requests,
        "unpriced": model.unpriced,
        "unrated": model.unrated,
        "input_tokens": model.input_tokens,
        "output_tokens": model.output_tokens,
        "first": iso(model.first_ms),
        "last": iso(model.last_ms),
        "units": list(model.units),
        "priced_now": model.is_priced_now,
        "command": how_to(model),
    }


def _print(models: Sequence[prices_pb2.UnpricedModel]) -> None:
    numbers = ["requests", "unpriced", "in part", "input tokens", "output tokens"]
    columns = ["provider", "model", "applications", *numbers, "first seen", "last seen", "units without a rate"]
    rows = [
        [
            model.provider or "-",
            model.model,
            ", ".join(model.source_apps) or "-",
            *(
                f"{n:,}"
                for n in (model.requests, model.unpriced, model.unrated, model.input_tokens, model.output_tokens)
            ),
            iso(model.first_ms),
            iso(model.last_ms),
            ", ".join(model.units) or ("has a price by now" if model.is_priced_now else "-"),
        ]
        for model in models
    ]
    print_table(columns, rows, numbers=numbers)
    click.echo("\nTo price them, put numbers in the place of USD; then `costd prices reprice` rates what was recorded:")
    for model in models:
        click.echo(safe(f"  {how_to(model)}"))
