"""What commands print: JSON and CSV for programs, tables for people; names from records can do no harm in any."""

from __future__ import annotations

import io
import itertools
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Wide enough that nothing is cut or folded where the reader is a program.
_PIPE_WIDTH = 100_000

#: What needs no quotes in CSV: no separator, quote or end of line, and no space at either end, which some readers trim.
_PLAIN_CELL = re.compile(r'[^\s,"](?:[^,"\r\n]*[^\s,"])?')


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    _speak_utf8()
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A header and a line for each row: RFC 4180, but lines end with a line feed.

    None is an empty cell, a list its items with commas between them.
    """
    _speak_utf8()
    cell = _terminal_cell if sys.stdout.isatty() else _csv_cell
    for row in itertools.chain([columns], rows):
        sys.stdout.write((",".join(map(cell, row)) or '""') + "\n")  # an empty line would be no row


def _csv_cell(value: object) -> str:
    """A cell that readers take for what it was; not by the csv module, which leaves a carriage return unquoted."""
    match value:
        case None:
            text = ""
        case bool():
            text = str(value).lower()
        case list() | tuple():
            text = ",".join(map(str, value))
        case _:
            text = str(value)
    if not text or _PLAIN_CELL.fullmatch(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _terminal_cell(value: object) -> str:
    return safe(_csv_cell(value))


def _speak_utf8() -> None:
    """What programs read is UTF-8 whatever the locale: an escape would be read as what it is not."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    footer: Sequence[str] | None = None,
    title: str = "",
    colours: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """A table on stdout, every value in full; `numbers` are the columns aligned to the right.

    A cell that is one of the words in `colours` has that colour on a terminal.
    """
    table = Table(
        box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left", show_edge=False, pad_edge=False
    )
    for position, column in enumerate(columns):
        table.add_column(
            Text(column),
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column in numbers,
            footer=Text(footer[position]) if footer else "",
        )
    for row in rows:
        table.add_row(*(Text(safe(cell), style=colours.get(cell, "")) for cell in row))
    table.show_footer = footer is not None
    _print(table)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(safe(value)))
    _print(table)


def _print(table: Table) -> None:
    """On the terminal as it is, or on a pipe as on one that is wide enough."""
    is_watched = sys.stdout.isatty()
    console = Console(
        width=None if is_watched else _PIPE_WIDTH,
        force_terminal=None if is_watched else False,  # whatever FORCE_COLOR says: a file is no place for colours
        highlight=False,
        markup=False,
        emoji=False,
    )
    # Written by us: rich itself would exit with 1 where the reader has left.
    with console.capture() as rendered:
        console.print(table)
    sys.stdout.write(rendered.get())


def safe(text: str) -> str:
    """`text` without what a terminal would obey: control characters are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
