"""Watches the bytes of an HTTP response on their way to the caller, and ends its call when they end.

The seam is the response object that every SDK reads its answers from, in httpx and httpx2 alike: `iter_raw` or
`iter_bytes`, through which all ways of reading go, and `close`, through which all ways of ending go. A parsed stream, a
raw response, a streamed one and a stream helper are the same from here, and what the caller holds is the SDK's own
object. Bytes pass as they come; they are held back, up to the end of an event, only where an event may have
to be hidden.
"""

from __future__ import annotations

import json
import logging
import re
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

from costd_client.outcome import Outcome
from costd_client.provider_usage import INCOMPLETE, PENDING, SUCCESS, StreamUsage, find_usage

_log = logging.getLogger("costd_client")

#: A JSON answer that is longer is passed on, but not kept to look for its usage.
MAX_JSON_BYTES = 64 * 1024 * 1024

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
#: Events worth parsing: with counts, with an error, or the last one. In text, quotes are escaped, so it hardly matches.
_WORTH_PARSING = re.compile(
    rb'"usage"\s*:\s*\{|"error"\s*:|\[DONE\]|message_stop|response\.(?:completed|incomplete|failed)|"type"\s*:\s*"error"'
)
#: With include_usage every chunk says that there is no usage yet; without it, none says anything.
_NO_USAGE_YET = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')


class Reader(Protocol):
    """Reads the usage out of a body that passes in pieces."""

    def feed(self, chunk: bytes) -> bytes:
        """Take note of a piece; what is returned is passed on."""

    def rest(self) -> bytes:
        """What was held back; there will be no more pieces."""

    def report(self, outcome: Outcome, *, ended: bool) -> str:
        """Say what was used; the status it ends with, which `ended` (nothing is missing) may decide."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing that matters can follow."""


class EventReader:
    """Server-sent events; hides the event with nothing but the usage where the caller did not ask for it."""

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide = hide_usage
        self._pieces: list[bytes] = []
        self._usage = StreamUsage()

    @property
    def is_finished(self) -> bool:
        """Whether the end of the stream was seen."""
        return self._usage.is_finished

    def feed(self, chunk: bytes) -> bytes:
        """Look at the events that are complete now."""
        last = self._pieces[-1][-3:] if self._pieces else b""
        self._pieces.append(chunk)
        if not _EVENT_END.search(last + chunk):
            return b"" if self._hide else chunk
        data = b"".join(self._pieces)
        passed, start = [], 0
        for end in _EVENT_END.finditer(data):
            passed.append(self._seen(data[start : end.end()]))
            start = end.end()
        self._pieces = [data[start:]] if start < len(data) else []
        return b"".join(passed) if self._hide else chunk

    def rest(self) -> bytes:
        """The event without an end."""
        rest = self._seen(b"".join(self._pieces))
        self._pieces.clear()
        return rest if self._hide else b""

    def report(self, outcome: Outcome, *, ended: bool) -> str:
        """What was seen of the usage."""
        found = self._usage.found()
        outcome.usage(found)
        del ended  # Only the stream itself can say that it is complete.
        return found.status

    def _seen(self, event: bytes) -> bytes:
        """Take note of an event; what is left of it for the caller who did not ask for usage."""
        if _WORTH_PARSING.search(event):
            data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
            if data.startswith(b"[DONE]"):
                self._usage.end()
                return event
            try:
                said = json.loads(data)
                self._usage.see(said)
            except Exception as error:
                _log.debug("an event of a stream was not understood: %s", type(error).__name__)
                return event
            if isinstance(said, dict) and said.get("choices") == [] and said.get("usage"):
                return b""
        return _NO_USAGE_YET.sub(b"", event) if self._hide else event


class JsonReader:
    """One JSON document."""

    is_finished = False

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> bytes:
        """Keep a copy until the end."""
        self._length += len(chunk)
        if self._length <= MAX_JSON_BYTES:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()
        return chunk

    def rest(self) -> bytes:
        """Nothing is held back."""
        return b""

    def report(self, outcome: Outcome, *, ended: bool) -> str:
        """What the document says, if all of it was read."""
        if not ended:
            return INCOMPLETE
        try:
            found = find_usage(json.loads(b"".join(self._chunks)))
        except ValueError:
            found = None
        if found is None:
            return SUCCESS
        outcome.usage(found)
        return INCOMPLETE if found.status == PENDING else found.status


class OpaqueReader:
    """A body that says nothing about usage: audio, text."""

    is_finished = False

    def feed(self, chunk: bytes) -> bytes:
        """Pass it on."""
        return chunk

    def rest(self) -> bytes:
        """Nothing is held back."""
        return b""

    def report(self, outcome: Outcome, *, ended: bool) -> str:
        """Whether all of it was read."""
        del outcome
        return SUCCESS if ended else INCOMPLETE


