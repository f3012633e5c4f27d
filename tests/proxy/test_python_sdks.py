"""The providers' real SDKs through costd: typed results as without it, and what was sold is recorded to the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import anthropic_uses
import openai_uses
from fake_provider import ANSWER, PROMPT, FakeProvider, Sale
from harness import Daemon, costd
from proxied_calls import (
    KEY,
    anthropic_at,
    async_anthropic_at,
    async_openai_at,
    base,
    made,
    newest,
    openai_at,
    received_alike,
    the_record,
)
from wrapping import Use, check, same

OPENAI_USES = openai_uses.USES | openai_uses.FORMS
ANTHROPIC_USES = anthropic_uses.USES | anthropic_uses.FORMS
CHAT = openai_uses.CHAT
MESSAGE = anthropic_uses.MESSAGE


def ask(client: Any, **changes: Any) -> Any:
    """One call, whichever SDK it is."""
    if isinstance(client, openai.OpenAI):
        return client.chat.completions.create(**(CHAT | changes))
    return client.messages.create(**(MESSAGE | changes))


def context_of(sale: Sale) -> dict[str, str]:
    """The price context of what was sold by OpenAI."""
    return {"service_tier": sale.tier} if sale.tier else {}


def claude_context_of(use: Use) -> dict[str, str]:
    """The same of Anthropic's."""
    context = {"processing": "batch"} if use.wish.get("tier") == "batch" else {}
    return context | ({"speed": "fast"} if use.wish.get("speed") else {})


@pytest.mark.parametrize("name", OPENAI_USES)
def test_openai_in_python(name: str, proxied: Daemon, provider: FakeProvider) -> None:
    use = OPENAI_USES[name]
    before = made(proxied)
    provider.next(number=7, **use.wish)
    with openai.OpenAI(api_key=KEY, base_url=provider.openai_url) as plain:
        expected = use.run(plain)
    provider.next(number=7, **use.wish)
    with openai_at(proxied) as client:
        assert same(use.run(client), expected)
    record, sale = the_record(proxied, before), provider.last
    check(record, sale, use.arguments["model"], provider="openai", context=context_of(sale))
    assert received_alike(provider)


@pytest.mark.parametrize("name", ANTHROPIC_USES)
def test_anthropic_in_python(name: str, proxied: Daemon, provider: FakeProvider) -> None:
    use = ANTHROPIC_USES[name]
    before = made(proxied)
    provider.next(number=7, **use.wish)
    with anthropic.Anthropic(api_key=KEY, base_url=provider.anthropic_url) as plain:
        expected = use.run(plain)
    provider.next(number=7, **use.wish)
    with anthropic_at(proxied) as client:
        assert same(use.run(client), expected)
    record, context = the_record(proxied, before), claude_context_of(use)
    check(record, provider.last, anthropic_uses.MODEL, provider="anthropic", context=context)
    assert received_alike(provider)


@pytest.mark.parametrize("name", OPENAI_USES)
def test_openai_on_asyncio(name: str, proxied: Daemon, provider: FakeProvider) -> None:
    use, before = OPENAI_USES[name], made(proxied)

    async def run() -> tuple[Any, Any]:
        provider.next(number=8, **use.wish)
        async with openai.AsyncOpenAI(api_key=KEY, base_url=provider.openai_url) as plain:
            expected = await use.run_async(plain)
        provider.next(number=8, **use.wish)
        async with async_openai_at(proxied) as client:
            return await use.run_async(client), expected

    got, expected = asyncio.run(run())
    assert same(got, expected)
    record, sale = the_record(proxied, before), provider.last
    check(record, sale, use.arguments["model"], provider="openai", context=context_of(sale))
    assert received_alike(provider)


@pytest.mark.parametrize("name", ANTHROPIC_USES)
def test_anthropic_on_asyncio(name: str, proxied: Daemon, provider: FakeProvider) -> None:
    use, before = ANTHROPIC_USES[name], made(proxied)

    async def run() -> tuple[Any, Any]:
        provider.next(number=8, **use.wish)
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=provider.anthropic_url) as plain:
            expected = await use.run_async(plain)
        provider.next(number=8, **use.wish)
        async with async_anthropic_at(proxied) as client:
            return await use.run_async(client), expected

    got, expected = asyncio.run(run())
    assert same(got, expected)
    record, context = the_record(proxied, before), claude_context_of(use)
    check(record, provider.last, anthropic_uses.MODEL, provider="anthropic", context=context)
    assert received_alike(provider)


