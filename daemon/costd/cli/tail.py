"""`costd tail`: records as they come."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
from rich.cells import cell_len, set_cell_size

from costd.cli.connection import Daemon
from costd.cli.filters import filter_option, read_filters
from costd.cli.lasting import lasting
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import safe
from costd.cli.show import described
from costd.domain.errors import CostdError
from costd.domain.money import usd_text
from costd.v1 import records_pb2

#: Columns that give way first where a terminal is narrow, with their least and their usual width.
_NAMES = (("source_app", 6, 16), ("user", 6, 18), ("project", 6, 18), ("model", 10, 28))
_TIME, _TOKENS, _COST = 19, 9, 14
_GAP = "  "
#: Where the output is no terminal nothing is cut.
_UNLIMITED = 10_000


@click.command("tail", epilog="Example: costd tail --filter source_app=checkout --filter status=error")
@filter_option
@click.option(
    "-n",
    "--last",
    "last",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    metavar="N",
    help="Begin with the newest N records.",
)
@daemon_options
@json_option
def command(filters: Sequence[str], last: int, reach: Reach, *, as_json: bool) -> None:
    """Show records as they come, the newest last, until Ctrl-C.

    A restart of the daemon is waited for; no record is missed or shown twice. Where no daemon runs, the newest records
    are shown and that is all. With --json, every record is a line.
    """
    request = records_pb2.TailRequest(filters=read_filters(filters), last=last)
    lines = _Json() if as_json else _Table()
    for message in lasting(reach, lambda daemon: _messages(daemon, request), on_lost=_lost):
        for event in message.events:
            sys.stdout.write(lines.line(event))
        if message.events:
            sys.stdout.flush()


def _messages(daemon: Daemon, request: records_pb2.TailRequest) -> Iterator[records_pb2.TailMessage]:
    """The messages; `request` is moved on with each that arrived."""
    for message in daemon.stream(daemon.query.Tail, request):
        yield message
        if daemon.target.is_offline:  # nobody else can record anything while the folder is held here
            click.echo("costd: no daemon runs, so nothing more will come", err=True)
            return
        request.last, request.after = 0, message.position


def _lost(_error: CostdError) -> None:
    click.echo("costd: the daemon is gone; waiting for it to come back", err=True)


class _Json:
    """A document a line."""

    def line(self, event: records_pb2.Event) -> str:
        text = json.dumps(described(event), ensure_ascii=False)
        return f"{safe(text) if sys.stdout.isatty() else text}\n"


class _Table:
    """Columns of the widths that the terminal has room for; a header before the first line."""

    def __init__(self) -> None:
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED
        self._widths = _widths(room)
        self._header = True

    def line(self, event: records_pb2.Event) -> str:
        cells = [_time(event.time_ms), *(event.dimensions.get(name, "") or "-" for name, _, _ in _NAMES)]
        numbers = [_count(event, "input_tokens"), _count(event, "output_tokens"), _cost(event)]
        line = self._joined(cells, numbers) + _note(event)
        if not self._header:
            return line + "\n"
        self._header = False
        names = self._joined(["time (UTC)", "source_app", "user", "project", "model"], ["in", "out", "cost"])
        return f"{names}\n{line}\n"

    def _joined(self, cells: Sequence[str], numbers: Sequence[str]) -> str:
        texts = [_fitted(safe(cell), width) for cell, width in zip(cells, self._widths, strict=True)]
        texts += [number.rjust(width) for number, width in zip(numbers, (_TOKENS, _TOKENS, _COST), strict=True)]
        return _GAP.join(texts)


def _widths(room: int) -> list[int]:
    """How wide the leading columns are: as usual, or as far cut as the terminal asks for."""
    least, usual = sum(low for _, low, _ in _NAMES), sum(high for _, _, high in _NAMES)
    spare = room - (_TIME + 2 * _TOKENS + _COST + (len(_NAMES) + 3) * len(_GAP)) - least
    share = min(1.0, max(0.0, spare / (usual - least)))
    return [_TIME, *(low + int((high - low) * share) for _, low, high in _NAMES)]


def _fitted(text: str, width: int) -> str:
    """`text` in so many cells; what does not fit is cut on a terminal, and everywhere shown as cut."""
    if cell_len(text) <= width or not sys.stdout.isatty():
        return set_cell_size(text, max(width, cell_len(text)))
    return set_cell_size(text, width - 1) + "…"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _count(event: records_pb2.Event, unit: str) -> str:
    return f"{int(event.units[unit]):,}" if unit in event.units else "-"


def _cost(event: records_pb2.Event) -> str:
    return f"${usd_text(event.cost_nano_usd)}" if event.HasField("cost_nano_usd") else "unpriced"


def _note(event: records_pb2.Event) -> str:
    """The status, where it is not the usual one."""
    return "" if event.dimensions.get("status") == "success" else f"{_GAP}{safe(event.status)}"
