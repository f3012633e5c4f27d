"""A sandbox answers in the providers' forms: their SDKs read it, whole and as a stream, and nothing was used."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from costd.domain.proxied.routes import ENDPOINTS, clean_path, route_of
from costd.domain.proxied.sandbox import SAID, answer
from costd.domain.proxied.sold import bill


def respond(request: httpx2.Request) -> httpx2.Response:
    path = clean_path(request.url.path)
    assert path is not None
    try:
        body = json.loads(request.content)
    except ValueError:
        body = {}
    route = route_of(request.method, path)
    said = answer(route.endpoint, body, "7", 1_700_000_000)
    content = b"".join(said.pieces)
    reader = route.reader(200, said.content_type, json.loads)
    reader.feed(content)
    reader.rest()
    sold = reader.end(is_whole=True)
    assert sold.status == "success"
    assert not any(bill(sold._replace(delivered_chars=0), "openai", lambda: 0).units.values())
    return httpx2.Response(200, content=content, headers={"content-type": said.content_type})


@pytest.fixture
def gpt() -> Any:
    http = httpx2.Client(transport=httpx2.MockTransport(respond))
    with openai.OpenAI(api_key="k", base_url="http://sandbox", http_client=http) as client:
        yield client


@pytest.fixture
def claude() -> Any:
    http = httpx2.Client(transport=httpx2.MockTransport(respond))
    with anthropic.Anthropic(api_key="k", base_url="http://sandbox", http_client=http) as client:
        yield client


MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def test_chat(gpt: openai.OpenAI) -> None:
    said = gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, n=2)
    assert [choice.message.content for choice in said.choices] == [SAID, SAID]
    assert said.usage is not None
    assert said.usage.total_tokens == 0
    stream = gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == SAID
    asked = gpt.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    assert list(asked)[-1].choices == []
    with gpt.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as helper:
        assert helper.get_final_completion().choices[0].message.content == SAID
    wished = gpt.chat.completions.create(model="m", messages=MESSAGES, response_format={"type": "json_object"})
    assert json.loads(wished.choices[0].message.content or "") == {"sandbox": True}


def test_responses(gpt: openai.OpenAI) -> None:
    assert gpt.responses.create(model="gpt-5", input="Hi").output_text == SAID
    with gpt.responses.stream(model="gpt-5", input="Hi") as stream:
        assert stream.get_final_response().output_text == SAID


def test_completions(gpt: openai.OpenAI) -> None:
    assert gpt.completions.create(model="m", prompt="Hi").choices[0].text == SAID
    stream = gpt.completions.create(model="m", prompt="Hi", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == SAID


def test_the_other_forms_of_openai(gpt: openai.OpenAI) -> None:
    vectors = gpt.embeddings.create(model="m", input=["a", "b"], dimensions=3).data
    assert [vector.embedding for vector in vectors] == [[1.0, 0.0, 0.0]] * 2
    assert len(gpt.embeddings.create(model="m", input="a", encoding_format="float").data[0].embedding) == 1536
    images = gpt.images.generate(model="gpt-image-1", prompt="a cat").data
    assert images is not None
    assert images[0].b64_json
    assert gpt.audio.speech.create(model="tts-1", voice="alloy", input="Hi").read()[:4] == b"RIFF"
    assert gpt.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"x")).text == SAID
    assert not gpt.moderations.create(input="Hi").results[0].flagged
    assert gpt.models.list().data[0].id == "sandbox"


def test_messages(claude: anthropic.Anthropic) -> None:
    said = claude.messages.create(model="claude-sandbox", max_tokens=9, messages=MESSAGES)
    assert said.content[0].text == SAID  # type: ignore[union-attr]
    with claude.messages.stream(model="claude-sandbox", max_tokens=9, messages=MESSAGES) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == SAID  # type: ignore[union-attr]
    assert final.stop_reason == "end_turn"
    assert claude.messages.count_tokens(model="claude-sandbox", messages=MESSAGES).input_tokens == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_is_answered(endpoint: str) -> None:
    for body in ({}, {"stream": True, "n": 10**9, "dimensions": 10**9, "model": 7, "input": [], "response_format": 1}):
        said = answer(endpoint, body, "7", 1)
        assert said.pieces
        assert sum(map(len, said.pieces)) < 500_000
