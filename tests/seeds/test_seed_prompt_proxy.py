"""The prompt proxy's document: its examples run against costd with another base URL and key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

import harness
from fake_provider import ANSWER, FakeProvider

EXAMPLES = Path(__file__).parent / "examples"


def test_the_documents_examples_and_its_aggregations(tmp_path: Path) -> None:
    with FakeProvider().serving() as provider:
        flags = ("--upstream", f"openai={provider.openai_url}", "--upstream", f"anthropic={provider.anthropic_url}/v1")
        daemon = harness.start(tmp_path / "data", *flags)
        base = str(daemon.client.base_url).rstrip("/")
        environment = {**os.environ, "BASE_URL": base, "API_KEY": daemon.key("app")}
        command = [sys.executable, str(EXAMPLES / "prompt_proxy.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.split() == [ANSWER, ANSWER], done.stderr
        path, body, headers = provider.requests[0]
        assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer sk-user_openai_key_here")
        assert "_aipromptcost" not in body
        assert provider.requests[1][2]["x-api-key"] == "sk-ant-user_anthropic_key_here"
        harness.until(lambda: daemon.query("SELECT count(*) FROM event")[0][0] == 2, "the records")
        prompts = daemon.client.get("/api/aggregations/by-prompt").json()["prompts"]
        assert {(row["prompt_key"], row["request_count"]) for row in prompts} == {
            ("document-summarizer", 1),
            ("unknown", 1),
        }
        query = {"prompt_key": "document-summarizer", "provider": "openai"}
        (version,) = daemon.client.get("/api/aggregations/version-comparison", params=query).json()["versions"]
        assert (version["version_number"], version["request_count"]) == (2, 1)
        assert version["total_cost"] == version["avg_cost_per_request"] > 0
        daemon.kill()


def test_curl_as_in_the_document(tmp_path: Path) -> None:
    """Anthropic without its version header, which is then the document's default; errors in the provider's form."""
    with FakeProvider().serving() as provider:
        daemon = harness.start(tmp_path / "data", "--upstream", f"anthropic={provider.anthropic_url}/v1")
        url = f"{str(daemon.client.base_url).rstrip('/')}/api/proxy/v1/anthropic/messages"
        headers = {"Authorization": f"Bearer {daemon.key('app')}", "X-Provider-Key": "sk-ant-user"}
        body = {"model": "claude-sonnet-4-20250514", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
        assert httpx.post(url, json=body, headers=headers).json()["content"][0]["text"] == ANSWER
        assert provider.requests[-1][2]["anthropic-version"] == "2023-06-01"
        refused = httpx.post(url, json=body, headers={"Authorization": "Bearer nobody"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
        missing = httpx.post(url, json=body, headers={"Authorization": headers["Authorization"]})
        assert (missing.status_code, missing.json()["code"]) == (401, "AUTHENTICATION_ERROR")
        daemon.kill()
