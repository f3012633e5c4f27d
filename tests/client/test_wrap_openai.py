"""wrap_openai with the real SDK and a local provider: the ledger holds what was sold, the caller notices nothing."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

import costd_client
from costd_client import AsyncTracker, BudgetExceeded, Tracker
from fake_provider import ANSWER, PROMPT, FakeProvider
from harness import Daemon
from openai_uses import CHAT, MESSAGES, RESPONSE, USES, Weather
from wrapping import check, new_user, records_of, refusing, same


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    """OpenAI, for this module."""
    with FakeProvider().serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def tracker(daemon: Daemon) -> Iterator[Tracker]:
    """A tracker shared by the module."""
    with Tracker(daemon.grpc, key=daemon.key("app"), source_app="wrapped") as tracker:
        yield tracker


@pytest.fixture
def plain(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    """A client that is not wrapped."""
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=2) as client:
        yield client


def only(daemon: Daemon, tracker: Tracker, user: str) -> Any:
    """The one record of a user."""
    tracker.flush(timeout_s=10)
    (record,) = records_of(daemon, user)
    return record


def context_of(sale: Any) -> dict[str, str]:
    """The price context of a sale's tier."""
    return {"service_tier": sale.tier} if sale.tier else {}


@pytest.mark.parametrize("name", USES)
def test_usage_is_what_was_sold(
    name: str, daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """One record with the units and the cost of the sale; the result is the one of a client that is not wrapped."""
    use, user = USES[name], new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    provider.next(number=7, **use.wish)
    expected = use.run(plain)
    provider.next(number=7, **use.wish)
    assert same(use.run(wrapped), expected)
    record, sale = only(daemon, tracker, user), provider.last
    check(record, sale, use.arguments["model"], provider="openai", context=context_of(sale))


@pytest.mark.parametrize("name", USES)
def test_usage_is_what_was_sold_to_asyncio(name: str, daemon: Daemon, provider: FakeProvider) -> None:
    """The same for AsyncOpenAI with an AsyncTracker."""
    use, user = USES[name], new_user()

    async def both() -> tuple[Any, Any]:
        async with (
            AsyncTracker(daemon.grpc, key=daemon.admin_key, source_app="wrapped") as tracker,
            openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as plain,
        ):
            provider.next(number=7, **use.wish)
            expected = await use.run_async(plain)
            provider.next(number=7, **use.wish)
            result = await use.run_async(costd_client.wrap_openai(plain, tracker, user=user))
            await tracker.flush(timeout_s=10)
            return expected, result

    expected, result = asyncio.run(both())
    assert same(result, expected)
    (record,), sale = records_of(daemon, user), provider.last
    check(record, sale, use.arguments["model"], provider="openai", context=context_of(sale))


def test_an_async_client_takes_a_blocking_tracker(daemon: Daemon, provider: FakeProvider, tracker: Tracker) -> None:
    """Its preflights run beside the event loop."""
    user = new_user()

    async def use() -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as client:
            await USES["chat"].run_async(costd_client.wrap_openai(client, tracker, user=user))

    asyncio.run(use())
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="openai", context={})


def test_a_client_stays_what_it_was(provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI) -> None:
    """Type, identity of its parts, and mistakes that are told at once."""
    wrapped = costd_client.wrap_openai(plain, tracker, user="u")
    assert type(wrapped) is openai.OpenAI
    assert wrapped is not plain
    assert wrapped.base_url == plain.base_url
    assert "request" not in vars(plain)
    with pytest.raises(TypeError, match="openai package"):
        costd_client.wrap_openai(object(), tracker)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="Tracker"):
        costd_client.wrap_openai(plain, "tracker")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        costd_client.wrap_openai(plain, tracker, colour="red")  # type: ignore[call-arg]


