"""The providers' SDKs as they are pointed at costd's proxies, and the records of their calls."""

from __future__ import annotations

import re
from typing import Any

import anthropic
import openai

import harness
from costd.v1 import query_pb2, query_pb2_grpc
from fake_provider import FakeProvider
from harness import Daemon
from proxy_upstream import Received
from rpc_calls import TIMEOUT_S, bearer, channel_to

KEY = "sk-the-providers-own-key"

#: What costd puts into a body to see the usage of a stream.
_ASKING = re.compile(rb',"stream_options":\{"include_usage":true\}|,"include_usage":true')
#: Forms are cut by a text that SDKs make up anew for every request.
_BOUNDARY = re.compile(r"boundary=([0-9a-f]{32})")
#: Headers of one connection, and the time, which may be another a moment later.
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "date"})


def base(daemon: Daemon, upstream: str) -> str:
    """The base URL of an upstream by way of costd."""
    return f"{str(daemon.client.base_url).rstrip('/')}/api/proxy/v1/{upstream}"


def openai_at(daemon: Daemon, **options: Any) -> openai.OpenAI:
    """The SDK with another base URL and key, and nothing else."""
    options = {"max_retries": 0, "base_url": base(daemon, "openai"), "api_key": daemon.admin_key} | options
    return openai.OpenAI(default_headers={"X-Provider-Key": KEY}, **options)


def async_openai_at(daemon: Daemon) -> openai.AsyncOpenAI:
    """The same for asyncio."""
    headers, url = {"X-Provider-Key": KEY}, base(daemon, "openai")
    return openai.AsyncOpenAI(max_retries=0, base_url=url, api_key=daemon.admin_key, default_headers=headers)


def anthropic_at(daemon: Daemon, **options: Any) -> anthropic.Anthropic:
    """Anthropic's."""
    options = {"max_retries": 0, "base_url": base(daemon, "anthropic")} | options
    return anthropic.Anthropic(api_key="sk-ant-unused", default_headers=_claude_headers(daemon), **options)


def async_anthropic_at(daemon: Daemon) -> anthropic.AsyncAnthropic:
    """The same for asyncio."""
    headers, url = _claude_headers(daemon), base(daemon, "anthropic")
    return anthropic.AsyncAnthropic(max_retries=0, base_url=url, api_key="sk-ant-unused", default_headers=headers)


def _claude_headers(daemon: Daemon) -> dict[str, str]:
    return {"Authorization": f"Bearer {daemon.admin_key}", "X-Provider-Key": KEY}


def records(daemon: Daemon) -> list[Any]:
    """All records, oldest first."""
    with channel_to(daemon.grpc) as channel:
        stub = query_pb2_grpc.QueryServiceStub(channel)
        request = query_pb2.ListEventsRequest(limit=1000)
        return list(reversed(stub.ListEvents(request, metadata=bearer(daemon.admin_key), timeout=TIMEOUT_S).events))


def newest(daemon: Daemon, before: int, count: int = 1) -> list[Any]:
    """The records after so many, once there are `count` of them."""
    harness.until(lambda: len(records(daemon)) >= before + count, "the record", 30)
    return records(daemon)[before:]


def the_record(daemon: Daemon, before: int) -> Any:
    """The one record after so many."""
    (record,) = newest(daemon, before)
    return record


def units_of(record: Any) -> dict[str, float]:
    """The units of a record that are not zero."""
    return {name: float(count) for name, count in record.units.items() if float(count)}


def made(daemon: Daemon) -> int:
    """How many records there are."""
    return len(records(daemon))


def received_alike(provider: FakeProvider, at: int = -2) -> bool:
    """That the provider received the same of two callers (the last, or those at `at`), the second by way of costd.

    To the byte, and with the same headers; but for the wish for a stream's usage, which makes a body longer, and comes
    with one for an answer that is not compressed.
    """
    direct, proxied = (_cleaned(sent) for sent in provider.received[at:][:2])
    asked = len(proxied.body) - len(_ASKING.sub(b"", proxied.body, count=1))
    if asked and _ASKING.search(direct.body) is None:
        length = int(proxied.headers["content-length"]) - asked
        said = {"accept-encoding": direct.headers["accept-encoding"], "content-length": str(length)}
        assert proxied.headers["accept-encoding"] == "identity"
        proxied = proxied._replace(headers={**proxied.headers, **said}, body=_ASKING.sub(b"", proxied.body, count=1))
    differing = set(proxied.headers.items()) ^ set(direct.headers.items())
    assert not differing, differing
    assert proxied.body == direct.body, (proxied.body, direct.body)
    assert proxied == direct
    return True


def _cleaned(sent: Received) -> Received:
    headers = {name.lower(): value for name, value in sent.headers.items() if name.lower() not in HOP_BY_HOP}
    # Anthropic takes its keys in either header; its SDK and costd are of two minds about it.
    keys = {headers.pop("authorization", ""), headers.pop("x-api-key", "")} - {""}
    assert keys in ({KEY}, {f"Bearer {KEY}"}), keys
    if headers.get("content-length") == "0":
        del headers["content-length"]  # said or not, it means the same
    form = _BOUNDARY.search(headers.get("content-type", ""))
    if form is None:
        return sent._replace(headers=headers)
    headers["content-type"] = headers["content-type"].replace(form[1], "BOUNDARY")
    return sent._replace(headers=headers, body=sent.body.replace(form[1].encode(), b"BOUNDARY"))
