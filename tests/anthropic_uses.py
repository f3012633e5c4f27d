"""Uses of Anthropic's SDK, for every test that stands between it and a provider."""

from __future__ import annotations

from fake_provider import PROMPT
from wrapping import Use

MODEL = "claude-opus-5"
MESSAGE = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": PROMPT}]}
TOOL = {"name": "weather", "description": PROMPT, "input_schema": {"type": "object", "properties": {}}}
CACHED = {"cached": 300, "written": 41}

USES = {
    "message": Use("messages.create", MESSAGE, wish=CACHED),
    "message with a tool": Use("messages.create", MESSAGE | {"tools": [TOOL]}, wish={"tool_call": True}),
    "message with searches": Use("messages.create", MESSAGE, wish={"searches": 3}),
    "message at another speed": Use("messages.create", MESSAGE, wish={"speed": "fast"}),
    "message at another tier": Use("messages.create", MESSAGE, wish={"tier": "batch"}),
    "beta message": Use("beta.messages.create", MESSAGE | {"betas": ["some-beta"]}, wish=CACHED),
    "streamed": Use("messages.create", MESSAGE | {"stream": True}, "events", CACHED | {"searches": 1}),
    "streamed with a tool": Use(
        "messages.create", MESSAGE | {"stream": True, "tools": [TOOL]}, "events", {"tool_call": True}
    ),
    "stream helper": Use("messages.stream", MESSAGE, "get_final_message", CACHED | {"speed": "fast"}),
    "beta stream helper": Use("beta.messages.stream", MESSAGE, "get_final_message", CACHED),
}
