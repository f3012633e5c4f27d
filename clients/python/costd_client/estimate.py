"""The most that a request may use, from its body alone: what a preflight reserves.

The rule of thumb, chosen so that a hard budget is kept, not so that it comes close:

- text: one token for every two bytes of UTF-8, names of fields included. English takes about four bytes a token, code
  and JSON about three, Chinese, Cyrillic and Arabic two to three; numbers count by their digits, but for a prompt or an
  input that is a list of token numbers, which counts as it is;
- an image: 5,000 tokens, more than any current model takes for one (but gpt-4o-mini, which counts them thirtyfold);
- audio: a token for every 200 bytes of base64; documents: one for every 8, or 10,000 where only a link or id is sent;
  what is said beside them (a title, a context) counts as text;
- output: the request's own limit, for each of the `n` answers it asks for.

What the provider keeps (a previous response, a stored prompt) cannot be seen and is not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]
Estimate = dict[str, int]

BYTES_PER_TOKEN = 2
IMAGE_TOKENS = 5_000
AUDIO_BYTES_PER_TOKEN = 200
DOCUMENT_BYTES_PER_TOKEN = 8
LINKED_DOCUMENT_TOKENS = 10_000

#: Providers put instructions of their own before a conversation that has tools.
TOOLS_TOKENS = 700

#: An image of the largest size at each quality; "auto" and anything unknown count as the dearest.
IMAGE_OUTPUT_TOKENS = {"low": 600, "standard": 1_600, "medium": 1_600}
DEAREST_IMAGE_OUTPUT_TOKENS = 6_300
PARTIAL_IMAGE_TOKENS = 100

#: What the completions API writes when it is not told how much.
LEGACY_COMPLETION_TOKENS = 16

#: Longer bodies than providers take; a body with a loop in it ends here.
_MAX_NODES = 1_000_000
_IMAGES = frozenset({"image", "image_url", "input_image", "computer_screenshot", "image_generation_call"})
_DOCUMENTS = frozenset({"file", "input_file", "document"})
_AUDIO = frozenset({"input_audio"})
#: Fields of those that hold their data, where it is, or what it is like.
_CARRIERS = frozenset(
    {
        "type",
        "source",
        "file",
        "input_audio",
        "image_url",
        "data",
        "file_data",
        "file_url",
        "file_id",
        "result",
        "detail",
    }
)


def text_tokens(*values: Any) -> int:
    """At most how many tokens there are in parts of a body: texts, messages, tools, token numbers."""
    said = [value for value in values if value is not None]
    waiting: list[Any] = [part for value in said for part in (value if _holds_tokens(value) else [value])]
    tokens = sum(len(part) for part in waiting if _is_tokens(part))
    waiting = [part for part in waiting if not _is_tokens(part)]
    size, left = 0, _MAX_NODES
    while waiting and left:
        left -= 1
        value = waiting.pop()
        if isinstance(value, str):
            size += _bytes(value)
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif value is None or isinstance(value, int | float):
            size += _digits(value)
        else:
            fields = _fields(value)
            attached = _attachment_tokens(fields)
            if attached is not None:
                tokens += attached
                fields = {name: each for name, each in fields.items() if name not in _CARRIERS}
            size += sum(_bytes(name) for name in fields if isinstance(name, str))
            waiting.extend(fields.values())
    return tokens + -(-size // BYTES_PER_TOKEN)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(type(each) is int for each in value)


def _holds_tokens(value: Any) -> bool:
    """Whether it is a list of prompts, some of which are token numbers."""
    return isinstance(value, list | tuple) and any(map(_is_tokens, value))


def _digits(value: object) -> int:
    """At most how many characters of JSON there are in a number, its comma included; four in true and null."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value.bit_length() * 3 // 10 + 2
    return len(repr(value)) + 1 if isinstance(value, float) else 4


def limit(body: Body, *names: str, unless_limited: int) -> int:
    """The first of the request's own limits that is there."""
    for name in names:
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return unless_limited


def count(body: Body, *names: str) -> int:
    """How many answers are asked for: the most that any of the fields says, at least one."""
    said = (body.get(name) for name in names)
    return max(1, *(value for value in said if isinstance(value, int)), 1)


def _attachment_tokens(fields: Mapping[str, Any]) -> int | None:
    """The tokens of an image, a document or a piece of audio; None for anything else."""
    kind = fields.get("type")
    if not isinstance(kind, str):
        return None
    if kind in _IMAGES:
        return IMAGE_TOKENS
    if kind in _AUDIO:
        return _inline_bytes(fields) // AUDIO_BYTES_PER_TOKEN
    if kind in _DOCUMENTS:
        source = _fields(fields.get("source"))
        if source.get("type") in ("text", "content"):
            return None
        return _inline_bytes(fields) // DOCUMENT_BYTES_PER_TOKEN or LINKED_DOCUMENT_TOKENS
    return None


def _inline_bytes(fields: Mapping[str, Any]) -> int:
    """The length of the data sent along, wherever in the object it is."""
    data = 0
    for holder in (fields, *(_fields(fields.get(name)) for name in ("source", "file", "input_audio"))):
        for name in ("data", "file_data"):
            inline = holder.get(name)
            data += len(inline) if isinstance(inline, str | bytes) else 0
    return data


def _fields(value: object) -> Mapping[str, Any]:
    """A mapping, or the fields of an SDK's object; nothing of what may only be read once."""
    if isinstance(value, Mapping):
        return value
    own = getattr(value, "__dict__", None)
    return own if isinstance(own, dict) and hasattr(value, "model_fields_set") else {}


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
