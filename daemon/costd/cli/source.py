"""What a command reads records from: a file or stdin, gone through twice, a line at a time, in constant memory."""

from __future__ import annotations

import csv
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from costd.domain.errors import ConfigError, CostdError, Invalid
from costd.wire.records import form
from costd.wire.records.line import Header, Line, line_of_json

#: No record is nearly as long; a file without line ends must not be read into memory whole.
MAX_LINE_BYTES = 1024 * 1024
STDIN = "-"

_SUFFIXES = {".jsonl": form.JSONL, ".ndjson": form.JSONL, ".csv": form.CSV}
_UTF8_MARK = b"\xef\xbb\xbf"
#: How other kinds of files begin, and what to do about them.
_OTHERS = (
    ((b"\x1f\x8b",), "is compressed; unpack it: gunzip -c FILE | costd import - --format jsonl"),
    ((b"\xff\xfe", b"\xfe\xff"), "is UTF-16; save it as UTF-8"),
    ((b"SQLite format 3\0",), "is a SQLite database; `costd restore` takes backups"),
    ((b"PK\x03\x04",), "is an archive or a workbook; unpack it or save it as CSV"),
)


class Place(NamedTuple):
    """Where in a source something is: the number of its line, from 1, and how many bytes of the source lie before."""

    line: int
    offset: int


class Source:
    """A file of records that can be read from the beginning as often as one likes."""

    def __init__(self, file: IO[bytes], name: str, form_name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._file = file
        self._form = form_name

    def lines(self) -> Iterator[tuple[Place, Line | Invalid]]:
        """Each record's line, or what is wrong with it; empty lines are left out. Raises ConfigError, CostdError."""
        self._file.seek(0)
        try:
            yield from self._csv() if self._form == form.CSV else self._jsonl()
        except OSError as error:
            raise CostdError(f"cannot read {self.name}: {error.strerror}") from error

    def _jsonl(self) -> Iterator[tuple[Place, Line | Invalid]]:
        for place, raw in self._raw():
            if isinstance(raw, Invalid):
                yield place, raw
            elif not raw.isspace():
                try:
                    yield place, line_of_json(raw)
                except Invalid as refusal:
                    yield place, refusal

    def _csv(self) -> Iterator[tuple[Place, Line | Invalid]]:
        text = _Text(self._raw())
        rows = csv.reader(text, strict=True)
        header: Header | None = None
        while True:
            begin = text.next_place()
            try:
                cells = next(rows, None)
                if cells is None:
                    return
                if header is None:
                    header = Header(cells)
                elif cells:
                    yield begin, header.line(cells)
            except (Invalid, csv.Error) as error:
                refusal = error if isinstance(error, Invalid) else Invalid("", f"is not CSV: {error}")
                yield begin, refusal
                if header is None:  # nothing can be read without
                    return
                rows = csv.reader(text, strict=True)

    def _raw(self) -> Iterator[tuple[Place, bytes | Invalid]]:
        """Every line as it is."""
        number, offset = 0, 0
        while raw := self._file.readline(MAX_LINE_BYTES):
            number += 1
            place = Place(number, offset)
            offset += len(raw)
            if number == 1:
                raw = self._begun(raw)
            if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                while rest := self._file.readline(MAX_LINE_BYTES):
                    offset += len(rest)
                    if rest.endswith(b"\n"):
                        break
                yield place, Invalid("", f"is longer than {MAX_LINE_BYTES // 1024:,} KiB; no record is")
            elif raw:
                yield place, raw

    def _begun(self, raw: bytes) -> bytes:
        """The first line without a mark of UTF-8. Raises ConfigError for what is no text at all."""
        for marks, what in _OTHERS:
            if raw.startswith(marks):
                raise ConfigError("FILE", self.name, what)
        return raw.removeprefix(_UTF8_MARK)


class _Text(Iterator[str]):
    """Lines as text, as the csv module takes them; raises Invalid at one that cannot be."""

    def __init__(self, raw: Iterator[tuple[Place, bytes | Invalid]]) -> None:
        self._raw = raw
        self._ahead: tuple[Place, bytes | Invalid] | None = None
        self._last = Place(0, 0)

    def next_place(self) -> Place:
        """Where the next line is."""
        if self._ahead is None:
            self._ahead = next(self._raw, None)
        return self._last if self._ahead is None else self._ahead[0]

    def __next__(self) -> str:
        self.next_place()
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            raise StopIteration
        self._last, raw = ahead
        if isinstance(raw, Invalid):
            raise raw
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Invalid("", "is not UTF-8") from None


@contextmanager
def source(path: str, form_name: str | None) -> Iterator[Source]:
    """The file at `path`, or stdin for "-"; raises ConfigError where it cannot be read."""
    chosen = form_name or _SUFFIXES.get(Path(path).suffix.lower())
    if chosen is None:
        raise ConfigError("FILE", path, "does not say by its name what it is; give --format jsonl or --format csv")
    name = "stdin" if path == STDIN else path
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        yield Source(file, name, chosen, size)


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    try:
        file = sys.stdin.buffer if path == STDIN else Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError("FILE", path, f"must be a file that can be read ({error.strerror})") from None
    with file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(kind):
            yield file
            return
        with tempfile.TemporaryFile(prefix="costd-import-") as copy:
            try:
                shutil.copyfileobj(file, copy, MAX_LINE_BYTES)
                copy.flush()
            except OSError as error:
                raise CostdError(
                    f"cannot keep a copy of the input in {tempfile.gettempdir()}: {error.strerror}; "
                    "set TMPDIR to a folder with room"
                ) from error
            yield copy
