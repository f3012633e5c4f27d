"""What SDKs show besides their typed results: raw answers, errors, retries, and the calls that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import anthropic
import openai
import pytest

import anthropic_uses
import fake_storage
import openai_uses
from fake_provider import PROMPT, FakeProvider
from harness import Daemon
from proxied_calls import HOP_BY_HOP, KEY, anthropic_at, made, newest, openai_at, received_alike
from scraping import Page
from wrapping import same

UNMETERED = "costd_proxy_unmetered_total"
CHAT, MESSAGE = openai_uses.CHAT, anthropic_uses.MESSAGE
#: Beside what the provider says, and beside how an answer travels.
_OURS = HOP_BY_HOP | {"x-costd-request-id"}

Pair = tuple[Any, Any]


@pytest.fixture(params=["openai", "anthropic"])
def pair(request: pytest.FixtureRequest, proxied: Daemon, provider: FakeProvider) -> Iterator[Pair]:
    """An SDK's client at the provider, and one by way of costd."""
    direct, by_costd = clients(request.param, proxied, provider)
    with direct, by_costd:
        yield direct, by_costd


def clients(name: str, proxied: Daemon, provider: FakeProvider) -> Pair:
    if name == "openai":
        return openai.OpenAI(api_key=KEY, base_url=provider.openai_url, max_retries=0), openai_at(proxied)
    plain = anthropic.Anthropic(api_key=KEY, base_url=provider.anthropic_url, max_retries=0)
    return plain, anthropic_at(proxied)


def ask(client: Any, **changes: Any) -> Any:
    if isinstance(client, openai.OpenAI):
        return client.chat.completions.create(**(CHAT | changes))
    return client.messages.create(**(MESSAGE | changes))


def shown(headers: Any) -> list[tuple[str, str]]:
    """The end-to-end headers, those that come twice among them."""
    return sorted((name, value) for name, value in headers.multi_items() if name.lower() not in _OURS)


USES = {"openai": openai_uses.USES, "anthropic": anthropic_uses.USES}


@pytest.mark.parametrize(
    ("sdk", "name"),
    [(sdk, name) for sdk, uses in USES.items() for name, use in uses.items() if use.form in {"plain", "events"}],
)
def test_raw_answers_have_the_same_bytes_and_headers(
    sdk: str, name: str, proxied: Daemon, provider: FakeProvider
) -> None:
    use, before, got = USES[sdk][name], made(proxied), []
    for client in clients(sdk, proxied, provider):
        owner, _, method = use.method.rpartition(".")
        provider.next(number=9, **use.wish)
        with client:
            raw = getattr(attrgetter(owner)(client).with_raw_response, method)(**use.arguments)
            got.append((raw.status_code, shown(raw.headers), raw.http_response.read()))
            assert raw.headers["x-request-id"] == "req_9"
            assert len(raw.headers.get_list("set-cookie")) == 2
    assert got[1] == got[0]
    newest(proxied, before)


STATUSES = [400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 529]


@pytest.mark.parametrize("status", STATUSES)
def test_errors_of_the_provider_are_raised_as_without_costd(
    status: int, pair: Pair, proxied: Daemon, provider: FakeProvider
) -> None:
    before, raised = made(proxied), []
    said = {"retry-after": "7", "retry-after-ms": "7000", "x-should-retry": "true", "x-odd": "kept"}
    for client in pair:
        provider.next(failures=[status], failure_headers=said)
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
            ask(client)
        raised.append(caught.value)
    direct, by_costd = raised
    assert type(by_costd) is type(direct)
    assert (by_costd.status_code, by_costd.body, str(by_costd)) == (status, direct.body, str(direct))
    assert shown(by_costd.response.headers) == shown(direct.response.headers)
    assert by_costd.response.headers["retry-after"] == "7"
    (record,) = newest(proxied, before)
    assert (record.status, dict(record.units), record.dimensions["status"]) == (str(status), {}, "error")
    assert record.cost_nano_usd == 0


def test_sdks_try_again_by_way_of_costd(pair: Pair, proxied: Daemon, provider: FakeProvider) -> None:
    """Each attempt is a record of its own; the one that was sold is paid for once."""
    before, asked = made(proxied), len(provider.requests)
    provider.next(failures=[429, 529], failure_headers={"retry-after-ms": "1"})
    ask(pair[1].with_options(max_retries=2))
    found = newest(proxied, before, 3)
    assert sorted(record.status for record in found) == ["429", "529", "success"]
    (paid,) = [record for record in found if record.status == "success"]
    assert int(paid.units["output_tokens"]) == provider.last.units["output_tokens"]
    counts = [headers["x-stainless-retry-count"] for _, _, headers in provider.requests[asked:]]
    assert counts == ["0", "1", "2"]


