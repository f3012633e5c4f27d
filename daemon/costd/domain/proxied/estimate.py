"""The most that a call may use, from its body alone: what a preflight reserves.

The rule of thumb is that of costd's clients, chosen so that a hard budget is kept, not so that it comes close:

- text: one token for every two bytes of UTF-8, names of fields included. English takes about four bytes a token, code
  and JSON about three, Chinese, Cyrillic and Arabic two to three; numbers count by their digits, but for a prompt or an
  input that is a list of token numbers, which counts as it is;
- an image: 5,000 tokens, more than any current model takes for one (but gpt-4o-mini, which counts them thirtyfold);
- audio: a token for every 200 bytes of base64; documents: one for every 8, or 10,000 where only a link or id is sent;
  what is said beside them (a title, a context) counts as text;
- output: the request's own limit, for each of the `n` answers it asks for.

What the provider keeps (a previous response, a stored prompt) cannot be seen and is not estimated, nor is how long an
uploaded recording is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costd.domain.units import MAX_QUANTITY

Body = dict[str, Any]
Estimate = dict[str, int]

BYTES_PER_TOKEN = 2
#: What text is likely to be, for an answer that broke off before the provider counted its input.
LIKELY_BYTES_PER_TOKEN = 4
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

#: A body of 32 MiB can hold more values; what is beyond is estimated as none.
_MAX_VALUES = 1_000_000
_IMAGES = frozenset({"image", "image_url", "input_image", "computer_screenshot", "image_generation_call"})
_DOCUMENTS = frozenset({"file", "input_file", "document"})
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


def estimate(endpoint: str, body: Body, unlimited_output_tokens: int) -> Estimate:
    """Units a call of the endpoint (routes.Route.endpoint) may use at most; {} where that cannot be seen.

    `unlimited_output_tokens` is taken for the output where the request sets no limit and could.
    """
    rule = _RULES.get(endpoint)
    units = rule(body, unlimited_output_tokens) if rule else {}
    return {unit: min(count, MAX_QUANTITY) for unit, count in units.items()}


def asked_units(endpoint: str, body: Body) -> Estimate:
    """Units that the request itself decides, and that the answer does not tell: the text to be spoken."""
    text = body.get("input")
    return {"input_characters": len(text)} if endpoint == "audio/speech" and isinstance(text, str) else {}


def likely_input_tokens(endpoint: str, body: Body) -> int:
    """What the request is likely to hold, for sold.bill; half of what is reserved for it."""
    return estimate(endpoint, body, 0).get("input_tokens", 0) * BYTES_PER_TOKEN // LIKELY_BYTES_PER_TOKEN


def _text_tokens(*values: Any) -> int:
    """At most how many tokens there are in parts of a body: texts, messages, tools, token numbers."""
    said = [value for value in values if value is not None]
    waiting: list[Any] = [part for value in said for part in (value if _holds_tokens(value) else [value])]
    tokens = sum(len(part) for part in waiting if _is_tokens(part))
    waiting = [part for part in waiting if not _is_tokens(part)]
    size, left = 0, _MAX_VALUES
    while waiting and left:
        left -= 1
        value = waiting.pop()
        if isinstance(value, str):
            size += _bytes(value)
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            attached = _attachment_tokens(value)
            if attached is not None:
                tokens += attached
                value = {name: each for name, each in value.items() if name not in _CARRIERS}
            size += sum(map(_bytes, value))
            waiting.extend(value.values())
        else:
            size += _digits(value)
    return tokens + -(-size // BYTES_PER_TOKEN)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def _holds_tokens(value: Any) -> bool:
    """Whether it is a list of prompts, some of which are token numbers."""
    return isinstance(value, list) and any(map(_is_tokens, value))


def _digits(value: object) -> int:
    """At most how many characters of JSON there are in a number, its comma included; four in true and null."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value.bit_length() * 3 // 10 + 2
    return len(repr(value)) + 1 if isinstance(value, float) else 4


def _attachment_tokens(value: Body) -> int | None:
    """The tokens of an image, a document or a piece of audio; None for anything else."""
    kind = value.get("type")
    if not isinstance(kind, str):
        return None
    if kind in _IMAGES:
        return IMAGE_TOKENS
    if kind == "input_audio":
        return _inline_bytes(value) // AUDIO_BYTES_PER_TOKEN
    if kind in _DOCUMENTS:
        source = value.get("source")
        if isinstance(source, dict) and source.get("type") in ("text", "content"):
            return None
        return _inline_bytes(value) // DOCUMENT_BYTES_PER_TOKEN or LINKED_DOCUMENT_TOKENS
    return None


