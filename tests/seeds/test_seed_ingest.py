"""The ingest document's examples, with only base URL and key changed: curl, Node's fetch, Python's requests."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from harness import Daemon

EXAMPLES = Path(__file__).parent / "examples"


def shell(daemon: Daemon, script: str) -> Any:
    """Run an example as a person would paste it, and read what it prints as JSON."""
    env = {**os.environ, "BASE": daemon.http_url, "CODINGVIBEZ_API_KEY": daemon.admin_key, "NO_PROXY": "*"}
    done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_curl_cost(daemon: Daemon) -> None:
    answer = shell(
        daemon,
        """
        curl -X POST $BASE/api/ingest \
          -H "Authorization: Bearer $CODINGVIBEZ_API_KEY" \
          -H "Content-Type: application/json" \
          -d '{"type":"cost","service":"OpenAI","data":{"amount":125.5,"month":1,"year":2026}}'
        """,
    )
    assert answer["success"] is True
    assert answer["message"] == "Cost data ingested successfully"
    assert answer["recordId"]


def test_curl_tokens(daemon: Daemon) -> None:
    answer = shell(
        daemon,
        """
        curl -X POST $BASE/api/ingest \
          -H "Authorization: Bearer $CODINGVIBEZ_API_KEY" \
          -H "Content-Type: application/json" \
          -d '{"type":"tokens","service":"Anthropic","data":{"month":1,"year":2026,"tokens_used":2500000,"cost":45.75}}'
        """,
    )
    assert answer["success"] is True


@pytest.fixture
def client(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The document's Python client, set up by its own environment variables."""
    monkeypatch.setenv("CODINGVIBEZ_BASE", daemon.http_url)
    monkeypatch.setenv("CODINGVIBEZ_API_KEY", daemon.admin_key)
    monkeypatch.setenv("NO_PROXY", "*")
    spec = importlib.util.spec_from_file_location("ingest_client", EXAMPLES / "ingest_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python_requests(client: ModuleType) -> None:
    assert client.ingest_cost("OpenAI", 125.5, 1, 2026, notes="invoice 7", breakdown={"gpt-4o": 100.0})["success"]
    assert client.ingest_tokens("OpenAI", 1, 2026, 1500, cost=0.02, input_tokens=1000, output_tokens=500)["success"]


def test_python_requests_raises_for_what_is_wrong(client: ModuleType) -> None:
    with pytest.raises(requests.HTTPError) as caught:
        client.ingest_cost("OpenAI", "much", 1, 2026)
    response = caught.value.response
    assert response.status_code == 400
    assert response.json()["error"] == "Bad request"
    assert response.json()["message"] == "Required: amount (number), month (number), year (number)"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_fetch(daemon: Daemon) -> None:
    env = {**os.environ, "CODINGVIBEZ_BASE": daemon.http_url, "CODINGVIBEZ_API_KEY": daemon.admin_key}
    done = subprocess.run(
        ["node", str(EXAMPLES / "ingest_client.mjs")], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["success"] for answer in answers["good"]] == [True, True]
    assert answers["bad"]["error"] == "Bad request"


def test_a_revoked_or_missing_key_is_a_401(daemon: Daemon) -> None:
    answer = shell(daemon, """curl -X POST $BASE/api/ingest -H "Content-Type: application/json" -d '{}'""")
    assert (answer["error"], answer["code"]) == ("Unauthorized", "AUTHENTICATION_ERROR")
