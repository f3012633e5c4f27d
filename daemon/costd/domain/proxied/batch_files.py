"""What a batch may use whose requests are in a file, read out of the form that the file is uploaded in, as it passes.

Format: https://platform.openai.com/docs/guides/batch (in every line a JSON object with `url` and `body`).
The lines of the form around the file are no JSON objects, and those of other files no requests.
"""

from __future__ import annotations

from costd.domain.proxied.batch_orders import Ordered
from costd.domain.proxied.readers import MAX_LINE_BYTES
from costd.domain.proxied.routes import clean_path, route_of
from costd.domain.proxied.said import Loads, inner, parsed, word

#: A file of which so many objects are no requests is none of a batch.
_ODD_LINES = 20


class FileReader:
    """Reads one upload."""

    def __init__(self, loads: Loads, unlimited_output_tokens: int, max_bytes: int = MAX_LINE_BYTES) -> None:
        """`unlimited_output_tokens` is taken for the output of requests that set no limit."""
        self._loads = loads
        self._max = max_bytes
        self._held = bytearray()
        self._is_skipping = False
        self._odd_lines = 0
        #: What there is in it so far.
        self.ordered = Ordered(unlimited_output_tokens)

    def feed(self, chunk: bytes) -> None:
        """Look at the lines that are complete now."""
        if self._odd_lines >= _ODD_LINES:
            return
        first, *rest = chunk.split(b"\n")
        self._held += first
        for line in rest:
            self._line()
            self._held += line
        if len(self._held) > self._max:
            self._held.clear()
            self._is_skipping = True

    def end(self) -> None:
        """The last line needs no end."""
        self._line()

    def _line(self) -> None:
        line, was_skipping = bytes(self._held), self._is_skipping
        self._held.clear()
        self._is_skipping = False
        if was_skipping or not line.startswith(b"{"):
            return
        said = parsed(self._loads, line)
        body, path = inner(said, "body"), clean_path(word(said, "url"))
        if not body or path is None:
            self._odd_lines += 1
            return
        self.ordered.add(route_of("POST", path).endpoint, body)
