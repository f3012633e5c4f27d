"""Answers of Anthropic's Messages API, whole and streamed.

Formats: https://docs.anthropic.com/en/api/messages and …/messages-streaming. `message_start` holds the input and cache
counts and a first, low, output count; `message_delta` counts are cumulative: what is named again replaces what was said
before, and null says nothing. `message_stop` ends the stream; an `error` event may end it at any place.
"""

from __future__ import annotations

from costd.domain.proxied.said import Said, inner, spoken_chars, word
from costd.domain.proxied.tally import Dialect, Tally, has_error


def _document(tally: Tally, said: Said) -> None:
    tally.identify(said)
    tally.count(inner(said, "usage"))
    tally.is_counted = bool(tally.usage)
    tally.chars = spoken_chars(said.get("content"))
    if has_error(said):
        tally.fail()


def _event(tally: Tally, name: str, said: Said) -> None:
    kind = word(said, "type") or name
    if kind == "message_start":
        message = inner(said, "message")
        tally.identify(message)
        tally.count(inner(message, "usage"))
    elif kind == "content_block_start":
        tally.chars += spoken_chars(inner(said, "content_block"))
    elif kind == "content_block_delta":
        tally.chars += spoken_chars(inner(said, "delta"))
    elif kind == "message_delta":
        tally.usage |= {field: value for field, value in inner(said, "usage").items() if value is not None}
        tally.is_counted = tally.is_counted or bool(inner(said, "delta").get("stop_reason"))
    elif kind == "message_stop":
        tally.is_finished = True
    elif has_error(said) or kind == "error":
        tally.fail()


MESSAGES = Dialect(_document, _event, is_text=True)
