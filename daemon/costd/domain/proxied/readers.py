"""Read what was sold out of the bytes of an answer as they pass, in whatever pieces, and never fail at it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from costd.domain.proxied.batch_orders import with_results_at
from costd.domain.proxied.batch_results import sold_by_line
from costd.domain.proxied.openai_chat import is_usage_alone, without_usage
from costd.domain.proxied.said import Loads, Said, parsed
from costd.domain.proxied.sold import Sold
from costd.domain.proxied.sse import Event, EventSplitter
from costd.domain.proxied.tally import Dialect, Tally

#: A JSON answer up to here is kept to be parsed; of a longer one, where its usage may be: most begin or end with it.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
_EDGE_BYTES = 64 * 1024
#: The result of one request of a batch.
MAX_LINE_BYTES = 16 * 1024 * 1024

#: An object of counts, which nests once or twice, as a member: within texts, quotes are escaped.
_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})')
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]{1,256}")')


class Reader(ABC):
    """Reads one answer. Feed it the bytes as the provider meant them (decompressed)."""

    @abstractmethod
    def feed(self, chunk: bytes) -> bytes:
        """Take note of a piece; what is returned is what the caller gets for it, now.

        That is the piece itself, but where the usage is taken out of a stream (hide_usage): there it is whole events.
        """

    @property
    def hides_usage(self) -> bool:
        """Whether something may be taken out: then the caller gets what `feed` and `rest` return, and nothing else."""
        return False

    def rest(self) -> bytes:
        """What was held back and still goes to the caller. Call it once, when there will be no more pieces."""
        return b""

    def take(self) -> list[Sold]:
        """What became known since the last time, where an answer tells of many requests (the results of a batch)."""
        return []

    @property
    def is_finished(self) -> bool:
        """Whether the end of the answer was seen in it, so that nothing that counts can follow."""
        return False

    @abstractmethod
    def end(self, *, is_whole: bool) -> Sold:
        """What was sold; `is_whole`: the provider's answer was read up to its end, as HTTP tells it. After `rest`."""


class EventReader(Reader):
    """Server-sent events."""

    def __init__(self, dialect: Dialect, loads: Loads, *, hide_usage: bool = False) -> None:
        """`hide_usage`: take out of the stream what is there only because its usage was asked for on the way."""
        self._dialect = dialect
        self._loads = loads
        self._hide = hide_usage
        self._splitter = EventSplitter()
        self._tally = Tally()
        self._is_begun = False

    @property
    def hides_usage(self) -> bool:
        """As it was made."""
        return self._hide

    @property
    def is_finished(self) -> bool:
        """Whether the event that ends the stream passed."""
        return self._tally.is_finished

    def feed(self, chunk: bytes) -> bytes:
        """Look at the events that are complete now."""
        self._is_begun = self._is_begun or bool(chunk)
        passed = [self._seen(event) for event in self._splitter.feed(chunk)]
        return b"".join(passed) if self._hide else chunk

    def rest(self) -> bytes:
        """What was held back of the last event, which is looked at as well."""
        passed = [self._seen(event) for event in self._splitter.end()]
        # An event without an end is none, but there are servers that end with one.
        rest = self._splitter.rest()
        tail = EventSplitter().feed(rest + b"\n\n") if rest else []
        shown = [self._seen(event) for event in tail]
        hidden = bool(tail) and not any(shown)
        return b"".join(passed) + (b"" if hidden else rest) if self._hide else b""

    def end(self, *, is_whole: bool) -> Sold:
        """What the events told."""
        tally = self._tally
        # Where every event tells what was used so far, and none that it is the last, HTTP tells the end.
        told = is_whole and bool(tally.usage) and not self._dialect.is_text
        complete = tally.is_counted or told or (tally.is_finished and not tally.is_failed)
        return tally.sold(is_begun=self._is_begun, is_complete=complete)

    def _seen(self, event: Event) -> bytes:
        """Take note of an event; what the caller gets of it."""
        if not event.data:
            return event.raw
        if event.data.startswith(b"[DONE]"):
            self._tally.is_finished = True
            return event.raw
        said = parsed(self._loads, event.data)
        if said:
            self._dialect.event(self._tally, event.name, said)
        if not self._hide:
            return event.raw
        return b"" if is_usage_alone(said) else without_usage(event.raw)


