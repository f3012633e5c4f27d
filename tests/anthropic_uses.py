"""Uses of Anthropic's SDK, for every test that stands between it and a provider."""

from __future__ import annotations

from pydantic import BaseModel

from fake_provider import PROMPT
from wrapping import Use

MODEL = "claude-opus-5"
MESSAGE = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": PROMPT}]}
TOOL = {"name": "weather", "description": PROMPT, "input_schema": {"type": "object", "properties": {}}}
CACHED = {"cached": 300, "written": 41}
THINKING = {"thinking": {"type": "adaptive"}}
THOUGHT = {"thinking": "Bern?", "reasoning": 64}
SEARCH = {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}
#: A prompt that is written into the cache for five minutes, and for an hour.
CACHING = {"system": [{"type": "text", "text": PROMPT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}


class Weather(BaseModel):
    """What a model is asked to answer with."""

    city: str


USES = {
    "message": Use("messages.create", MESSAGE, wish=CACHED),
    "message with a tool": Use("messages.create", MESSAGE | {"tools": [TOOL]}, wish={"tool_call": True}),
    "message with searches": Use("messages.create", MESSAGE | SEARCH, wish={"searches": 3}),
    "message with thoughts": Use("messages.create", MESSAGE | THINKING, wish=THOUGHT),
    "message with a cached prompt": Use("messages.create", MESSAGE | CACHING, wish={"written": 41}),
    "message at another speed": Use("messages.create", MESSAGE, wish={"speed": "fast"}),
    "message at another tier": Use("messages.create", MESSAGE, wish={"tier": "batch"}),
    "beta message": Use("beta.messages.create", MESSAGE | {"betas": ["some-beta"]}, wish=CACHED),
    "streamed": Use("messages.create", MESSAGE | {"stream": True}, "events", CACHED | {"searches": 1}),
    "streamed with a tool": Use(
        "messages.create", MESSAGE | {"stream": True, "tools": [TOOL]}, "events", {"tool_call": True}
    ),
    "streamed with thoughts": Use("messages.create", MESSAGE | THINKING | {"stream": True}, "events", THOUGHT | CACHED),
    "stream helper with thoughts and searches": Use(
        "messages.stream", MESSAGE | THINKING | SEARCH, "get_final_message", THOUGHT | {"searches": 2}
    ),
    "stream helper": Use("messages.stream", MESSAGE, "get_final_message", CACHED | {"speed": "fast"}),
    "beta stream helper": Use("beta.messages.stream", MESSAGE, "get_final_message", CACHED),
}

#: What goes by a proxy besides; no wrapper looks at it.
FORMS = {
    "message parsed": Use(
        "messages.parse", MESSAGE | {"output_format": Weather}, wish={"text": '{"city":"Bern"}', "cached": 3}
    ),
}
