"""Changes two members of a JSON body and leaves every other byte as it came, in its place.

Taken out is `_aipromptcost`, what the caller says to costd. Put in is `stream_options.include_usage`, without which
OpenAI's dialect does not tell what a stream used (https://platform.openai.com/docs/api-reference/chat/create). Parsing
and writing the body again would change numbers, escapes and the order of names, on which caches of providers depend.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

METADATA = "_aipromptcost"
_NAME = METADATA.encode()
_OPTIONS = "stream_options"
_FLAG = "include_usage"
_ASKED = b'{"include_usage":true}'
#: They end every stream with its usage, and may refuse to be asked.
_TELL_UNASKED = frozenset({"mistral", "perplexity"})

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
#: What matters within an array or an object: strings, as brackets may be in them, and brackets.
_NESTED = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}"]', re.DOTALL)


class Member(NamedTuple):
    """A member of an object: its name, where the name begins, where the value begins and where it ends."""

    name: str
    start: int
    value: int
    end: int


class Edited(NamedTuple):
    """A body as it goes upstream, and the JSON text of the metadata that was in it, if there was any."""

    body: bytes
    metadata: bytes | None = None


def edit(body: bytes, *, with_usage: bool) -> Edited:
    """The body without its metadata, and with the usage of the stream asked for.

    What is not one JSON object stays as it is, whatever is in it. Of members with the same name the last one counts, as
    parsers have it; all metadata is taken out. Options of a stream that are no object are left to the provider.
    """
    # Nearly all have no metadata: neither the name as it is, nor an escape that may hide a letter of it.
    if not with_usage and _NAME not in body and b"\\u" not in body:
        return Edited(body)
    members = _members(body, 0)
    if members is None:
        return Edited(body)
    changes = [_removal(body, members, at) for at, member in enumerate(members) if member.name == METADATA]
    said = [body[member.value : member.end] for member in members if member.name == METADATA]
    if with_usage:
        changes += _asking(body, members, is_empty=len(said) == len(members))
    return Edited(_changed(body, changes), said[-1] if said else None)


def must_ask_for_usage(provider: str, body: dict[str, Any]) -> bool:
    """Whether the stream that a parsed body asks for would not tell its usage by itself, on routes that can hide it.

    Where it is so, the body is edited `with_usage`, and the answer is read with `hide_usage`.
    """
    options = body.get(_OPTIONS)
    asks = isinstance(options, dict) and options.get(_FLAG) is True
    return body.get("stream") is True and not asks and provider not in _TELL_UNASKED


class _Change(NamedTuple):
    start: int
    end: int
    text: bytes


def _changed(body: bytes, changes: list[_Change]) -> bytes:
    """The body with its changes, which may touch but not overlap."""
    pieces, last = [], 0
    for change in sorted(changes):
        pieces += [body[last : max(last, change.start)], change.text]
        last = max(last, change.end)
    return b"".join([*pieces, body[last:]]) if changes else body


def _removal(body: bytes, members: list[Member], at: int) -> _Change:
    """Take a member out, with the comma after it, or before it if it is the last."""
    if at + 1 < len(members):
        return _Change(members[at].start, members[at + 1].start, b"")
    kept = [member for member in members if member.name != METADATA]
    start = kept[-1].end if kept else members[at].start
    return _Change(start, members[at].end, b"")


def _asking(body: bytes, members: list[Member], *, is_empty: bool) -> list[_Change]:
    options = [member for member in members if member.name == _OPTIONS]
    if not options:
        end = body.rindex(b"}")
        return [
            _Change(end, end, b'%s"%s":{"%s":true}' % (b"" if is_empty else b",", _OPTIONS.encode(), _FLAG.encode()))
        ]
    place = options[-1]
    if body[place.value : place.end] == b"null":
        return [_Change(place.value, place.end, b'{"%s":true}' % _FLAG.encode())]
    inner = _members(body, place.value)
    if inner is None:
        return []
    flags = [member for member in inner if member.name == _FLAG]
    if flags:
        return [_Change(flags[-1].value, flags[-1].end, b"true")]
    return [_Change(place.end - 1, place.end - 1, (b"," if inner else b"") + _ASKED[1:-1])]


def _members(body: bytes, start: int) -> list[Member] | None:
    """The members of the object at `start`; None where there is none. At 0 it must be all there is."""
    at = _skip(body, start)
    if body[at : at + 1] != b"{":
        return None
    members: list[Member] = []
    at = _skip(body, at + 1)
    if body[at : at + 1] == b"}":
        return members if start or _is_end(body, at + 1) else None
    while True:
        member = _member(body, at)
        if member is None:
            return None
        members.append(member)
        at = _skip(body, member.end)
        if body[at : at + 1] == b"}":
            return members if start or _is_end(body, at + 1) else None
        if body[at : at + 1] != b",":
            return None
        at = _skip(body, at + 1)


def _member(body: bytes, at: int) -> Member | None:
    name = _STRING.match(body, at)
    if name is None:
        return None
    colon = _skip(body, name.end())
    if body[colon : colon + 1] != b":":
        return None
    value = _skip(body, colon + 1)
    end = _value_end(body, value)
    return None if end is None else Member(_name(name[0]), at, value, end)


def _value_end(body: bytes, at: int) -> int | None:
    first = body[at : at + 1]
    if first not in {b"{", b"["}:
        match = (_STRING if first == b'"' else _SCALAR).match(body, at)
        return match.end() if match else None
    depth = 0
    for token in _NESTED.finditer(body, at):
        mark = body[token.start()]
        if mark == 0x22:
            if token.end() == token.start() + 1:
                return None  # a string without an end
        elif mark in b"[{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _name(text: bytes) -> str:
    try:
        name = json.loads(text) if b"\\" in text else text[1:-1].decode()
    except ValueError:
        return ""
    return name if isinstance(name, str) else ""


def _skip(body: bytes, at: int) -> int:
    space = _SPACE.match(body, at)
    return space.end() if space else at


def _is_end(body: bytes, at: int) -> bool:
    return _skip(body, at) == len(body)
