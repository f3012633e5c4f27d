"""`costd import`: records out of files into a ledger, each once however often it is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources

import click

from costd.cli.batches import Entry, Prepared, batches
from costd.cli.connection import Daemon
from costd.cli.lasting import lasting
from costd.cli.main import ANSWER_IS_NO, USAGE
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, safe
from costd.cli.progress import progress
from costd.cli.source import Place, Source, source
from costd.cli.upload import Upload
from costd.clock import Clock
from costd.domain.errors import ConfigError, CostdError, DaemonUnreachable, Invalid, Unavailable
from costd.domain.price_table import PriceTable
from costd.domain.units import UnitRegistry
from costd.store.price_list import TABLE_NAME
from costd.v1 import admin_pb2, batch_pb2, usage_pb2
from costd.wire.records.form import FORMATS
from costd.wire.records.reading import Reader

#: Wrong lines that are told before a file is given up.
MAX_TOLD = 20
#: Records that are told of in the end, of those that the ledger did not take.
MAX_LISTED = 1_000
#: How long an import waits for a daemon that is restarted, or has no room, while it goes on.
PATIENCE_S = 60.0
_ADVANCE_EVERY = 1_000


@dataclass
class _Tally:
    """What became of the records; `conflicts` and `refused` are (line, id, reason)."""

    new: int = 0
    held: int = 0
    conflicts: list[tuple[int, str, str]] = field(default_factory=list)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    conflict_count: int = 0
    refused_count: int = 0

    @property
    def settled(self) -> int:
        return self.new + self.held + self.conflict_count + self.refused_count


@click.command("import", epilog="Example: costd import records.jsonl")
@click.argument("file", metavar="FILE")
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: by the name of FILE]")
@click.option("--keep-costs", is_flag=True, help="Take every cost as it is, instead of pricing records anew.")
@click.option("--dry-run", is_flag=True, help="Look at every line and import nothing.")
@daemon_options
@json_option
@click.pass_context
def command(
    context: click.Context, file: str, form: str | None, reach: Reach, *, keep_costs: bool, dry_run: bool, as_json: bool
) -> None:
    """Read records from FILE (JSON Lines or CSV; "-" is stdin) into the ledger, as `costd export` writes them.

    Every line is looked at first: where one is wrong, nothing is imported. A record whose id the ledger knows is not
    added again, so that the same import can be run again. Needs an admin key.
    """
    with source(file, form) as opened:
        reader = Reader(_units(), Clock().now_ms(), keep_costs=keep_costs)
        records = _look(opened, reader, context)
        tally = _Tally()
        if not dry_run:
            _send(opened, reader, records, reach, tally)
    _tell(opened.name, records, tally, dry_run=dry_run, as_json=as_json)
    if tally.conflict_count or tally.refused_count:
        context.exit(ANSWER_IS_NO)


def _units() -> UnitRegistry:
    """The units that costd knows, as of the price list that came with it."""
    return PriceTable(resources.files("costd").joinpath("data", TABLE_NAME).read_bytes()).units


def _look(opened: Source, reader: Reader, context: click.Context) -> int:
    """How many records there are; tells of wrong lines, and leaves where there are any."""
    records = wrong = 0
    with progress("checking") as advance:
        for number, (place, line) in enumerate(opened.lines()):
            try:
                if isinstance(line, Invalid):
                    raise line
                reader.record(line)
                records += 1
            except Invalid as refusal:
                wrong += 1
                click.echo(f"costd: {opened.name}, line {place.line}: {safe(refusal.message)}", err=True)
                if wrong == MAX_TOLD:
                    break
            if number % _ADVANCE_EVERY == 0:
                advance(place.offset, opened.size, f"{records:,} records")
    if wrong:
        more = " and perhaps others" if wrong == MAX_TOLD else ""
        lines = "1 line is" if wrong == 1 else f"{wrong} lines{more} are"
        click.echo(f"costd: {lines} wrong in {opened.name}; nothing was imported", err=True)
        context.exit(USAGE)
    if not records:
        raise ConfigError("FILE", opened.name, "has no records in it")
    return records


def _send(opened: Source, reader: Reader, records: int, reach: Reach, tally: _Tally) -> None:
    """Import all of it."""

    def settled(prepared: Prepared, answer: usage_pb2.RecordBatchResponse | None) -> None:
        if answer is None:
            tally.new += len(prepared.lines)
        else:
            _count(prepared, answer, tally)

    upload = Upload(batches(_entries(opened, reader)), settled)
    try:
        with progress("importing") as advance:
            for _ in lasting(reach, lambda daemon: _over(daemon, upload), create=True, patience_s=PATIENCE_S):
                advance(tally.settled, records, f"{tally.settled:,} records")
    except (DaemonUnreachable, Unavailable) as error:
        raise DaemonUnreachable(f"{error.message}; {tally.new:,} records are in, run the same command again") from None


def _over(daemon: Daemon, upload: Upload) -> Iterator[object]:
    """Send what is not settled; first see that there is a daemon, and that it lets us."""
    yield daemon.ask(daemon.admin.Status, admin_pb2.StatusRequest())
    yield from upload.over(daemon)


def _entries(opened: Source, reader: Reader) -> Iterator[Entry]:
    """The records once more; every line was right a moment ago."""
    before = Place(0, 0)
    for place, line in opened.lines():
        try:
            if isinstance(line, Invalid):
                raise line
            said = reader.record(line)
        except Invalid as refusal:
            raise CostdError(f"{opened.name} changed while it was read: line {place.line}: {refusal.message}") from None
        yield Entry(said, place.line, place.offset - before.offset)
        before = place


def _count(prepared: Prepared, answer: usage_pb2.RecordBatchResponse, tally: _Tally) -> None:
    refusals = {refusal.record: refusal for refusal in answer.refusals}
    for at, outcome in enumerate(answer.outcomes):
        if outcome == batch_pb2.RECORD_OUTCOME_ACCEPTED and not answer.duplicate:
            tally.new += 1
        elif outcome in {batch_pb2.RECORD_OUTCOME_ACCEPTED, batch_pb2.RECORD_OUTCOME_DUPLICATE}:
            tally.held += 1
        elif outcome == batch_pb2.RECORD_OUTCOME_CONFLICT:
            tally.conflict_count += 1
            if len(tally.conflicts) < MAX_LISTED:
                reason = "the ledger knows this id with other content"
                tally.conflicts.append((prepared.lines[at], prepared.ids[at], reason))
        else:
            tally.refused_count += 1
            if len(tally.refused) < MAX_LISTED:
                refusal = refusals[at]
                reason = f"{refusal.field}: {refusal.reason}" if refusal.field else refusal.reason
                tally.refused.append((prepared.lines[at], prepared.ids[at], reason))


def _tell(name: str, records: int, tally: _Tally, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        keys = ("line", "id", "reason")
        print_json(
            {
                "file": name,
                "records": records,
                "new": tally.new,
                "already_there": tally.held,
                "conflicting": tally.conflict_count,
                "refused": tally.refused_count,
                "not_imported": [dict(zip(keys, each, strict=True)) for each in (*tally.conflicts, *tally.refused)],
                "dry_run": dry_run,
            }
        )
        return
    for line, id_, reason in sorted((*tally.conflicts, *tally.refused)):
        click.echo(f"costd: {name}, line {line}: {safe(id_)}: {safe(reason)}", err=True)
    more = tally.conflict_count + tally.refused_count - len(tally.conflicts) - len(tally.refused)
    if more:
        click.echo(f"costd: … and {more:,} more", err=True)
    if dry_run:
        click.echo(f"{records:,} records in {name}, all of them right; nothing was imported")
        return
    refused = f", {tally.refused_count:,} refused" if tally.refused_count else ""
    click.echo(
        f"{records:,} records: {tally.new:,} new, {tally.held:,} already there, "
        f"{tally.conflict_count:,} conflicting{refused}"
    )