DERIVATIONS: dict[str, Callable[[Any], Any]] = {
    "with_options": lambda client: client.with_options(timeout=7).chat.completions.create(**CHAT),
    "copy of a copy": lambda client: client.copy(max_retries=1).with_options().chat.completions.create(**CHAT),
    "raw": lambda client: client.chat.completions.with_raw_response.create(**CHAT).parse(),
    "raw, of the client": lambda client: client.with_raw_response.chat.completions.create(**CHAT),
    "raw stream": lambda client: list(client.chat.completions.with_raw_response.create(**CHAT, stream=True).parse()),
    "post by hand": lambda client: client.post("/chat/completions", cast_to=object, body=CHAT),
    "wrapped twice": lambda client: client.chat.completions.create(**CHAT),
}


@pytest.mark.parametrize("name", DERIVATIONS)
def test_whatever_is_derived_stays_wrapped(
    name: str, daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """Copies and raw variants are tracked, once."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user="another")
    wrapped = costd_client.wrap_openai(wrapped, tracker, user=user)
    provider.next(cached=64)
    DERIVATIONS[name](wrapped)
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="openai", context={})
    tracker.flush(timeout_s=10)
    assert records_of(daemon, "another") == []


READS: dict[str, Callable[[Any], Any]] = {
    "parse": lambda response: response.parse(),
    "read": lambda response: response.read(),
    "json": lambda response: response.json(),
    "text": lambda response: list(response.iter_text()),
    "bytes": lambda response: b"".join(response.iter_bytes(16)),
    "lines": lambda response: list(response.iter_lines()),
    "raw": lambda response: list(response.http_response.iter_raw()),
}


@pytest.mark.parametrize("name", READS)
def test_a_response_read_in_pieces(
    name: str, daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """with_streaming_response: in whatever way the caller reads it."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    with wrapped.chat.completions.with_streaming_response.create(**CHAT) as response:  # type: ignore[arg-type]
        assert READS[name](response)
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="openai", context={})


