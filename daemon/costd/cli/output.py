"""What commands print: JSON and CSV for programs, tables for people; names from records can do no harm in any."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from costd.cli.table import Look, Table, pair_lines

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
    if title:
        sys.stdout.write(f"{title}\n")
    shown = [[safe(cell) for cell in row] for row in rows]
    _print(Table(columns, shown, numbers, footer, colours).lines(look()))


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, a line each."""
    _print(pair_lines(((name, safe(value)) for name, value in pairs), look()))


def look() -> Look:
    """What stdout can show. A file or a pipe is no place for colours, and nothing is folded there.

    NO_COLOR takes the colours (https://no-color.org), TERM=dumb every escape.
    """
    is_watched = sys.stdout.isatty()
    is_styled = is_watched and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}
    return Look(
        room=shutil.get_terminal_size().columns if is_watched else None,
        is_styled=is_styled,
        has_colours=is_styled and not os.environ.get("NO_COLOR"),
        ruler="─" if (sys.stdout.encoding or "").lower().startswith("utf") else "-",
    )


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def safe(text: str) -> str:
    """`text` without what a terminal would obey: control characters are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