@pytest.mark.parametrize("form", ["whole", "streamed"])
def test_compressed_answers_pass_as_they_came(form: str, proxied: Daemon, provider: FakeProvider) -> None:
    """Whatever the SDK asks for; the usage is read all the same."""
    before = made(proxied)
    provider.next(compressed=True)
    arguments = {**MESSAGE, **({"stream": True} if form == "streamed" else {})}
    with anthropic_at(proxied) as client:
        answer = client.messages.with_raw_response.create(**arguments)
        assert answer.headers["content-encoding"] == "gzip"
        if form == "streamed":
            assert len(list(answer.parse())) > 5
    record = the_record(proxied, before)
    assert int(record.units["output_tokens"]) == provider.last.units["output_tokens"]


def test_what_is_said_to_costd_is_taken_out_and_recorded(proxied: Daemon, provider: FakeProvider) -> None:
    before = made(proxied)
    said = {"prompt_key": "summary", "feature_tags": ["b", "a"], "version": 2}
    with openai_at(proxied) as client:
        client.chat.completions.create(**CHAT, extra_body={"_aipromptcost": said})
    assert "_aipromptcost" not in provider.requests[-1][1]
    said_of = the_record(proxied, before).dimensions
    assert (said_of["prompt_key"], said_of["prompt_version"], said_of["tags"]) == ("summary", "2", "a,b")
    with openai_at(proxied) as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**CHAT, extra_body={"_aipromptcost": {"version": []}})
    assert "_aipromptcost" in str(refused.value)