OPENAI_FREE: dict[str, Callable[[openai.OpenAI], Any]] = {
    "models": lambda client: list(client.models.list()),
    "a model": lambda client: client.models.retrieve("gpt-4o"),
    "a model removed": lambda client: client.models.delete("ft:gpt-4o"),
    "files": lambda client: list(client.files.list(purpose="batch", limit=5)),
    "an upload": lambda client: client.files.create(file=("a.jsonl", fake_storage.CONTENT), purpose="batch"),
    "a file": lambda client: client.files.retrieve("file-1"),
    "a download": lambda client: client.files.content("file-1").read(),
    "a file removed": lambda client: client.files.delete("file-1"),
    "an upload in parts": lambda client: client.uploads.create(
        bytes=5, filename="b", mime_type="text/plain", purpose="batch"
    ),
    "a part": lambda client: client.uploads.parts.create("upload_1", data=b"\x00\xffpart"),
    "parts put together": lambda client: client.uploads.complete("upload_1", part_ids=["part_1"]),
    "a batch": lambda client: client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
    ),
    "batches": lambda client: list(client.batches.list()),
    "a batch looked at": lambda client: client.batches.retrieve("batch_1"),
    "a batch cancelled": lambda client: client.batches.cancel("batch_1"),
    "a moderation": lambda client: client.moderations.create(input=PROMPT),
    "a count": lambda client: client.responses.input_tokens.count(model="gpt-5", input=PROMPT),
    "a response removed": lambda client: client.responses.delete("resp_1"),
    "a conversation": lambda client: client.conversations.create(),
    "jobs": lambda client: list(client.fine_tuning.jobs.list()),
}
ANTHROPIC_FREE: dict[str, Callable[[anthropic.Anthropic], Any]] = {
    "models": lambda client: list(client.models.list(limit=3)),
    "a model": lambda client: client.models.retrieve("claude-opus-5"),
    "files": lambda client: list(client.files.list()),
    "beta files": lambda client: list(client.beta.files.list()),
    "an upload": lambda client: client.files.upload(file=("a.txt", b"hello")),
    "a file": lambda client: client.files.retrieve_metadata("file_1"),
    "a download": lambda client: client.files.download("file_1").read(),
    "a file removed": lambda client: client.files.delete("file_1"),
    "a count": lambda client: client.messages.count_tokens(model=MESSAGE["model"], messages=MESSAGE["messages"]),
}


@pytest.mark.parametrize(
    ("sdk", "name"), [*(("openai", name) for name in OPENAI_FREE), *(("anthropic", name) for name in ANTHROPIC_FREE)]
)
def test_what_costs_nothing_passes_as_it_is_and_is_not_recorded(
    sdk: str, name: str, proxied: Daemon, provider: FakeProvider
) -> None:
    call: Any = OPENAI_FREE[name] if sdk == "openai" else ANTHROPIC_FREE[name]
    before, asked, results = made(proxied), len(provider.received), []
    unmetered = Page.of(proxied).total(UNMETERED)
    for client in clients(sdk, proxied, provider):
        with client:
            results.append(call(client))
    with openai_at(proxied) as client:
        ask(client)
    (record,) = newest(proxied, before)  # of the call after it, and of nothing else
    assert record.dimensions["endpoint"] == "chat/completions"
    assert same(results[1], results[0])
    assert len(provider.received) == asked + 3
    assert received_alike(provider, asked)
    assert Page.of(proxied).total(UNMETERED) == unmetered


def test_what_nobody_knows_passes_and_is_counted(pair: Pair, proxied: Daemon, provider: FakeProvider) -> None:
    before, unmetered = made(proxied), Page.of(proxied).total(UNMETERED)
    path = "/unheard/of" if isinstance(pair[0], openai.OpenAI) else "/v1/unheard/of"
    direct, by_costd = (client.post(path, cast_to=object, body={"n": 10**30, "b": PROMPT}) for client in pair)
    assert by_costd == direct == {"is": "heard"}
    assert received_alike(provider)
    assert Page.of(proxied).total(UNMETERED) == unmetered + 1
    ask(pair[1])
    assert len(newest(proxied, before)) == 1
