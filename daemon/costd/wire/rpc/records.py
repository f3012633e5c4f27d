"""QueryService: exports, and records as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from costd.domain.access import Caller
from costd.domain.days import Span
from costd.domain.errors import Invalid
from costd.services.exports import ExportQuery, Exports, NamedBlock
from costd.services.reports import bounded
from costd.services.tails import Tails
from costd.v1 import records_pb2
from costd.wire.records import form
from costd.wire.records.writing import Writer, writer
from costd.wire.rpc import convert

#: About this many characters are sent at once: enough that a message costs nothing, far below any limit on one.
CHUNK_CHARACTERS = 256 * 1024

#: What exports call a field, and its name in a request of ours.
_FIELDS = {"since": "since_ms", "until": "until_ms"}


class RecordsService:
    """Answers the methods of costd.v1.QueryService that send many records."""

    def __init__(self, exports: Exports, tails: Tails) -> None:
        self._exports = exports
        self._tails = tails

    def export(self, caller: Caller, request: records_pb2.ExportRequest) -> Iterator[records_pb2.ExportChunk]:
        """Records as text, a piece at a time."""
        caller.require("read")
        if request.format not in {"", *form.FORMATS}:
            raise Invalid("format", f"must be one of {', '.join(form.FORMATS)}")
        text = writer(request.format or form.JSONL)
        header = "" if request.after else text.header
        try:
            for named in self._exports.blocks(caller, _query(request)):
                yield from _chunks(named, text, header)
                header = ""
        except Invalid as refusal:
            raise refusal.renamed(_FIELDS.get(refusal.field, refusal.field)) from None

    def tail(self, caller: Caller, request: records_pb2.TailRequest) -> Iterator[records_pb2.TailMessage]:
        """Records as they come."""
        for arrivals in self._tails.follow(caller, dict(request.filters), request.last, request.after):
            yield records_pb2.TailMessage(events=map(convert.event, arrivals.events), position=arrivals.position)


def _query(request: records_pb2.ExportRequest) -> ExportQuery:
    return ExportQuery(
        Span(
            bounded(request.since_ms if request.HasField("since_ms") else None),
            bounded(request.until_ms if request.HasField("until_ms") else None),
        ),
        dict(request.filters),
        request.after,
        request.end or None,
    )


def _chunks(named: NamedBlock, text: Writer, header: str) -> Iterator[records_pb2.ExportChunk]:
    """The pieces of a block; the last says that the block is done."""
    block = named.block
    lines = text.lines(named)
    begin = 0
    for end in _cuts(lines):
        yield records_pb2.ExportChunk(
            text=(header + "".join(lines[begin:end])).encode(),
            records=end - begin,
            position=block.position if end == len(lines) else block.rows[end - 1][0],
            start=named.start,
            end=named.end,
        )
        header, begin = "", end


def _cuts(lines: Sequence[str]) -> Iterator[int]:
    """Behind which lines to cut, the last included."""
    size = 0
    for at, line in enumerate(lines):
        size += len(line)
        if size >= CHUNK_CHARACTERS and at + 1 < len(lines):
            yield at + 1
            size = 0
    yield len(lines)
