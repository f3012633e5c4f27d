"""Uses of OpenAI's SDK, for every test that stands between it and a provider."""

from __future__ import annotations

from pydantic import BaseModel

from fake_provider import PROMPT
from wrapping import Use

MESSAGES = [{"role": "user", "content": PROMPT}]
CHAT = {"model": "gpt-4o", "messages": MESSAGES}
RESPONSE = {"model": "gpt-5", "input": PROMPT}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Weather(BaseModel):
    """What a model is asked to answer with."""

    city: str


USES = {
    "chat": Use("chat.completions.create", CHAT, wish={"cached": 128, "reasoning": 64}),
    "chat of several answers": Use("chat.completions.create", CHAT | {"n": 3}),
    "chat with a tool": Use("chat.completions.create", CHAT | {"tools": [TOOL]}, wish={"tool_call": True}),
    "chat parsed": Use("chat.completions.parse", CHAT | {"response_format": Weather}, wish={"text": '{"city":"Bern"}'}),
    "chat streamed": Use("chat.completions.create", CHAT | {"stream": True}, "events", {"cached": 128}),
    "chat streamed with usage": Use(
        "chat.completions.create",
        CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        "events",
        {"reasoning": 32},
    ),
    "chat streamed with other options": Use(
        "chat.completions.create",
        CHAT | {"stream": True, "extra_body": {"stream_options": {"include_obfuscation": False}}},
        "events",
    ),
    "chat streamed with a tool": Use(
        "chat.completions.create", CHAT | {"stream": True, "tools": [TOOL]}, "events", {"tool_call": True}
    ),
    "chat stream helper": Use("chat.completions.stream", CHAT, "get_final_completion", {"cached": 128}),
    "chat at another tier": Use(
        "chat.completions.create", CHAT | {"service_tier": "priority"}, wish={"tier": "priority"}
    ),
    "response": Use("responses.create", RESPONSE, wish={"cached": 256, "reasoning": 64, "tier": "flex"}),
    "response with searches": Use("responses.create", RESPONSE, wish={"searches": 2}),
    "response with a tool": Use("responses.create", RESPONSE, wish={"tool_call": True}),
    "response parsed": Use("responses.parse", RESPONSE | {"text_format": Weather}, wish={"text": '{"city":"Bern"}'}),
    "response streamed": Use("responses.create", RESPONSE | {"stream": True}, "events", {"cached": 256, "searches": 1}),
    "response stream helper": Use("responses.stream", RESPONSE, "get_final_response", {"reasoning": 64}),
    "embeddings": Use("embeddings.create", {"model": "text-embedding-3-small", "input": PROMPT}),
    "completion": Use("completions.create", {"model": "gpt-3.5-turbo-instruct", "prompt": PROMPT}),
    "completion streamed": Use(
        "completions.create", {"model": "gpt-3.5-turbo-instruct", "prompt": PROMPT, "stream": True}, "events"
    ),
    "image": Use("images.generate", {"model": "gpt-image-1", "prompt": PROMPT}),
    "image streamed": Use("images.generate", {"model": "gpt-image-1", "prompt": PROMPT, "stream": True}, "events"),
    "transcription": Use("audio.transcriptions.create", {"model": "gpt-4o-transcribe", "file": ("a.mp3", b"sound")}),
    "transcription by the second": Use(
        "audio.transcriptions.create", {"model": "whisper-1", "file": ("a.mp3", b"sound")}
    ),
    "transcription streamed": Use(
        "audio.transcriptions.create",
        {"model": "gpt-4o-transcribe", "file": ("a.mp3", b"sound"), "stream": True},
        "events",
    ),
}

#: Forms with files that are longer, or more than one; no wrapper looks at them.
FORMS = {
    "image edited": Use(
        "images.edit", {"model": "gpt-image-1", "prompt": PROMPT, "image": [("a.png", b"\x89PNG"), ("b.png", b"\xff")]}
    ),
    "long recording": Use("audio.transcriptions.create", {"model": "whisper-1", "file": ("a.mp3", b"sound" * 50_000)}),
}