def reader_for(content_type: str, *, streams: bool, hide_usage: bool) -> Reader:
    """The reader of a body of this type; `streams`: the request asked for events."""
    if "event-stream" in content_type or (streams and "json" not in content_type):
        return EventReader(hide_usage=hide_usage)
    return JsonReader() if "json" in content_type else OpaqueReader()


class Tap:
    """Ends a call when the response that answers it has been read, has broken, or was closed or dropped before."""

    def __init__(self, outcome: Outcome, reader: Reader) -> None:
        self._outcome = outcome
        self._reader = reader
        self._method = ""
        self._is_reading = False
        self._is_over = False
        self._on_drop: weakref.finalize[..., Any] | None = None

    def attach(self, response: Any) -> None:
        """Watch `response`, which must not have been read. It is not kept alive by this."""
        # Where nothing is compressed, iter_bytes reads by iter_raw, and callers may use either.
        self._method = "iter_bytes" if response.headers.get("content-encoding") else "iter_raw"
        response.__dict__[_TAP] = self
        # A class of its own instead of methods on the instance: those would have to hold the response, and a response
        # that holds itself is closed late when it is dropped.
        response.__class__ = _watched(type(response))  # type: ignore[arg-type]  # types are hashable
        self._on_drop = weakref.finalize(response, self.end, ended=False)

    def take(self, body: bytes) -> None:
        """End the call with a body that was read already."""
        self._reader.feed(body)
        self._reader.rest()
        self.end(ended=True)

    def end(self, *, ended: bool) -> None:
        """Say what was used, and end the call; only the first time counts."""
        if self._is_over:
            return
        self._is_over = True
        status = INCOMPLETE
        try:
            status = self._reader.report(self._outcome, ended=ended)
        except Exception as error:
            _log.warning("no usage could be read out of a response: %s", type(error).__name__)
        self._outcome.finish(status=status)
        if self._on_drop is not None:
            self._on_drop.detach()

    def passing(self, source: Iterator[bytes], method: str) -> Iterator[bytes]:
        """What the caller reads."""
        return self._passing(source) if method == self._method else source

    def passing_async(self, source: AsyncIterator[bytes], method: str) -> AsyncIterator[bytes]:
        """What the caller reads."""
        return self._passing_async(source) if method == self._method else source

    def closed(self) -> None:
        """The response was closed."""
        # It closes itself within the read that finds its end; that read goes on to say how it ended.
        if not self._is_reading:
            self.end(ended=False)

    def _passing(self, source: Iterator[bytes]) -> Iterator[bytes]:
        with self._reading():
            for chunk in source:
                passed = self._fed(chunk)
                if passed:
                    yield passed
                self._is_reading = True
        rest = self._rest()
        if rest:
            yield rest

    async def _passing_async(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        with self._reading():
            async for chunk in source:
                passed = self._fed(chunk)
                if passed:
                    yield passed
                self._is_reading = True
        rest = self._rest()
        if rest:
            yield rest

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._is_reading = True
        try:
            yield
        except GeneratorExit:
            # The reader went away; the response is closed or dropped next.
            raise
        except BaseException:
            self.end(ended=False)
            raise
        finally:
            self._is_reading = False

    def _fed(self, chunk: bytes) -> bytes:
        self._is_reading = False
        passed = self._reader.feed(chunk)
        if self._reader.is_finished:
            self.end(ended=True)
        return passed

    def _rest(self) -> bytes:
        rest = self._reader.rest()
        self.end(ended=True)
        return rest


#: The tap of a watched response, among its attributes.
_TAP = "_costd_tap"


@cache
def _watched(kind: type) -> type:
    """A response class that lets a tap see what passes."""

    class Watched(kind):  # type: ignore[misc]
        def iter_raw(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
            return _tap(self).passing(super().iter_raw(*arguments, **options), "iter_raw")

        def iter_bytes(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
            return _tap(self).passing(super().iter_bytes(*arguments, **options), "iter_bytes")

        def aiter_raw(self, *arguments: Any, **options: Any) -> AsyncIterator[bytes]:
            return _tap(self).passing_async(super().aiter_raw(*arguments, **options), "iter_raw")

        def aiter_bytes(self, *arguments: Any, **options: Any) -> AsyncIterator[bytes]:
            return _tap(self).passing_async(super().aiter_bytes(*arguments, **options), "iter_bytes")

        def close(self) -> None:
            try:
                super().close()
            finally:
                _tap(self).closed()

        async def aclose(self) -> None:
            try:
                await super().aclose()
            finally:
                _tap(self).closed()

    Watched.__name__, Watched.__qualname__, Watched.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    Watched.__doc__ = kind.__doc__
    return Watched


def _tap(response: Any) -> Tap:
    tap: Tap = response.__dict__[_TAP]
    return tap