def test_costds_own_errors_are_the_sdks_too(proxied: Daemon, provider: FakeProvider) -> None:
    with openai_at(proxied, api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    with (
        openai_at(proxied, base_url=base(proxied, "gone")) as client,
        pytest.raises(openai.InternalServerError) as gone,
    ):
        client.chat.completions.create(**CHAT)
    assert gone.value.status_code == 502
    with anthropic_at(proxied, base_url=base(proxied, "nowhere")) as client, pytest.raises(anthropic.NotFoundError):
        client.messages.create(**MESSAGE)
    bare = openai.OpenAI(api_key=proxied.admin_key, base_url=base(proxied, "openai"), max_retries=0)
    with bare as client, pytest.raises(openai.AuthenticationError) as missing:
        client.chat.completions.create(**CHAT)
    assert "X-Provider-Key" in str(missing.value)
    keys = {"Authorization": f"Bearer {proxied.admin_key}", "X-Provider-Key": KEY}
    asked = len(provider.received)
    for path in ("openai/%2e%2e/x", "openai/a%252e%252e/..%2fx", "openai//evil.example/x", "openai/a%5c..%5cb"):
        assert httpx.post(f"{base(proxied, '')}{path}", headers=keys).status_code == 400
    assert len(provider.received) == asked


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
def test_a_budget_that_is_used_up_is_a_rate_limit_error_without_retries(
    make: Callable[..., Any], proxied: Daemon, provider: FakeProvider
) -> None:
    name, model = ("b-openai", "gpt-4.1") if make is openai_at else ("b-anthropic", "claude-opus-4-1")
    folder = ["--data-dir", str(proxied.data_dir)]
    assert costd("budgets", "set", name, "--scope", f"model={model}", "--amount", "0.000001", *folder).returncode == 0
    asked, before = len(provider.requests), made(proxied)
    module = openai if make is openai_at else anthropic
    with make(proxied, max_retries=3) as client, pytest.raises(module.RateLimitError) as refused:
        ask(client, model=model)
    said = refused.value.response.json()
    assert (said["code"], said["deny_reason"], said["budget"]["name"]) == ("BUDGET_EXCEEDED", "budget_exceeded", name)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert (len(provider.requests), made(proxied)) == (asked, before)
    shown = costd("budgets", "show", name, *folder).stdout
    assert "held             $0, of which $0 reserved here" in shown
    assert costd("budgets", "remove", name, *folder).returncode == 0


@pytest.mark.parametrize("streams", [False, True])
def test_a_sandbox_answers_in_the_providers_form(streams: bool, proxied: Daemon, provider: FakeProvider) -> None:
    asked, before = len(provider.received), made(proxied)
    sandbox = {"X-Sandbox": "true"}
    with openai_at(proxied) as client:
        chat = client.chat.completions.create(**CHAT, stream=streams, extra_headers=sandbox)
        words = [one.choices[0].delta.content or "" for one in chat] if streams else [chat.choices[0].message.content]
    with anthropic_at(proxied) as client:
        message = client.messages.create(**MESSAGE, stream=streams, extra_headers=sandbox)
        events = list(message) if streams else []
        deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
        said = deltas if streams else [message.content[0].text]
    assert "sandbox" in "".join(words)
    assert "".join(said) == "".join(words)
    assert [event.type for event in events[-1:]] == ["message_stop"] * streams
    records = newest(proxied, before, 2)
    assert [(one.status, dict(one.units), one.cost_nano_usd) for one in records] == [("sandbox", {}, 0)] * 2
    assert len(provider.received) == asked


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
def test_a_caller_that_leaves_is_billed_for_all_of_it(
    make: Callable[..., Any], proxied: Daemon, provider: FakeProvider
) -> None:
    before = made(proxied)
    provider.next(wait_after=4)
    with make(proxied) as client:
        stream = ask(client, stream=True)
        next(iter(stream))
        stream.close()
    assert made(proxied) == before
    provider.go_on.set()
    record = the_record(proxied, before)
    assert record.status == "success"
    assert {name: float(count) for name, count in record.units.items()} == provider.last.units


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
def test_an_upstream_that_dies_is_recorded_with_what_was_delivered(
    make: Callable[..., Any], proxied: Daemon, provider: FakeProvider
) -> None:
    before = made(proxied)
    provider.next(cut_after=10)
    module = openai if make is openai_at else anthropic
    with make(proxied) as client, pytest.raises((httpx.HTTPError, httpx2.HTTPError, module.APIError)):
        list(ask(client, stream=True))
    record = the_record(proxied, before)
    assert (record.status, record.dimensions["status"]) == ("incomplete", "incomplete")
    assert int(record.units["output_tokens"]) > 0
    assert int(record.units["input_tokens"]) > 0
    assert record.cost_nano_usd > 0


def test_speech_is_paid_for_by_its_text_and_passes_byte_for_byte(proxied: Daemon, provider: FakeProvider) -> None:
    before = made(proxied)
    with openai_at(proxied) as client:
        sound = client.audio.speech.create(model="tts-1", voice="alloy", input=PROMPT).content
    assert sound == b"\x00\x01sound" * 100
    assert dict(the_record(proxied, before).units) == {"input_characters": str(len(PROMPT))}


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
def test_no_key_and_no_prompt_is_kept_anywhere(
    make: Callable[..., Any], proxied: Daemon, provider: FakeProvider
) -> None:
    """Of answers and streams, of what failed, of what broke off and of what costd refused."""
    before = made(proxied)
    module, tagged = (openai if make is openai_at else anthropic), {"_aipromptcost": {"prompt_key": "kept"}}
    with make(proxied) as client:
        ask(client, extra_body=tagged)
        list(ask(client, stream=True))
        provider.next(failures=[500])
        with pytest.raises(module.InternalServerError):
            ask(client)
        provider.next(cut_after=10)
        with pytest.raises((httpx2.HTTPError, module.APIError)):
            list(ask(client, stream=True))
        with pytest.raises(module.BadRequestError):
            ask(client, extra_body={"_aipromptcost": PROMPT})
    assert [record.status for record in newest(proxied, before, 4)] == ["success", "success", "500", "incomplete"]
    metrics = proxied.client.get("/metrics").text
    files = [path for path in proxied.data_dir.rglob("*") if path.is_file()]
    data = b"".join(path.read_bytes() for path in files)
    assert b"kept" in data
    for secret in (KEY, PROMPT, ANSWER):
        assert secret not in proxied.log
        assert secret not in metrics
        assert secret.encode() not in data