def _inline_bytes(value: Body) -> int:
    """The length of the data sent along, wherever in the object it is."""
    holders = [value, *(value.get(name) for name in ("source", "file", "input_audio"))]
    data = (holder.get(name) for holder in holders if isinstance(holder, dict) for name in ("data", "file_data"))
    return sum(len(inline) for inline in data if isinstance(inline, str))


def _limit(body: Body, *names: str, unless_limited: int) -> int:
    """The first of the request's own limits that is there."""
    for name in names:
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return unless_limited


def _count(body: Body, *names: str) -> int:
    """How many answers are asked for: the most that any of the fields says, at least one."""
    said = (body.get(name) for name in names)
    return max(1, *(value for value in said if isinstance(value, int)), 1)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _chat(body: Body, unlimited: int) -> Estimate:
    parts = (body.get(name) for name in ("messages", "tools", "functions", "response_format"))
    output = _limit(body, "max_completion_tokens", "max_tokens", unless_limited=unlimited)
    # A prediction that does not come true is billed as output.
    output += _text_tokens(body.get("prediction"))
    return {"input_tokens": _text_tokens(*parts), "output_tokens": output * _count(body, "n")}


def _responses(body: Body, unlimited: int) -> Estimate:
    parts = (body.get(name) for name in ("input", "instructions", "tools", "text", "prompt"))
    output = _limit(body, "max_output_tokens", unless_limited=unlimited)
    return {"input_tokens": _text_tokens(*parts), "output_tokens": output}


def _messages(body: Body, unlimited: int) -> Estimate:
    parts = (body.get(name) for name in ("system", "messages", "tools", "output_format", "output_config"))
    own = TOOLS_TOKENS if body.get("tools") else 0
    output = _limit(body, "max_tokens", unless_limited=unlimited)
    return {"input_tokens": _text_tokens(*parts) + own, "output_tokens": output}


def _completions(body: Body, _unlimited: int) -> Estimate:
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    output = _limit(body, "max_tokens", unless_limited=LEGACY_COMPLETION_TOKENS)
    answers = prompts * _count(body, "n", "best_of")
    return {"input_tokens": _text_tokens(prompt, body.get("suffix")), "output_tokens": output * answers}


def _fim(body: Body, unlimited: int) -> Estimate:
    output = _limit(body, "max_tokens", unless_limited=unlimited)
    return {"input_tokens": _text_tokens(body.get("prompt"), body.get("suffix")), "output_tokens": output}


def _input(body: Body, _unlimited: int) -> Estimate:
    return {"input_tokens": _text_tokens(*(body.get(name) for name in ("input", "query", "documents")))}


def _images(body: Body, _unlimited: int) -> Estimate:
    quality = body.get("quality")
    each = IMAGE_OUTPUT_TOKENS.get(quality if isinstance(quality, str) else "", DEAREST_IMAGE_OUTPUT_TOKENS)
    each += PARTIAL_IMAGE_TOKENS * _limit(body, "partial_images", unless_limited=0)
    output = each * _count(body, "n")
    return {"input_tokens": _text_tokens(body.get("prompt")), "output_tokens": output, "output_image_tokens": output}


def _edits(body: Body, unlimited: int) -> Estimate:
    # The images come as files, at most sixteen; nearly always it is one with a mask.
    made = _images(body, unlimited)
    return {**made, "input_tokens": made["input_tokens"] + 2 * IMAGE_TOKENS}


def _speech(body: Body, _unlimited: int) -> Estimate:
    return asked_units("audio/speech", body)


_RULES: dict[str, Callable[[Body, int], Estimate]] = {
    "chat/completions": _chat,
    "fim/completions": _fim,
    "completions": _completions,
    "responses": _responses,
    "responses/compact": _responses,
    "decisions": _responses,
    "messages": _messages,
    "embeddings": _input,
    "rerank": _input,
    "images/generations": _images,
    "images/edits": _edits,
    "images/variations": _edits,
    "audio/speech": _speech,
}
