"""Answers of chat completions and of the completions before them, as OpenAI and all who speak its dialect give them.

Formats: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming. A stream tells its usage in
one more chunk with empty `choices` before `[DONE]`, if `stream_options.include_usage` asked for it; every other chunk
then says `"usage": null`. DeepSeek, Mistral, Perplexity and others tell it, asked or not, in the last chunk that has
choices; xAI and vLLM (continuous_usage_stats) tell what it is so far in every chunk; Groq tells it in `x_groq` as well.
"""

from __future__ import annotations

import re

from costd.domain.proxied.said import Said, inner, listed, spoken_chars
from costd.domain.proxied.tally import Dialect, Tally, has_error

#: Quotes within strings are escaped, so this is never a part of a text.
_NO_USAGE_YET = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')


def is_usage_alone(said: Said) -> bool:
    """Whether a chunk is the additional one that `include_usage` asks for."""
    return said.get("choices") == [] and bool(inner(said, "usage"))


def without_usage(raw: bytes) -> bytes:
    """The bytes of another chunk as they would be if nobody had asked for usage."""
    return _NO_USAGE_YET.sub(b"", raw)


def _document(tally: Tally, said: Said) -> None:
    tally.identify(said)
    tally.count(inner(said, "usage"))
    tally.is_counted = bool(tally.usage)
    tally.chars = spoken_chars([choice.get("message") or choice for choice in listed(said, "choices")])
    if has_error(said):
        tally.fail()


def _event(tally: Tally, _name: str, said: Said) -> None:
    tally.identify(said)
    tally.count(inner(inner(said, "x_groq"), "usage"))
    tally.count(inner(said, "usage"))
    ends = False
    for choice in listed(said, "choices"):
        # `text` is the older API's; everything else an answer says is in the delta.
        tally.chars += spoken_chars(choice.get("delta") or {"text": choice.get("text")})
        ends = ends or bool(choice.get("finish_reason"))
    if tally.usage and (ends or not said.get("choices")):
        tally.is_counted = True
    if has_error(said):
        tally.fail()


CHAT = Dialect(_document, _event, is_text=True)
