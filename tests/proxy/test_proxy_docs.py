"""What README and docs/operations.md say of the proxies, run as it stands there against a provider of our own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

import harness
from harness import Daemon, costd
from proxy_upstream import Upstream, upstream

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text().partition("\n### Two lines")[2].partition("\n### ")[0]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text().partition("\n## Proxies\n")[2].partition("\n## ")[0]
DOOR = "http://127.0.0.1:7431"
OPENAI_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
ANTHROPIC_USAGE = {"input_tokens": 30, "output_tokens": 12}


async def provider_of_both(request: web.Request) -> web.Response:
    """A short answer in the form of whoever was called."""
    sent = await request.json()
    assert "_aipromptcost" not in sent
    if request.path.endswith("/messages"):
        content = [{"type": "text", "text": "hello"}]
        answer = {"type": "message", "role": "assistant", "stop_reason": "end_turn", "stop_sequence": None}
        return web.json_response(
            {"id": "m", "model": sent["model"], "content": content, "usage": ANTHROPIC_USAGE, **answer}
        )
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": sent["model"]}
    return web.json_response({**answer, "choices": [choice], "usage": OPENAI_USAGE})


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream(provider_of_both) as made:
        yield made


@pytest.fixture
def proxied(provider: Upstream, tmp_path: Path) -> Iterator[Daemon]:
    upstreams = (f"--upstream={name}={provider.base}" for name in ("openai", "anthropic"))
    daemon = harness.start(tmp_path / "data", *upstreams)
    yield daemon
    daemon.kill()


@contextmanager
def clients(text: str, daemon: Daemon, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the first Python of a page makes, of this daemon and with a key of it."""
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert DOOR in code
    code = code.replace(DOOR, daemon.http_url).replace("ct_live_…", daemon.key("my-service")).replace("…", "own")
    exec(compile(code, "docs", "exec"), names)
    try:
        yield names
    finally:
        for name in {"client", "openai", "anthropic"} & names.keys():
            names[name].close()


def test_the_sdks_of_operations_go_by_costd(proxied: Daemon, provider: Upstream) -> None:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    with clients(OPERATIONS, proxied, {}) as made:
        said = made["openai"].chat.completions.create(model="gpt-4o", **asked)
        assert said.choices[0].message.content == "hello"
        assert provider.requests[-1].headers["Authorization"] == "Bearer sk-own"
        said = made["anthropic"].messages.create(model="claude-opus-4-5", **asked)
        assert said.content[0].text == "hello"
    assert {name.lower(): value for name, value in provider.requests[-1].headers.items()}["x-api-key"] == "sk-ant-own"
    harness.until(lambda: len(proxied.client.get("/api/usage").json()["items"]) == 2, "both records", 30)
    items = proxied.client.get("/api/usage").json()["items"]
    assert [(one["provider"], one["input_tokens"], one["output_tokens"]) for one in items] == [
        ("anthropic", 30, 12),
        ("openai", 9, 3),
    ]


def test_the_readme_does_what_it_says(proxied: Daemon, provider: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    openai = pytest.importorskip("openai")
    asked: Any = {"messages": [{"role": "user", "content": "hi"}], "extra_body": {"_aipromptcost": {"prompt_key": "p"}}}
    with clients(README, proxied, {"OpenAI": openai.OpenAI, "os": __import__("os")}) as made:
        made["client"].chat.completions.create(model="gpt-4o", **asked)
    assert provider.requests[-1].headers["Authorization"] == "Bearer sk-mine"
    create, report = re.findall(r"^\$ costd (.*)$", README, re.MULTILINE)
    folder = ["--data-dir", str(proxied.data_dir)]
    done = costd(*shlex.split(create), *folder)
    assert (done.returncode, done.stdout.strip() in README) == (0, True)
    (base,) = re.findall(r"^\$ ANTHROPIC_BASE_URL=(\S+) claude$", README, re.MULTILINE)
    body = {"model": "claude-opus-4-5", "max_tokens": 20, "messages": []}
    url = f"{base.replace(DOOR, proxied.http_url)}/v1/messages"
    assert httpx.post(url, json=body, headers={"x-api-key": "own"}, trust_env=False).status_code == 200
    harness.until(lambda: len(proxied.client.get("/api/usage").json()["items"]) == 2, "both records", 30)
    shown = costd(*shlex.split(report), *folder).stdout
    assert re.search(r"my-project +claude-opus-4-5 +1 ", shown)
    assert re.search(r"- +gpt-4o +1 ", shown)
