"""Proxied calls where the ledger cannot answer, for a full queue or disk: made or refused, as proxy.on_failure says."""

from __future__ import annotations

import re
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import httpx
import pytest
from aiohttp import web

from budget_calls import set_budget
from callers import Call, HttpDoor, send
from harness import Daemon, until
from proxy_upstream import Upstream, upstream

Launch = Callable[..., Daemon]
PATIENCE_S = 60
#: No page of the database fits into a file of this size.
_NO_ROOM_BYTES = 4096
#: Under a hard budget that nobody has asked yet, so that something has to be written before it answers; and under none.
HARD, FREE = "claude-sonnet-4-5", "claude-haiku-4-5"


async def message(request: web.Request) -> web.Response:
    """An answer of Anthropic's."""
    sent = await request.json()
    usage = {"input_tokens": 42, "output_tokens": 120}
    return web.json_response(
        {"id": "msg_1", "type": "message", "role": "assistant", "model": sent["model"], "content": [], "usage": usage}
    )


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream(message) as made:
        yield made


@contextmanager
def locked(daemon: Daemon) -> Iterator[None]:
    """Keep the writer waiting, as another program at the same file would."""
    connection = sqlite3.connect(daemon.database, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


def fill(daemon: Daemon) -> None:
    """Leave its files no room at all, and record until it takes none."""
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (_NO_ROOM_BYTES, hard))
    numbers = count()
    until(lambda: send(HttpDoor, daemon, Call(next(numbers)))[0].word == "refused", "a full disk", PATIENCE_S)


def make_room(daemon: Daemon) -> None:
    """Let files grow again."""
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def call(daemon: Daemon, model: str) -> httpx.Response:
    body = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    keys = {"X-Provider-Key": "sk-ant-own"}
    return daemon.client.post("/api/proxy/v1/anthropic/v1/messages", json=body, headers=keys)


def records(daemon: Daemon) -> int:
    """Of proxied calls."""
    found = "SELECT count(*) FROM event JOIN series ON series.id = series_id WHERE endpoint = 'messages'"
    return int(daemon.query(found)[0][0])


def retries(daemon: Daemon) -> float:
    """How often records were offered in vain."""
    found = re.search(r"^costd_proxy_records_retried_total (\S+)$", daemon.client.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def is_refused(answer: httpx.Response) -> bool:
    """Whether it is a refusal in Anthropic's form, with a time to come back."""
    if answer.status_code != 503:
        return False
    said = answer.json()
    assert (said["type"], said["error"]["type"], said["code"]) == ("error", "api_error", "UNAVAILABLE")
    assert said["error"]["message"]
    assert int(answer.headers["Retry-After"]) > 0
    return True


def launched(launch: Launch, provider: Upstream, on_failure: str, *flags: str) -> Daemon:
    """A daemon with a hard budget."""
    daemon = launch("--upstream", f"anthropic={provider.base}", "--proxy-on-failure", on_failure, *flags)
    set_budget(daemon, "hard", 10_000, scope={"model": HARD})
    return daemon


def test_with_a_full_queue_open_makes_calls_and_keeps_their_records_until_they_are_taken(
    launch: Launch, provider: Upstream
) -> None:
    daemon = launched(launch, provider, "open", "--queue-max-records", "3")
    with locked(daemon):
        for _ in range(3):
            assert call(daemon, FREE).status_code == 200
        for model in (FREE, HARD, HARD):
            assert call(daemon, model).status_code == 200
        until(lambda: retries(daemon) >= 3, "records to be offered in vain", PATIENCE_S)
    until(lambda: records(daemon) == 6, "all records", PATIENCE_S)
    assert "costd_reservations_open 0.0" in daemon.client.get("/metrics").text


def test_open_refuses_calls_too_once_very_many_records_wait(launch: Launch, provider: Upstream) -> None:
    flags = ("--queue-max-records", "3", "--proxy-waiting-records", "2")
    daemon = launched(launch, provider, "open", *flags)
    with locked(daemon):
        made = 0
        while not is_refused(answer := call(daemon, FREE)):
            assert answer.status_code == 200
            made += 1
        # Three in the queue and two that wait; all wait once the writer has given the lock up, after seconds.
        assert 2 <= made <= 5
        assert "proxy.waiting_records" in answer.json()["error"]["message"]
        assert len(provider.requests) == made
    until(lambda: call(daemon, FREE).status_code == 200, "calls to be made again", PATIENCE_S)
    until(lambda: records(daemon) == made + 1, "all records", PATIENCE_S)


def test_with_a_full_queue_closed_refuses_calls_until_there_is_room(launch: Launch, provider: Upstream) -> None:
    daemon = launched(launch, provider, "closed", "--queue-max-records", "3")
    with locked(daemon):
        for _ in range(3):
            assert call(daemon, FREE).status_code == 200
        assert is_refused(call(daemon, FREE))
        assert is_refused(call(daemon, HARD))
        assert len(provider.requests) == 3
    until(lambda: call(daemon, HARD).status_code == 200, "calls to be made again", PATIENCE_S)
    until(lambda: records(daemon) == 4, "all records", PATIENCE_S)


def test_on_a_full_disk_open_makes_calls_and_keeps_their_records_until_there_is_room(
    launch: Launch, provider: Upstream
) -> None:
    """But for those under hard budgets, of which nothing could be counted: these are denied, and told why."""
    daemon = launched(launch, provider, "open", "--disk-reserve-bytes", "64KiB")
    assert call(daemon, HARD).status_code == 200
    until(lambda: records(daemon) == 1, "its record", PATIENCE_S)
    fill(daemon)
    for _ in range(3):
        assert call(daemon, FREE).status_code == 200
    denied = call(daemon, HARD)
    assert (denied.status_code, denied.json()["deny_reason"]) == (429, "lease_unavailable")
    assert "want of space" in denied.json()["error"]["message"]
    assert "hub" not in denied.json()["error"]["message"]
    until(lambda: retries(daemon) >= 3, "records to be offered in vain", PATIENCE_S)
    assert records(daemon) == 1
    make_room(daemon)
    until(lambda: records(daemon) == 4, "all records", PATIENCE_S)
    assert call(daemon, HARD).status_code == 200


def test_on_a_full_disk_closed_refuses_calls_until_there_is_room(launch: Launch, provider: Upstream) -> None:
    daemon = launched(launch, provider, "closed", "--disk-reserve-bytes", "64KiB")
    fill(daemon)
    assert is_refused(call(daemon, FREE))
    assert is_refused(call(daemon, HARD))
    assert provider.requests == []
    make_room(daemon)
    until(lambda: call(daemon, HARD).status_code == 200, "calls to be made again", PATIENCE_S)
