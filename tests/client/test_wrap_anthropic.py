"""wrap_anthropic with the real SDK and a local provider: the ledger holds what was sold, the caller notices nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

import costd_client
from anthropic_uses import CACHED, MESSAGE, MODEL, USES
from costd_client import AsyncTracker, Tracker
from fake_provider import ANSWER, PROMPT, FakeProvider
from harness import Daemon
from wrapping import Use, check, new_user, records_of, same


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    """Anthropic, for this module."""
    with FakeProvider().serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def tracker(daemon: Daemon) -> Iterator[Tracker]:
    """A tracker shared by the module."""
    with Tracker(daemon.grpc, key=daemon.key("app"), source_app="wrapped") as tracker:
        yield tracker


@pytest.fixture
def plain(provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    """A client that is not wrapped."""
    with anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url) as client:
        yield client


def only(daemon: Daemon, tracker: Tracker, user: str) -> Any:
    """The one record of a user."""
    tracker.flush(timeout_s=10)
    (record,) = records_of(daemon, user)
    return record


def context_of(use: Use) -> dict[str, str]:
    """The price context of what was wished for."""
    context = {"processing": "batch"} if use.wish.get("tier") == "batch" else {}
    return context | ({"speed": "fast"} if use.wish.get("speed") else {})


@pytest.mark.parametrize("name", USES)
def test_usage_is_what_was_sold(
    name: str, daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """One record with the units and the cost of the sale; the result is the one of a client that is not wrapped."""
    use, user = USES[name], new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    provider.next(number=7, **use.wish)
    expected = use.run(plain)
    provider.next(number=7, **use.wish)
    assert same(use.run(wrapped), expected)
    check(only(daemon, tracker, user), provider.last, MODEL, provider="anthropic", context=context_of(use))


@pytest.mark.parametrize("name", USES)
def test_usage_is_what_was_sold_to_asyncio(name: str, daemon: Daemon, provider: FakeProvider) -> None:
    """The same for AsyncAnthropic with an AsyncTracker."""
    use, user = USES[name], new_user()

    async def both() -> tuple[Any, Any]:
        async with (
            AsyncTracker(daemon.grpc, key=daemon.admin_key, source_app="wrapped") as tracker,
            anthropic.AsyncAnthropic(api_key="sk-ant-test", base_url=provider.anthropic_url) as plain,
        ):
            provider.next(number=7, **use.wish)
            expected = await use.run_async(plain)
            provider.next(number=7, **use.wish)
            result = await use.run_async(costd_client.wrap_anthropic(plain, tracker, user=user))
            await tracker.flush(timeout_s=10)
            return expected, result

    expected, result = asyncio.run(both())
    assert same(result, expected)
    (record,) = records_of(daemon, user)
    check(record, provider.last, MODEL, provider="anthropic", context=context_of(use))


DERIVATIONS: dict[str, Callable[[Any], Any]] = {
    "with_options": lambda client: client.with_options(max_retries=0).messages.create(**MESSAGE),
    "raw": lambda client: client.messages.with_raw_response.create(**MESSAGE).parse(),
    "raw, never parsed": lambda client: client.messages.with_raw_response.create(**MESSAGE),
    "raw stream": lambda client: list(client.messages.with_raw_response.create(**MESSAGE, stream=True).parse()),
    "text of a stream": lambda client: "".join(text_of(client)),
}


def text_of(client: Any) -> Iterator[str]:
    """The text of a stream, piece by piece."""
    with client.messages.stream(**MESSAGE) as stream:
        yield from stream.text_stream


@pytest.mark.parametrize("name", DERIVATIONS)
def test_whatever_is_derived_stays_wrapped(
    name: str, daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """Copies and raw variants are tracked; the type is the SDK's."""
    user = new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    assert type(wrapped) is anthropic.Anthropic
    assert type(wrapped.with_options()) is anthropic.Anthropic
    provider.next(**CACHED)
    DERIVATIONS[name](wrapped)
    check(only(daemon, tracker, user), provider.last, MODEL, provider="anthropic", context={})


