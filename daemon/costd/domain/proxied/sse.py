"""Splits a stream of server-sent events as its bytes arrive, without losing or changing one.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. Lines end with CR, LF
or CRLF; an empty line ends an event; a line that begins with a colon is a comment; a byte order mark may come first.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: An event may hold a whole answer with the images in it, and then it is the one that tells the usage.
MAX_EVENT_BYTES = 32 * 1024 * 1024

#: Two ends of lines in a row. Possessive: the LF of a CRLF is never taken for an end of its own.
_EVENT_END = re.compile(rb"(?:\r\n?+|\n)(?:\r\n?+|\n)")
_LINE_END = re.compile(rb"\r\n?|\n")
_LONGEST_END = 4
_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name ("" where it has none), its data lines joined by LF, and all bytes it came as.

    `raw` includes the empty line that ends it, and what lay before its first line. An event without data is a comment,
    or a piece of one that was too long to be looked at.
    """

    name: str
    data: bytes
    raw: bytes


class EventSplitter:
    """Cuts bytes into events. The `raw` of all events and `rest` together are the bytes that were fed."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._held = bytearray()
        self._is_first = True
        self._is_skipping = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with these bytes.

        An event that ends with CR waits for the next byte, which may be the LF that belongs to it.
        """
        searched = max(0, len(self._held) - _LONGEST_END + 1)
        self._held += chunk
        held, events, start = self._held, [], 0
        while end := _EVENT_END.search(held, searched):
            searched = end.end()
            if searched == len(held) and held[-1] == 0x0D:
                break
            events.append(self._event(bytes(held[start:searched])))
            start = searched
        del held[:start]
        if len(held) > (_LONGEST_END if self._is_skipping else self._max):
            events.append(self._too_long())
        return events

    def end(self) -> list[Event]:
        """The event that waited for a byte that does not come any more."""
        if not _EVENT_END.search(self._held):
            return []
        raw = bytes(self._held)
        self._held.clear()
        return [self._event(raw)]

    def rest(self) -> bytes:
        """What came after the last event; an event without an end is none."""
        return bytes(self._held)

    def _too_long(self) -> Event:
        """Pass on what cannot be the end of an event that is too long to be kept."""
        cut = len(self._held) - _LONGEST_END
        raw = bytes(self._held[:cut])
        del self._held[:cut]
        self._is_skipping = True
        return Event("", b"", raw)

    def _event(self, raw: bytes) -> Event:
        text = raw
        if self._is_first:
            self._is_first = False
            text = raw.removeprefix(_MARK)
        if self._is_skipping:
            self._is_skipping = False
            return Event("", b"", raw)
        name, data = "", []
        for line in _LINE_END.split(text):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ").decode("utf-8", "replace")
        return Event(name, b"\n".join(data), raw)
