"""Tables as lines of text: how wide their columns are, where cells are folded, what stands out on a terminal.

rich would do this too, but takes longer to import than most commands take, and seconds over a few thousand rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import click

_GAP = 3
#: No column of text is made narrower than this, however narrow the terminal.
_LEAST = 8


@dataclass(frozen=True)
class Look:
    """What the output can show: how many characters to a line (None: any number), emphasis, colours, a ruler."""

    room: int | None = None
    is_styled: bool = False
    has_colours: bool = False
    ruler: str = "─"

    def bold(self, text: str) -> str:
        """A heading."""
        return click.style(text, bold=True) if self.is_styled else text

    def coloured(self, text: str, colour: str) -> str:
        """`text` in a colour, such as "red"."""
        return click.style(text, fg=colour) if colour and self.has_colours else text


@dataclass(frozen=True)
class Table:
    """Cells without control characters; `numbers` are the columns aligned to the right, which are never folded.

    A cell that is one of the words in `colours` has that colour.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[str]
    footer: Sequence[str] | None
    colours: Mapping[str, str]

    def lines(self, look: Look) -> Iterator[str]:
        """The table, line by line, without spaces at their ends."""
        widths = self._widths(look.room)
        yield from map(look.bold, self._folded(self.columns, widths, Look()))
        yield look.ruler * (sum(widths) + _GAP * (len(widths) - 1))
        for row in self.rows:
            yield from self._folded(row, widths, look)
        if self.footer is not None:
            yield ""
            yield from map(look.bold, self._folded(self.footer, widths, Look()))

    def _widths(self, room: int | None) -> list[int]:
        """As wide as their widest cells, or less where there is no room: the widest give way first."""
        every = [self.columns, *self.rows, *([self.footer] if self.footer is not None else [])]
        widths = [max(map(width, cells)) for cells in zip(*every, strict=True)]
        if room is None:
            return widths
        excess = sum(widths) + _GAP * (len(widths) - 1) - room
        foldable = [place for place, name in enumerate(self.columns) if name not in self.numbers]
        while excess > 0 and foldable:
            widest = max(foldable, key=lambda place: widths[place])
            if widths[widest] <= _LEAST:
                break
            widths[widest] -= 1
            excess -= 1
        return widths

    def _folded(self, row: Sequence[str], widths: Sequence[int], look: Look) -> Iterator[str]:
        """The lines of one row."""
        cells = [fold(cell, room) for cell, room in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            line = ""
            for place, (folded, room) in enumerate(zip(cells, widths, strict=True)):
                text = folded[number] if number < len(folded) else ""
                padding = " " * (room - width(text))
                shown = look.coloured(text, self.colours.get(row[place], ""))
                line += padding + shown if self.columns[place] in self.numbers else shown + padding
                line += " " * _GAP
            yield line.rstrip()


def pair_lines(pairs: Iterable[tuple[str, str]], look: Look) -> Iterator[str]:
    """Names and values beside each other; what is too long goes on below its beginning."""
    pairs = [*pairs]
    indent = max((width(name) for name, _ in pairs), default=0) + 2
    for name, value in pairs:
        folded = fold(value, None if look.room is None else max(_LEAST, look.room - indent))
        yield f"{name}{' ' * (indent - width(name))}{folded[0]}".rstrip()
        for rest in folded[1:]:
            yield f"{' ' * indent}{rest}"


def width(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - only names beyond ASCII need its tables

    return cell_len(text)


def fold(text: str, room: int | None) -> list[str]:
    """Lines no wider than `room`, broken between words where that is possible."""
    if room is None or width(text) <= room:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if width(longer) <= room:
            line = longer
            continue
        if line:
            lines.append(line)
        *full, line = _chopped(word, room)
        lines += full
    return [*lines, line]


def _chopped(word: str, room: int) -> list[str]:
    """A word in pieces no wider than `room`, but of one character at least."""
    pieces, piece, taken = [], "", 0
    for char in word:
        more = width(char)
        if piece and taken + more > room:
            pieces.append(piece)
            piece, taken = "", 0
        piece += char
        taken += more
    return [*pieces, piece]