@pytest.mark.parametrize("read", [lambda r: list(r.parse()), lambda r: list(r.iter_lines())], ids=["parse", "lines"])
def test_events_read_in_pieces(
    read: Callable[[Any], Any], daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """with_streaming_response of a stream: also the raw lines are those without the usage."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    seen = []
    for client in (plain, wrapped):
        provider.next(number=7)
        with client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as response:  # type: ignore[arg-type]
            seen.append(read(response))
    assert same(seen[1], seen[0])
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="openai", context={})


def test_speech_costs_by_the_character(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """An answer of bytes says nothing of usage; what was asked for does."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    said = {"model": "tts-1", "voice": "alloy", "input": PROMPT}
    assert wrapped.audio.speech.create(**said).read() == plain.audio.speech.create(**said).read()  # type: ignore[arg-type]
    check(only(daemon, tracker, user), provider.sold[-2], "tts-1", provider="openai", context={})


def test_a_plain_text_answer_is_recorded_without_usage(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """The transcription as text has no place for it."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    sound = ("a.mp3", io.BytesIO(b"sound"))
    assert wrapped.audio.transcriptions.create(model="whisper-1", file=sound, response_format="text") == ANSWER
    record = only(daemon, tracker, user)
    assert (record.status, dict(record.units)) == ("success", {})


def test_what_is_free_is_not_recorded(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """Moderations cost nothing."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    wrapped.moderations.create(input=PROMPT)
    tracker.flush(timeout_s=10)
    assert records_of(daemon, user) == []


def test_retries_are_one_call(daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI) -> None:
    """The SDK tries three times; one record, with the usage of the last."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    asked = len(provider.requests)
    provider.next(failures=[500, 429], failure_headers={"retry-after-ms": "1"})
    wrapped.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert len(provider.requests) - asked == 3
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="openai", context={})


def test_errors_are_the_sdks_own(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """The same exception, and a record that says error."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    for client in (plain, wrapped):
        provider.next(failures=[400])
        with pytest.raises(openai.BadRequestError, match="fails with 400") as refusal:
            client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        assert refusal.value.status_code == 400
    record = only(daemon, tracker, user)
    assert (record.status, dict(record.units)) == ("error", {})


def test_nobody_there_is_an_error(daemon: Daemon, tracker: Tracker) -> None:
    """A connection that cannot be made."""
    user = new_user()
    client = openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        costd_client.wrap_openai(client, tracker, user=user).chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert only(daemon, tracker, user).status == "error"


def test_an_answer_that_cannot_be_parsed_is_paid_for(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """parse() raises after the provider has answered."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    provider.next(text="no JSON")
    with pytest.raises(ValueError, match="JSON"):
        wrapped.chat.completions.parse(**CHAT, response_format=Weather)  # type: ignore[arg-type]
    record = only(daemon, tracker, user)
    assert record.status == "error"
    assert int(record.units["input_tokens"]) == provider.last.units["input_tokens"]


def test_a_failed_response_is_an_error_with_its_usage(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """Created or streamed: the response says itself that it failed."""
    for arguments in (RESPONSE, RESPONSE | {"stream": True}):
        user = new_user()
        wrapped = costd_client.wrap_openai(plain, tracker, user=user)
        provider.next(refusal=True)
        made = wrapped.responses.create(**arguments)  # type: ignore[call-overload]
        if "stream" in arguments:
            list(made)
        record = only(daemon, tracker, user)
        assert record.status == "error"
        assert int(record.units["output_tokens"]) == provider.last.units["output_tokens"]


def test_a_stream_closed_early_is_incomplete(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """With a context manager, by hand, or by letting go of it."""

    def leave(stream: Any) -> None:
        with stream:
            next(stream)

    def close(stream: Any) -> None:
        next(iter(stream))
        stream.close()

    def drop(stream: Any) -> None:
        next(stream)

    for end in (leave, close, drop):
        user = new_user()
        wrapped = costd_client.wrap_openai(plain, tracker, user=user)
        provider.next(wait_after=2)
        end(wrapped.chat.completions.create(**CHAT, stream=True))  # type: ignore[call-overload]
        gc.collect()
        provider.go_on.set()
        record = only(daemon, tracker, user)
        assert (record.status, dict(record.units)) == ("incomplete", {}), end


def test_a_stream_that_breaks_is_incomplete(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """The provider goes away in the middle: the SDK's exception, and what was seen."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    provider.next(cut_after=3)
    with pytest.raises(openai.APIConnectionError):
        list(wrapped.chat.completions.create(**CHAT, stream=True))  # type: ignore[call-overload]
    assert only(daemon, tracker, user).status == "incomplete"


def test_an_error_within_a_stream_is_an_error(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """The provider says so in an event."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    provider.next(error_after=2)
    with pytest.raises(openai.APIError, match="no more"):
        list(wrapped.chat.completions.create(**CHAT, stream=True))  # type: ignore[call-overload]
    assert only(daemon, tracker, user).status == "error"


def test_a_cancelled_task_is_incomplete(daemon: Daemon, provider: FakeProvider) -> None:
    """Before the answer, and within a stream."""
    users = [new_user(), new_user()]

    async def use() -> None:
        async with (
            AsyncTracker(daemon.grpc, key=daemon.admin_key, source_app="wrapped") as tracker,
            openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as plain,
        ):
            for user, wait in zip(users, (0, 2), strict=True):
                client = costd_client.wrap_openai(plain, tracker, user=user)
                provider.next(wait_after=wait)
                begun = len(provider.sold)
                task = asyncio.create_task(USES["chat streamed"].run_async(client))
                while len(provider.sold) == begun:
                    await asyncio.sleep(0.005)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                provider.go_on.set()
            await tracker.flush(timeout_s=10)

    asyncio.run(use())
    assert [records_of(daemon, user)[0].status for user in users] == ["incomplete", "incomplete"]


def test_dimensions_of_a_block_win(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """costd_client.context over what the client was wrapped with; the innermost wins, and it ends with its block."""
    user, inner = new_user(), new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user, project="p1", tags=["a", "b"])
    with costd_client.context(project="p2", prompt_key="summary"), costd_client.context(user=inner):
        wrapped.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    wrapped.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    within, after = only(daemon, tracker, inner).dimensions, only(daemon, tracker, user).dimensions
    assert (within["project"], within["prompt_key"], within["tags"]) == ("p2", "summary", "a,b")
    assert (after["project"], after.get("prompt_key", "")) == ("p1", "")
    with pytest.raises(TypeError, match="colour"), costd_client.context(colour="red"):
        pass


def test_tracking_that_fails_changes_nothing(
    provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """An estimate of the program's own that raises, in place of whatever may go wrong: a warning, and the answer."""

    def estimate(endpoint: str, body: object) -> dict[str, int]:
        raise RuntimeError("mistaken")

    wrapped = costd_client.wrap_openai(plain, tracker, user="u", estimate_with=estimate)
    with caplog.at_level(logging.WARNING, "costd_client"):
        answer = wrapped.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == ANSWER
    assert "not tracked: RuntimeError" in caplog.text
    # An error may quote the request.
    assert "mistaken" not in caplog.text


def test_a_response_in_the_background_is_recorded_when_it_is_fetched(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """Once, by whichever look at it finds it done; a copy of the client will do; one that nobody fetches stays open."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    provider.next(looks=1, reasoning=900)
    job = wrapped.responses.create(**RESPONSE, background=True)
    sale = provider.last
    assert (job.status, wrapped.responses.retrieve(job.id).status) == ("queued", "in_progress")
    tracker.flush(timeout_s=10)
    assert records_of(daemon, user) == []
    fetch = wrapped.with_options(timeout=9).responses.retrieve
    assert (fetch(job.id).status, fetch(job.id).status) == ("completed", "completed")
    check(only(daemon, tracker, user), sale, "gpt-5", provider="openai", context={})

    other = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=other)
    wrapped.responses.create(**RESPONSE, background=True)
    del wrapped, fetch
    gc.collect()
    assert only(daemon, tracker, other).status == "incomplete"


def test_compressed_answers(daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI) -> None:
    """The usage is found, and hidden, beneath the compression."""
    for name in ("chat", "chat streamed", "response streamed"):
        use, user = USES[name], new_user()
        wrapped = costd_client.wrap_openai(plain, tracker, user=user)
        provider.next(number=7, compressed=True)
        expected = use.run(plain)
        provider.next(number=7, compressed=True)
        assert same(use.run(wrapped), expected)
        check(only(daemon, tracker, user), provider.last, use.arguments["model"], provider="openai", context={})


def test_an_http_client_of_the_callers_own(daemon: Daemon, provider: FakeProvider, tracker: Tracker) -> None:
    """The SDK takes clients of httpx too; their responses are watched all the same."""
    user = new_user()
    with httpx.Client(trust_env=False) as http_client:
        client = openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, http_client=http_client)  # type: ignore[arg-type]
        USES["chat streamed"].run(costd_client.wrap_openai(client, tracker, user=user))
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="openai", context={})


def test_azure(daemon: Daemon, provider: FakeProvider, tracker: Tracker) -> None:
    """The provider is Azure; the model is the name of the deployment."""
    user = new_user()
    client = openai.AzureOpenAI(api_key="sk-test", azure_endpoint=provider.anthropic_url, api_version="2024-10-21")
    with client:
        USES["chat streamed"].run(costd_client.wrap_openai(client, tracker, user=user))
    check(only(daemon, tracker, user), provider.last, "gpt-4o", provider="azure", context={})


def test_the_tier_that_was_served_is_the_one_that_is_paid(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """Priority was asked for, and not given."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    for form in ({}, {"stream": True}):
        provider.next(tier="default")
        answer = wrapped.chat.completions.create(**CHAT, **form, service_tier="priority")  # type: ignore[call-overload]
        list(answer)
    tracker.flush(timeout_s=10)
    for record in records_of(daemon, user):
        assert dict(record.price_context) == {"service_tier": "default"}


def test_without_costd_the_answers_are_the_same(provider: FakeProvider, plain: openai.OpenAI) -> None:
    """Nobody at its address: allowed, and nothing raised."""
    with Tracker("127.0.0.1:9", key="k", source_app="wrapped", exit_timeout_s=0.1) as tracker:
        wrapped = costd_client.wrap_openai(plain, tracker)
        for name in ("chat", "chat streamed", "response stream helper"):
            provider.next(number=7)
            expected = USES[name].run(plain)
            provider.next(number=7)
            assert same(USES[name].run(wrapped), expected)


def test_a_refused_preflight_keeps_the_call_from_the_provider(provider: FakeProvider, plain: openai.OpenAI) -> None:
    """BudgetExceeded, before anything is sent; the estimate is the worst case of the request."""

    async def use_async(address: str) -> None:
        async with (
            AsyncTracker(address, key="k", source_app="wrapped") as tracker,
            openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as client,
        ):
            with pytest.raises(BudgetExceeded):
                await USES["chat stream helper"].run_async(costd_client.wrap_openai(client, tracker))

    asked = len(provider.requests)
    with refusing() as (address, costd), Tracker(address, key="k", source_app="wrapped") as tracker:
        wrapped = costd_client.wrap_openai(plain, tracker, user="u1", preflight=True)
        for use in USES.values():
            with pytest.raises(BudgetExceeded):
                use.run(wrapped)
        asyncio.run(use_async(address))
        with pytest.raises(BudgetExceeded):
            wrapped.chat.completions.create(**CHAT, n=3, max_completion_tokens=70)  # type: ignore[call-overload]
    assert len(provider.requests) == asked
    assert len(costd.asked) == len(USES) + 2
    estimate = {quantity.unit: quantity.count for quantity in costd.asked[-1].estimated_units}
    assert estimate["output_tokens"] == 210
    assert estimate["input_tokens"] >= len(PROMPT) / 2
    assert costd.asked[-1].dimensions.endpoint == "chat/completions"


def test_many_at_once(daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI) -> None:
    """Threads share a wrapped client, tasks too, each with dimensions of its own; everybody's usage is their own."""
    users = [new_user() for _ in range(24)]

    def in_a_thread(user: str) -> None:
        with costd_client.context(user=user):
            list(wrapped.chat.completions.create(**CHAT, stream=True, user=user))  # type: ignore[call-overload]

    async def as_a_task(client: Any, user: str) -> None:
        with costd_client.context(user=user):
            await client.chat.completions.create(**CHAT, user=user)

    async def as_tasks() -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as plain_async:
            client = costd_client.wrap_openai(plain_async, tracker)
            await asyncio.gather(*(as_a_task(client, user) for user in users[12:]))

    wrapped = costd_client.wrap_openai(plain, tracker)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(in_a_thread, users[:12]))
    asyncio.run(as_tasks())
    sales = {sale.body["user"]: sale for sale in provider.sold if sale.body.get("user") in users}
    for user in users:
        check(only(daemon, tracker, user), sales[user], "gpt-4o", provider="openai", context={})


def test_the_client_imports_no_sdk() -> None:
    """It works where neither is installed."""
    program = """if True:
        import sys
        sys.modules |= dict.fromkeys(["openai", "anthropic", "httpx", "httpx2", "anyio", "pydantic"])
        import costd_client
        costd_client.wrap_openai, costd_client.wrap_anthropic
    """
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_body_that_can_be_read_once_is_left_to_the_sdk(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: openai.OpenAI
) -> None:
    """Messages from a generator, and an answer of the SDK's own put back among them."""
    user = new_user()
    wrapped = costd_client.wrap_openai(plain, tracker, user=user)
    first = wrapped.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    wrapped.chat.completions.create(model="gpt-4o", messages=[*MESSAGES, first.choices[0].message])  # type: ignore[list-item]
    wrapped.chat.completions.create(model="gpt-4o", messages=(message for message in MESSAGES))  # type: ignore[call-overload]
    assert [len(body["messages"]) for _, body, _ in provider.requests[-2:]] == [2, 1]
    tracker.flush(timeout_s=10)
    assert len(records_of(daemon, user)) == 3


def test_nothing_of_prompts_or_answers_is_kept(daemon: Daemon, tracker: Tracker) -> None:
    """After all of the above: not in the database, not in the log."""
    tracker.flush(timeout_s=10)
    kept = b"".join(path.read_bytes() for path in daemon.data_dir.glob("costd.db*"))
    for secret in (PROMPT, ANSWER, "sk-test", "Bern"):
        assert secret.encode() not in kept
        assert secret not in daemon.log
