"""`costd prices import` and `costd prices update`: whole price tables, with a report of what they change first."""

from __future__ import annotations

import sys
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import click

from costd.cli import price_report
from costd.cli.connection import Daemon, connected
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json
from costd.clock import Clock
from costd.domain.errors import ConfigError, Invalid
from costd.domain.litellm_prices import compile_file
from costd.domain.price_comparison import compare
from costd.domain.price_table import PriceTable
from costd.store.price_list import PriceList, compile_data, compile_installed
from costd.store.price_sources import FILE, LIST
from costd.v1 import prices_pb2

#: Twenty times what LiteLLM publishes today.
MAX_FILE_BYTES = 64 * 1024 * 1024
#: Importing reads every model of the table.
_IMPORT_S = 300.0


class _Tables(NamedTuple):
    """The tables in force at the daemon; `file` is None where none was imported."""

    list: PriceTable
    file: PriceTable | None
    digests: dict[str, str]


class _Choice(NamedTuple):
    """What the flags say about whether to go on."""

    yes: bool
    dry_run: bool
    verbose: bool
    as_json: bool


def _choices(command: Any) -> Any:
    """The flags that both commands have."""
    for option in (
        click.option("--verbose", is_flag=True, help="Every model and remark, not only how many."),
        click.option("--yes", is_flag=True, help="Do not ask before putting it in force."),
        click.option("--dry-run", is_flag=True, help="Only report."),
    ):
        command = option(command)
    return command


@click.command("import", epilog="Example: costd prices import model_prices_and_context_window.json --dry-run --verbose")
@click.argument("file", required=False)
@click.option("--remove", is_flag=True, help="Take the imported file out of force again.")
@_choices
@daemon_options
@json_option
def import_file(file: str | None, reach: Reach, *, remove: bool, **flags: Any) -> None:
    """Put LiteLLM's price FILE in front of the list, in place of one imported before.

    Prices that were set stay in front of both. Reports first what is new, changed, divergent from the list and not
    understood.
    """
    choice = _Choice(**flags)
    if remove:
        if file is not None:
            raise click.UsageError("--remove takes no FILE")
        _drop(reach, FILE, choice)
        return
    if file is None:
        raise click.UsageError("say which FILE; LiteLLM's is called model_prices_and_context_window.json")
    raw = _read(file)
    with connected(reach, create=True) as daemon:
        held = _fetch(daemon)
        try:
            compiled = compile_file(raw, sha256(raw).hexdigest()[:12], held.list.units)
        except Invalid as refusal:
            raise Invalid("", f"{file}: {refusal.reason}") from None
        table = _listed(compiled.body)
        now_ms = Clock().now_ms()
        differences = compare(PriceTable(table.body), held.file, held.list, now_ms)
        hidden = price_report.hidden_models(differences, _prices(daemon), now_ms)
        report = price_report.Report(differences, hidden, compiled.report)
        _go_on(daemon, table, (FILE, Path(file).name), held, report, choice)


@click.command("update", epilog="Example: costd prices update --dry-run")
@click.argument("file", required=False)
@click.option("--reset", is_flag=True, help="Go back to the list that is installed with the daemon.")
@_choices
@daemon_options
@json_option
def update(file: str | None, reach: Reach, *, reset: bool, **flags: Any) -> None:
    """Take the price list anew: from the genai-prices that is installed here, or from a data FILE of its.

    Reports first what it changes. The list stays until costd or its library is upgraded.
    """
    choice = _Choice(**flags)
    if reset:
        if file is not None:
            raise click.UsageError("--reset takes no FILE")
        _drop(reach, LIST, choice)
        return
    left_out: tuple[str, ...] = ()
    if file is None:
        table, name = compile_installed(), ""
    else:
        try:
            table, left_out = compile_data(_read(file))
        except Invalid as refusal:
            raise Invalid("", f"{file}: {refusal.reason}") from None
        name = Path(file).name
    with connected(reach, create=True) as daemon:
        held = _fetch(daemon)
        now_ms = Clock().now_ms()
        differences = compare(PriceTable(table.body), held.list, held.list, now_ms)
        hidden = price_report.hidden_models(differences, _prices(daemon), now_ms)
        report = price_report.Report(differences, hidden, left_out=left_out)
        _go_on(daemon, table, (LIST, name), held, report, choice)


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError("FILE", path, f"must be a file that can be read ({error.strerror})") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError("FILE", path, f"must be at most {MAX_FILE_BYTES} bytes: no price list is larger")
    return raw


def _fetch(daemon: Daemon) -> _Tables:
    request = prices_pb2.GetPriceTablesRequest(bodies=True)
    answer: prices_pb2.PriceTables = daemon.ask(daemon.admin.GetPriceTables, request)
    listed = PriceTable(zlib.decompress(answer.list.body))
    held = PriceTable(zlib.decompress(answer.file.body)) if answer.HasField("file") else None
    return _Tables(listed, held, {info.kind: info.digest for info in (answer.list, answer.file) if info.kind})


def _listed(body: bytes) -> PriceList:
    return PriceList(PriceTable(body).version, sha256(body).hexdigest()[:16], body)


def _prices(daemon: Daemon) -> list[prices_pb2.Price]:
    answer: prices_pb2.ListPricesResponse = daemon.ask(daemon.admin.ListPrices, prices_pb2.ListPricesRequest())
    return list(answer.prices)


def _go_on(
    daemon: Daemon,
    table: PriceList,
    origin: tuple[str, str],
    held: _Tables,
    report: price_report.Report,
    choice: _Choice,
) -> None:
    """Report, ask where somebody can answer, and put the table in force; `origin` is its kind and its file's name."""
    kind, name = origin
    is_new = table.digest != held.digests.get(kind)
    if not choice.as_json:
        price_report.print_report(report, verbose=choice.verbose)
    applied = False
    if is_new and not choice.dry_run:
        if not choice.yes and sys.stdin.isatty():
            click.confirm(f"Put this {kind} in force?", abort=True, err=True)
        packed = zlib.compress(table.body)
        request = prices_pb2.ImportPricesRequest(kind=kind, version=table.version, name=name, body=packed)
        daemon.ask(daemon.admin.ImportPrices, request, timeout_s=_IMPORT_S)
        applied = True
    if choice.as_json:
        said = {"kind": kind, "version": table.version, "file": name or None, "applied": applied}
        print_json({**said, "in_force": applied or not is_new, **price_report.described(report)})
    elif applied:
        click.echo(f"the {kind} is in force: version {table.version}; `costd prices reprice` rates history by it")
    elif not is_new:
        click.echo(f"this {kind} is in force already: nothing was changed")


def _drop(reach: Reach, kind: str, choice: _Choice) -> None:
    """Take a table out of force."""
    with connected(reach) as daemon:
        if choice.dry_run:
            answer: prices_pb2.PriceTables = daemon.ask(daemon.admin.GetPriceTables, prices_pb2.GetPriceTablesRequest())
        else:
            answer = daemon.ask(daemon.admin.DropPrices, prices_pb2.DropPricesRequest(kind=kind))
    if choice.as_json:
        file = answer.file.name if answer.HasField("file") else None
        print_json({"kind": kind, "applied": not choice.dry_run, "list": answer.list.version, "file": file})
    elif choice.dry_run:
        name = answer.file.name if answer.HasField("file") else "no file"
        click.echo(f"in force: list {answer.list.version} ({answer.list.name or 'installed'}), {name}")
    elif kind == FILE:
        click.echo(f"no price file is in force any more; the list is: version {answer.list.version}")
    else:
        click.echo(f"the installed list is in force: version {answer.list.version}")
