"""What commands print: JSON for programs, tables for people; names from records can do no harm in either."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Wide enough that nothing is cut or folded where the reader is a program.
_PIPE_WIDTH = 100_000


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    footer: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """A table on stdout, every value in full; `numbers` are the columns aligned to the right."""
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
        table.add_row(*(Text(safe(cell)) for cell in row))
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
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False, emoji=False)
    # Written by us: rich itself would exit with 1 where the reader has left.
    with console.capture() as rendered:
        console.print(table)
    sys.stdout.write(rendered.get())


def safe(text: str) -> str:
    """`text` without what a terminal would obey: control characters are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
