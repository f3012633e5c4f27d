"""A provider for tests: OpenAI's and Anthropic's HTTP APIs on a loopback port, selling usage and remembering it.

What it sells differs from call to call, so that no record can be right by accident. `next()` says what is special about
the next request: counts, a tier, failures before it works, where a stream breaks or waits.
"""

from __future__ import annotations

import asyncio
import email
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.policy import HTTP
from typing import Any

from aiohttp import web

import fake_storage
from packers import PACKERS
from proxy_upstream import Received

Json = dict[str, Any]

#: Text of prompts and answers, to be looked for where it must not be.
PROMPT = "Kolibri-Geheimnis"
ANSWER = "Zaunkoenig-Antwort"
#: Models that always fail, with this status: fails-429.
_FAILING = re.compile(r"fails-(\d{3})\Z")


@dataclass
class Sale:
    """One request that was answered: what it was, and the units it cost, counted as costd counts (inclusively)."""

    endpoint: str
    body: Json
    units: dict[str, float] = field(default_factory=dict)
    tier: str = ""


@dataclass
class Wish:
    """What is special about the next request."""

    #: Which request it pretends to be; requests with the same number are sold the same.
    number: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    #: What Anthropic's model thinks before it answers, `reasoning` tokens of it.
    thinking: str = ""
    searches: int = 0
    tier: str = ""
    speed: str = ""
    #: HTTP statuses to answer with before it works.
    failures: list[int] = field(default_factory=list)
    #: Headers of those answers.
    failure_headers: dict[str, str] = field(default_factory=dict)
    #: After this many events the connection is cut, or the stream waits until `go_on` is set.
    cut_after: int | None = None
    wait_after: int | None = None
    #: After this many events comes an error event.
    error_after: int | None = None
    tool_call: bool = False
    refusal: bool = False
    text: str = ANSWER
    #: Answers of a job in the background: how often it says that it is not done.
    looks: int = 0
    #: The body is compressed.
    compressed: bool = False
    #: How a stream is packed (a name of PACKERS), and how many bytes of it are sent at a time: 0 for an event.
    packed: str = ""
    piece: int = 0


