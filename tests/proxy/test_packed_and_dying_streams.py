"""Streams of every dialect, packed and cut in every way, dying at every event: bytes pass, what was sold is billed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from fake_provider import PROMPT, FakeProvider, Sale
from harness import Daemon
from packers import PACKERS
from proxied_calls import KEY, base, made, the_record, units_of

MESSAGES = [{"role": "user", "content": PROMPT}]
USAGE = {"stream_options": {"include_usage": True}}
Wish = dict[str, Any]


class Stream(NamedTuple):
    """A call that is answered by a stream, and what the provider is told of it."""

    upstream: str
    path: str
    body: dict[str, Any]
    wish: Wish


STREAMS = {
    "chat": Stream("openai", "chat/completions", {"model": "gpt-4o", "messages": MESSAGES}, {"cached": 128}),
    "chat with usage": Stream(
        "openai", "chat/completions", {"model": "gpt-4o", "messages": MESSAGES} | USAGE, {"reasoning": 32}
    ),
    "completion": Stream("openai", "completions", {"model": "gpt-3.5-turbo-instruct", "prompt": PROMPT} | USAGE, {}),
    "response": Stream("openai", "responses", {"model": "gpt-5", "input": PROMPT}, {"cached": 9, "searches": 1}),
    "image": Stream("openai", "images/generations", {"model": "gpt-image-1", "prompt": PROMPT}, {}),
    "message": Stream(
        "anthropic",
        "messages",
        {"model": "claude-opus-5", "max_tokens": 500, "messages": MESSAGES},
        {"cached": 300, "written": 41, "thinking": "Hm", "reasoning": 64, "searches": 1},
    ),
}


def read(daemon: Daemon, stream: Stream) -> tuple[httpx.Headers, bytes, bool]:
    """The headers and bytes of a stream by way of costd, and whether it had its proper end."""
    headers = {"X-Provider-Key": KEY, "Accept-Encoding": "gzip, deflate, br, zstd"}
    url, got = f"{base(daemon, stream.upstream)}/{stream.path}", b""
    body = stream.body | {"stream": True}
    with daemon.client.stream("POST", url, json=body, headers=headers) as answer:
        assert answer.status_code == 200
        try:
            for piece in answer.iter_raw():
                got += piece
        except httpx.RemoteProtocolError:
            return answer.headers, got, False
        return answer.headers, got, True


#: At every byte where that says most; elsewhere in pieces that end nowhere in particular.
SPLITS = [*((packed, 1) for packed in ("", "gzip")), *((packed, 7) for packed in PACKERS)]


@pytest.mark.parametrize(("packed", "piece"), SPLITS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_passes_however_it_is_packed_and_cut(
    name: str, packed: str, piece: int, proxied: Daemon, provider: FakeProvider
) -> None:
    stream, before = STREAMS[name], made(proxied)
    provider.next(text="é", packed=packed, piece=piece, **stream.wish)
    headers, got, is_whole = read(proxied, stream)
    assert is_whole
    assert headers.get("content-encoding", "") == PACKERS[packed][0]
    if name == "chat" and not packed:
        shown = [event.replace(b',"usage":null', b"") for event in provider.events if b'"choices":[]' not in event]
        assert got == b"".join(shown)
    else:
        assert got == provider.sent
    record = the_record(proxied, before)
    assert (record.status, units_of(record)) == ("success", provider.last.units)


def spoken(said: Any) -> Iterator[str]:
    """The words of an event: what was delivered to be read, whatever the dialect."""
    for choice in said.get("choices", ()):
        yield choice.get("text") or choice.get("delta", {}).get("content") or ""
    delta = said.get("delta", {})
    if isinstance(delta, str):
        yield delta
    else:
        yield from (delta.get(name, "") for name in ("text", "thinking", "partial_json"))


def told(sale: Sale, events: list[bytes]) -> tuple[str, dict[str, float]]:
    """What must be recorded of these events: status and units. Input is left out where the provider did not tell it."""
    payloads = [json.loads(event.partition(b"data: ")[2]) for event in events if b"[DONE]" not in event]
    has_usage = any(payload.get("usage") or payload.get("response", {}).get("usage") for payload in payloads)
    if has_usage:
        return "success", sale.units
    units = {}
    if payloads and "message" in payloads[0]:
        made_of = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
        made_of += ("cache_write_5m_tokens", "cache_write_1h_tokens")
        units = {name: sale.units[name] for name in made_of} | {"output_tokens": 1.0}
    words = sum(len(word) for payload in payloads for word in spoken(payload))
    if words:
        units["output_tokens"] = max(units.get("output_tokens", 0), -(-words // 4))
    return "incomplete", units


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_may_die_at_any_event(name: str, proxied: Daemon, provider: FakeProvider) -> None:
    stream, text = STREAMS[name], "words"
    provider.next(number=7, text=text, **stream.wish)
    before = made(proxied)
    _, whole, _ = read(proxied, stream)
    the_record(proxied, before)
    for position in range(len(provider.events) + 1):
        before = made(proxied)
        provider.next(number=7, text=text, cut_after=position, **stream.wish)
        _, got, is_whole = read(proxied, stream)
        assert whole.startswith(got)
        assert len(provider.events) == position
        assert not is_whole or got == whole
        record, (status, units) = the_record(proxied, before), told(provider.last, provider.events)
        recorded = units_of(record)
        if "input_tokens" not in units:
            guessed = recorded.pop("input_tokens", 0)
            assert guessed <= len(json.dumps(stream.body))
            assert (guessed > 0) == (position > 0)
        assert (position, record.status, recorded) == (position, status, units)