class DocumentReader(Reader):
    """One JSON object."""

    def __init__(self, dialect: Dialect, loads: Loads, max_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        self._dialect = dialect
        self._loads = loads
        self._max = max_bytes
        self._document = bytearray()
        self._tail = bytearray()
        self._is_cut = False
        self._length = 0

    def feed(self, chunk: bytes) -> bytes:
        """Keep the piece, or what matters of it."""
        self._length += len(chunk)
        if self._is_cut:
            self._tail += chunk
            del self._tail[:-_EDGE_BYTES]
            return chunk
        self._document += chunk
        if self._length > self._max:
            self._is_cut = True
            self._tail = self._document[-_EDGE_BYTES:]
            del self._document[_EDGE_BYTES:]
        return chunk

    def end(self, *, is_whole: bool) -> Sold:
        """What the document tells, if all of it came."""
        tally = Tally()
        said = self._edges() if self._is_cut else parsed(self._loads, bytes(self._document))
        if said:
            self._dialect.document(tally, said)
        elif self._dialect.is_text and not is_whole:
            tally.chars = self._length
        complete = bool(said) and not (tally.is_failed and not tally.is_counted)
        return tally.sold(is_begun=self._length > 0, is_complete=complete or is_whole)

    def _edges(self) -> Said:
        """What can be told of a document that was too long to be kept."""
        said: Said = {}
        for edge in (bytes(self._document), bytes(self._tail)):
            for usage in _USAGE.findall(edge):
                said["usage"] = parsed(self._loads, usage)
            for model in _MODEL.findall(edge):
                said.setdefault("model", model[1:-1].decode("utf-8", "replace"))
        return said


class BatchObjectReader(DocumentReader):
    """One batch object or a list of them, kept whole, and passed on with costd's own addresses of their results."""

    def __init__(self, dialect: Dialect, loads: Loads, results_at: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        super().__init__(dialect, loads, max_bytes)
        self._results_at = results_at.encode()
        self._is_passing = False

    @property
    def hides_usage(self) -> bool:
        """Always: what the caller gets is another text."""
        return True

    def feed(self, chunk: bytes) -> bytes:
        """Keep the piece; of a document that is too long, let everything go as it came."""
        if self._is_passing:
            return super().feed(chunk)
        if self._length + len(chunk) > self._max:
            self._is_passing = True
            held = bytes(self._document)
            super().feed(chunk)
            return held + chunk
        super().feed(chunk)
        return b""

    def rest(self) -> bytes:
        """The document."""
        return b"" if self._is_passing else with_results_at(self._results_at, bytes(self._document))


class LineReader(Reader):
    """The results of a batch, a JSON object in every line."""

    def __init__(self, loads: Loads, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._loads = loads
        self._max = max_bytes
        self._held = bytearray()
        self._is_skipping = False
        self._found: list[Sold] = []

    def feed(self, chunk: bytes) -> bytes:
        """Look at the lines that are complete now."""
        if b"\n" not in chunk:
            self._held += chunk
        else:
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                self._held += line
                self._line()
            self._held += rest
        if len(self._held) > self._max:
            self._held.clear()
            self._is_skipping = True
        return chunk

    def rest(self) -> bytes:
        """The last line needs no end."""
        self._line()
        return b""

    def take(self) -> list[Sold]:
        """The requests of the lines since the last time."""
        found, self._found = self._found, []
        return found

    def end(self, *, is_whole: bool) -> Sold:
        """Whether there is more; what was sold is told by `take`."""
        return Sold(is_complete=is_whole)

    def _line(self) -> None:
        if self._held and not self._is_skipping:
            sold = sold_by_line(parsed(self._loads, bytes(self._held)))
            if sold is not None:
                self._found.append(sold)
        self._held.clear()
        self._is_skipping = False


class OpaqueReader(Reader):
    """A body that says nothing about its use: a sound, a text, a file, the error page of a proxy."""

    def __init__(self, *, is_error: bool) -> None:
        self._is_error = is_error
        self._is_begun = False

    def feed(self, chunk: bytes) -> bytes:
        """Pass it on."""
        self._is_begun = self._is_begun or bool(chunk)
        return chunk

    def end(self, *, is_whole: bool) -> Sold:
        """Whether all of it came."""
        return Sold(is_begun=self._is_begun, is_complete=is_whole, is_error=self._is_error)