class FakeProvider:
    """The server, on a thread of its own; `openai_url` and `anthropic_url` are for the SDKs' `base_url`."""

    def __init__(self) -> None:
        self.sold: list[Sale] = []
        self.requests: list[tuple[str, Json, dict[str, str]]] = []
        #: The same, as they came.
        self.received: list[Received] = []
        #: The events of the newest stream, as far as they were sent, and its bytes as they were sent.
        self.events: list[bytes] = []
        self.sent = b""
        self.go_on = threading.Event()
        self.cut = threading.Event()
        self._wish = Wish()
        self._jobs: dict[str, tuple[Json, int]] = {}
        self._total = self._count = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake provider", daemon=True)
        self._stop = asyncio.Event()
        self.port = 0

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's SDK."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's SDK."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Sale:
        """The newest sale."""
        return self.sold[-1]

    def next(self, **wish: Any) -> None:
        """Say what is special about the next request."""
        self.go_on.clear()
        self.cut.clear()
        self._wish = Wish(**wish)

    def start_again(self) -> None:
        """From here on the requests are sold the same as from the start."""
        self._total = 0

    @contextmanager
    def serving(self) -> Iterator[FakeProvider]:
        """Run it."""
        self._thread.start()
        assert self._ready.wait(10)
        try:
            yield self
        finally:
            self.go_on.set()
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        for path, handler in (
            ("/v1/chat/completions", self._chat),
            ("/openai/deployments/{deployment}/chat/completions", self._chat),
            ("/v1/completions", self._completions),
            ("/v1/responses", self._responses),
            ("/v1/embeddings", self._embeddings),
            ("/v1/images/generations", self._images),
            ("/v1/images/edits", self._images),
            ("/v1/audio/speech", self._speech),
            ("/v1/audio/transcriptions", self._transcriptions),
            ("/v1/messages", self._messages),
        ):
            app.router.add_post(path, self._asked(handler))
        app.router.add_get("/v1/responses/{id}", self._job)
        app.router.add_route("*", "/{rest:.*}", self._other)
        app.on_response_prepare.append(self._headed)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def _asked(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            raw = await request.read()
            self.received.append(Received(request.method, request.path_qs, dict(request.headers), raw))
            if request.content_type.startswith("multipart/"):
                body = _form(request.headers["content-type"], raw)
            else:
                body = json.loads(raw)
            self.requests.append((request.path, body, dict(request.headers)))
            wish = self._wish
            if wish.failures:
                status = wish.failures.pop(0)
                error = {"type": "error", "error": {"type": "overloaded", "message": f"fails with {status}"}}
                return web.json_response(error, status=status, headers=wish.failure_headers)
            if found := _FAILING.match(str(body.get("model"))):
                error = {"type": "error", "error": {"type": "some_error", "message": "as was wished"}}
                return web.json_response(error, status=int(found[1]), headers={"x-odd": "kept"})
            self._wish = Wish()
            wish.tool_call = wish.tool_call or body.get("tool_choice") in ("required", {"type": "any"})
            self._total += 1
            self._count = wish.number or self._total
            answer: web.StreamResponse = await handler(request, body, wish)
            if wish.compressed and isinstance(answer, web.Response):
                answer.enable_compression(web.ContentCoding.gzip)
            return answer

        return handle

    def _sell(self, endpoint: str, body: Json, wish: Wish, **units: float) -> Sale:
        sale = Sale(endpoint, body, {name: count for name, count in units.items() if count}, wish.tier)
        self.sold.append(sale)
        return sale

    def _tokens(self, wish: Wish) -> tuple[int, int]:
        """Tokens in and out of this request."""
        given = 1_000 + 7 * self._count + wish.cached + wish.written
        return given, 100 + 3 * self._count + wish.reasoning

    async def _stream(self, request: web.Request, wish: Wish, events: list[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        if wish.compressed:
            response.enable_compression(web.ContentCoding.gzip)
        encoding, pack = PACKERS[wish.packed]
        if encoding:
            response.headers["content-encoding"] = encoding
        self.events, self.sent = [], b""
        await response.prepare(request)
        try:
            if wish.packed or wish.piece:
                self.events, self.sent = events, b"".join(pack(events))
                for start in range(0, len(self.sent), wish.piece or len(self.sent)):
                    await response.write(self.sent[start : start + (wish.piece or len(self.sent))])
                    await asyncio.sleep(0)
            async for event in self._paced(wish, [] if self.sent else events):
                self.events.append(event)
                self.sent += event
                await response.write(event)
        except ConnectionError:
            return response
        if wish.cut_after is not None:
            assert request.transport is not None
            request.transport.close()
            self.cut.set()
            return response
        await response.write_eof()
        return response

    async def _paced(self, wish: Wish, events: list[bytes]) -> AsyncIterator[bytes]:
        for position, event in enumerate(events):
            if position == wish.cut_after:
                return
            if position == wish.wait_after:
                while not self.go_on.is_set():
                    await asyncio.sleep(0.005)
            if position == wish.error_after:
                yield _event({"type": "error", "error": {"type": "overloaded_error", "message": "no more"}}, "error")
                return
            yield event

    # OpenAI

    async def _chat(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        usage = self._chat_usage("chat/completions", body, wish)
        head = {"id": f"chatcmpl-{self._count}", "created": 1_790_000_000, "model": body["model"]}
        if wish.tier:
            head["service_tier"] = wish.tier
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
        reason = "tool_calls" if wish.tool_call else "stop"
        if not body.get("stream"):
            message: Json = {"role": "assistant", "content": None if wish.tool_call else wish.text, "refusal": None}
            if wish.tool_call:
                message["tool_calls"] = [call]
            choices = [{"index": n, "message": message, "finish_reason": reason} for n in range(body.get("n") or 1)]
            return web.json_response({**head, "object": "chat.completion", "choices": choices, "usage": usage})
        head["object"] = "chat.completion.chunk"
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        if wish.tool_call:
            deltas += [{"tool_calls": [{"index": 0, **call}]}]
        else:
            deltas += [{"content": letter} for letter in wish.text]
        asked = (body.get("stream_options") or {}).get("include_usage")
        nothing_yet = {"usage": None} if asked else {}
        events = [
            _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **nothing_yet})
            for delta in deltas
        ]
        events.append(_event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **nothing_yet}))
        if asked:
            events.append(_event({**head, "choices": [], "usage": usage}))
        return await self._stream(request, wish, [*events, b"data: [DONE]\n\n"])

    def _chat_usage(self, endpoint: str, body: Json, wish: Wish) -> Json:
        given, made = self._tokens(wish)
        self._sell(
            endpoint,
            body,
            wish,
            input_tokens=given,
            output_tokens=made,
            cache_read_tokens=wish.cached,
            output_reasoning_tokens=wish.reasoning,
        )
        return {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
            "prompt_tokens_details": {"cached_tokens": wish.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": wish.reasoning, "audio_tokens": 0},
        }

    async def _completions(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        usage = self._chat_usage("completions", body, wish)
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1_790_000_000, "model": body["model"]}
        if not body.get("stream"):
            choice = {"index": 0, "text": wish.text, "finish_reason": "stop", "logprobs": None}
            return web.json_response({**head, "choices": [choice], "usage": usage})
        asked = (body.get("stream_options") or {}).get("include_usage")
        nothing_yet = {"usage": None} if asked else {}
        events = [_event({**head, "choices": [{"index": 0, "text": part}], **nothing_yet}) for part in wish.text]
        if asked:
            events.append(_event({**head, "choices": [], "usage": usage}))
        return await self._stream(request, wish, [*events, b"data: [DONE]\n\n"])

    async def _responses(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        given, made = self._tokens(wish)
        self._sell(
            "responses",
            body,
            wish,
            input_tokens=given,
            output_tokens=made,
            cache_read_tokens=wish.cached,
            output_reasoning_tokens=wish.reasoning,
            web_searches=wish.searches,
        )
        usage = {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": wish.cached},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": wish.reasoning},
            "total_tokens": given + made,
        }
        output: list[Json] = [
            {"type": "web_search_call", "id": f"ws_{n}", "status": "completed", "action": {"type": "search"}}
            for n in range(wish.searches)
        ]
        if wish.tool_call:
            call = {"type": "function_call", "id": "fc_1", "call_id": "c_1", "name": "weather", "arguments": "{}"}
            output.append({**call, "status": "completed"})
        else:
            content = [{"type": "output_text", "text": wish.text, "annotations": []}]
            output.append(
                {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
            )
        whole = {
            "id": f"resp_{self._count}",
            "object": "response",
            "created_at": 1_790_000_000,
            "model": body["model"],
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage,
        }
        if wish.tier:
            whole["service_tier"] = wish.tier
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        if body.get("background"):
            self._jobs[whole["id"]] = ({**whole, "background": True}, wish.looks)
            return web.json_response({**begun, "status": "queued", "background": True})
        if wish.refusal:
            whole |= {"status": "failed", "error": {"code": "server_error", "message": "it broke"}}
        if not body.get("stream"):
            return web.json_response(whole)
        events: list[Json] = [{"type": "response.created", "response": begun}]
        item = output[-1]
        at = {"output_index": len(output) - 1}
        events.append({"type": "response.output_item.added", **at, "item": {**item, "content": []}})
        if not wish.tool_call:
            part = {"type": "output_text", "text": "", "annotations": []}
            within = {**at, "item_id": "msg_1", "content_index": 0}
            events.append({"type": "response.content_part.added", **within, "part": part})
            events += [{"type": "response.output_text.delta", **within, "delta": one} for one in wish.text]
        events.append({"type": "response.output_item.done", **at, "item": item})
        events.append({"type": "response.failed" if wish.refusal else "response.completed", "response": whole})
        numbered = [_event({**event, "sequence_number": n}, event["type"]) for n, event in enumerate(events)]
        return await self._stream(request, wish, numbered)

    async def _other(self, request: web.Request) -> web.StreamResponse:
        """What is not sold here."""
        raw = await request.read()
        self.received.append(Received(request.method, request.path_qs, dict(request.headers), raw))
        return await fake_storage.answer(request)

    async def _headed(self, _request: web.Request, answer: web.StreamResponse) -> None:
        """Headers that providers send with every answer, some of them twice."""
        answer.headers["x-request-id"] = answer.headers["request-id"] = f"req_{self._count}"
        answer.headers["x-ratelimit-remaining-tokens"] = str(9_000 - self._count)
        answer.headers["anthropic-ratelimit-tokens-reset"] = "2026-11-01T00:00:00Z"
        for name in ("one", "two"):
            answer.headers.add("set-cookie", f"__cf_{name}={self._count}; path=/; HttpOnly")

    async def _job(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(request.method, request.path_qs, dict(request.headers), b""))
        whole, looks = self._jobs[request.match_info["id"]]
        self._jobs[request.match_info["id"]] = (whole, looks - 1)
        if looks > 0:
            return web.json_response({**whole, "status": "in_progress", "output": [], "usage": None})
        return web.json_response(whole)

    async def _embeddings(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        given, _ = self._tokens(wish)
        self._sell("embeddings", body, wish, input_tokens=given)
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
        usage = {"prompt_tokens": given, "total_tokens": given}
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

    async def _images(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        given, made = self._tokens(wish)
        self._sell(
            request.path.removeprefix("/v1/"),
            body,
            wish,
            input_tokens=given,
            input_text_tokens=given - 300,
            input_image_tokens=300,
            output_tokens=made,
        )
        usage = {
            "input_tokens": given,
            "input_tokens_details": {"text_tokens": given - 300, "image_tokens": 300},
            "output_tokens": made,
            "total_tokens": given + made,
        }
        if body.get("stream"):
            image = {"b64_json": "aGk=", "background": "opaque", "size": "1024x1024", "quality": "low"}
            image |= {"created_at": 1_790_000_000, "output_format": "png"}
            partial = {"type": "image_generation.partial_image", "partial_image_index": 0, **image}
            done = {"type": "image_generation.completed", **image, "usage": usage}
            return await self._stream(request, wish, [_event(partial, partial["type"]), _event(done, done["type"])])
        return web.json_response({"created": 1_790_000_000, "data": [{"b64_json": "aGk="}], "usage": usage})

    async def _speech(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        self._sell("audio/speech", body, wish, input_characters=len(body["input"]))
        return web.Response(body=b"\x00\x01sound" * 100, content_type="audio/mpeg")

    async def _transcriptions(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        if body["model"] == "whisper-1":
            self._sell("audio/transcriptions", body, wish, audio_seconds=12.5)
            if body.get("response_format") == "text":
                return web.Response(text=wish.text)
            return web.json_response({"text": wish.text, "usage": {"type": "duration", "seconds": 12.5}})
        given, made = self._tokens(wish)
        self._sell(
            "audio/transcriptions",
            body,
            wish,
            input_tokens=given,
            input_text_tokens=5,
            input_audio_tokens=given - 5,
            output_tokens=made,
        )
        usage = {
            "type": "tokens",
            "input_tokens": given,
            "input_token_details": {"text_tokens": 5, "audio_tokens": given - 5},
            "output_tokens": made,
            "total_tokens": given + made,
        }
        if body.get("stream") in {True, "true"}:
            parts = [{"type": "transcript.text.delta", "delta": letter} for letter in wish.text]
            done = {"type": "transcript.text.done", "text": wish.text, "usage": usage}
            return await self._stream(request, wish, [_event(event, event["type"]) for event in (*parts, done)])
        return web.json_response({"text": wish.text, "usage": usage})

    # Anthropic

    async def _messages(self, request: web.Request, body: Json, wish: Wish) -> web.StreamResponse:
        given, made = self._tokens(wish)
        self._sell(
            "messages",
            body,
            wish,
            input_tokens=given,
            output_tokens=made,
            cache_read_tokens=wish.cached,
            cache_write_tokens=wish.written,
            cache_write_1h_tokens=wish.written // 2,
            cache_write_5m_tokens=wish.written - wish.written // 2,
            output_reasoning_tokens=wish.reasoning,
            web_searches=wish.searches,
        )
        usage: Json = {
            "input_tokens": given - wish.cached - wish.written,
            "output_tokens": made,
            "cache_read_input_tokens": wish.cached,
            "cache_creation_input_tokens": wish.written,
            "cache_creation": {
                "ephemeral_1h_input_tokens": wish.written // 2,
                "ephemeral_5m_input_tokens": wish.written - wish.written // 2,
            },
            "server_tool_use": {"web_search_requests": wish.searches, "web_fetch_requests": 0},
            "service_tier": wish.tier or "standard",
        }
        if wish.speed:
            usage["speed"] = wish.speed
        if wish.reasoning:
            usage["output_tokens_details"] = {"thinking_tokens": wish.reasoning}
        blocks = _blocks(wish)
        head = {"id": f"msg_{self._count}", "type": "message", "role": "assistant", "model": body["model"]}
        ended = {"stop_reason": "tool_use" if wish.tool_call else "end_turn", "stop_sequence": None}
        if not body.get("stream"):
            return web.json_response({**head, "content": blocks, **ended, "usage": usage})
        begun = {**usage, "output_tokens": 1, "server_tool_use": None, "output_tokens_details": None}
        message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": begun}
        told = ("output_tokens", "output_tokens_details", "server_tool_use")
        cumulative = {name: usage[name] for name in told if name in usage}
        events: list[Json] = [
            {"type": "message_start", "message": message},
            {"type": "ping"},
            *(event for index, block in enumerate(blocks) for event in _block_events(index, block)),
            {"type": "message_delta", "delta": ended, "usage": cumulative},
            {"type": "message_stop"},
        ]
        return await self._stream(request, wish, [_event(event, event["type"]) for event in events])


def _form(content_type: str, raw: bytes) -> Json:
    """The fields of a form that are no files."""
    message = email.message_from_bytes(b"Content-Type: %s\r\n\r\n%s" % (content_type.encode(), raw), policy=HTTP)
    parts = [part for part in message.iter_parts() if part.get_filename() is None]
    return {str(part.get_param("name", header="content-disposition")): part.get_content() for part in parts}


def _blocks(wish: Wish) -> list[Json]:
    """What an answer of Anthropic's consists of."""
    blocks: list[Json] = []
    if wish.thinking:
        blocks.append({"type": "thinking", "thinking": wish.thinking, "signature": "EqQBCgIYAhIM1gbc"})
        blocks.append({"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"})
    for number in range(wish.searches):
        ident, found = f"srvtoolu_{number}", {"title": "Bern", "url": "https://example.org", "page_age": None}
        found |= {"type": "web_search_result", "encrypted_content": "RXF"}
        blocks.append({"type": "server_tool_use", "id": ident, "name": "web_search", "input": {"query": "Bern"}})
        blocks.append({"type": "web_search_tool_result", "tool_use_id": ident, "content": [found]})
    if wish.tool_call:
        return [*blocks, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}}]
    return [*blocks, {"type": "text", "text": wish.text}]


def _block_events(index: int, block: Json) -> list[Json]:
    """A block as it is streamed."""
    kind, at = block["type"], {"index": index}
    empty, deltas = block, list[Json]()
    if kind == "thinking":
        empty = {**block, "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": letter} for letter in block["thinking"]]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif kind == "text":
        empty = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": letter} for letter in block["text"]]
    elif "input" in block:
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return [
        {"type": "content_block_start", **at, "content_block": empty},
        *({"type": "content_block_delta", **at, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", **at},
    ]


def _event(data: Json, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