def test_a_message_read_in_pieces(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """with_streaming_response, of an answer and of a stream."""
    for arguments in (MESSAGE, MESSAGE | {"stream": True}):
        user = new_user()
        wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
        with wrapped.messages.with_streaming_response.create(**arguments) as response:
            assert ANSWER[0] in "".join(response.iter_lines())
        check(only(daemon, tracker, user), provider.last, MODEL, provider="anthropic", context={})


def test_what_is_not_billed_is_not_recorded(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """Counting tokens is free; a batch is billed when it runs."""
    user = new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    assert wrapped.messages.count_tokens(model=MODEL, messages=MESSAGE["messages"]).input_tokens == 2_095
    wrapped.messages.batches.create(requests=[{"custom_id": "1", "params": MESSAGE}])  # type: ignore[typeddict-item]
    tracker.flush(timeout_s=10)
    assert records_of(daemon, user) == []


def test_a_tool_runner_is_tracked_call_by_call(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """The SDK's own loop around tools: one record for the call of the tool, one for the answer."""

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Weather.

        Args:
            city: where
        """
        return f"sunny in {city}"

    user = new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    provider.next(tool_call=True)
    wrapped.beta.messages.tool_runner(**MESSAGE, tools=[weather]).until_done()
    tracker.flush(timeout_s=10)
    records = records_of(daemon, user)
    assert len(records) == 2
    for record, sale in zip(records, provider.sold[-2:], strict=True):
        check(record, sale, MODEL, provider="anthropic", context={})


def test_retries_are_one_call(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """The SDK tries twice; one record."""
    user = new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    provider.next(failures=[529], failure_headers={"retry-after-ms": "1"})
    wrapped.messages.create(**MESSAGE)
    check(only(daemon, tracker, user), provider.last, MODEL, provider="anthropic", context={})


def test_errors_are_the_sdks_own(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """The same exception, and a record that says error."""
    user = new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    for client in (plain, wrapped):
        provider.next(failures=[400])
        with pytest.raises(anthropic.BadRequestError, match="fails with 400"):
            client.messages.create(**MESSAGE)
    record = only(daemon, tracker, user)
    assert (record.status, dict(record.units)) == ("error", {})


def test_an_error_within_a_stream_is_an_error_with_what_was_seen(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """The provider gives up after it has begun; its first event names the input."""
    user = new_user()
    wrapped = costd_client.wrap_anthropic(plain, tracker, user=user)
    provider.next(error_after=4, **CACHED)
    with pytest.raises(anthropic.APIStatusError, match="no more"):
        list(wrapped.messages.create(**MESSAGE, stream=True))
    record = only(daemon, tracker, user)
    assert record.status == "error"
    assert int(record.units["input_tokens"]) == provider.last.units["input_tokens"]


def test_a_stream_that_ends_early_is_incomplete_with_what_was_seen(
    daemon: Daemon, provider: FakeProvider, tracker: Tracker, plain: anthropic.Anthropic
) -> None:
    """Left, dropped, or cut by the provider."""

    def leave(client: Any) -> None:
        with client.messages.stream(**MESSAGE) as stream:
            next(stream)

    def drop(client: Any) -> None:
        next(client.messages.create(**MESSAGE, stream=True))

    def cut(client: Any) -> None:
        with pytest.raises(Exception, match="peer closed connection"):
            list(client.messages.create(**MESSAGE, stream=True))

    for end, wish in ((leave, {"wait_after": 4}), (drop, {"wait_after": 4}), (cut, {"cut_after": 4})):
        user = new_user()
        provider.next(**CACHED, **wish)
        end(costd_client.wrap_anthropic(plain, tracker, user=user))
        gc.collect()
        provider.go_on.set()
        record = only(daemon, tracker, user)
        assert record.status == "incomplete", end
        given = {name: int(count) for name, count in record.units.items() if name.startswith(("input", "cache"))}
        assert given == {name: count for name, count in provider.last.units.items() if name in given}
        assert given["input_tokens"] > given["cache_read_tokens"] == CACHED["cached"]
        assert int(record.units["output_tokens"]) == 1


def test_nothing_of_prompts_or_answers_is_kept(daemon: Daemon, tracker: Tracker) -> None:
    """After all of the above: not in the database, not in the log."""
    tracker.flush(timeout_s=10)
    kept = b"".join(path.read_bytes() for path in daemon.data_dir.glob("costd.db*"))
    for secret in (PROMPT, ANSWER, "sk-ant-test", "Bern"):
        assert secret.encode() not in kept
        assert secret not in daemon.log
