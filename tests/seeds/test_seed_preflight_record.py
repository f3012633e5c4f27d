"""The preflight/record document's examples, with only base URL and key changed: curl and httpx."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from harness import Daemon

EXAMPLES = Path(__file__).parent / "examples"
BASES = ("/v1", "/cost-tracker/v1")
PREFLIGHT = (
    '{"user_external_id":"test-user","source_app":"my-project","model":"gemini-2.5-pro-preview",'
    '"estimated_units":{"input_tokens":1000,"output_tokens":200}}'
)
RECORD = (
    '{"request_id":"","user_external_id":"test-user","source_app":"my-project","model":"gemini-2.5-pro-preview",'
    '"units":{"input_tokens":987,"output_tokens":180},"latency_ms":1200,"status":"success"}'
)


def shell(daemon: Daemon, base: str, command: str) -> Any:
    script = f'BASE="{daemon.http_url}{base}"\nKEY="{daemon.admin_key}"\n{command}'
    env = {**os.environ, "NO_PROXY": "*"}
    done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("base", BASES)
def test_the_smoke_test(daemon: Daemon, base: str) -> None:
    assert shell(daemon, base, 'curl "$BASE/health"') == {"status": "ok", "db": "ok"}
    preflight = shell(
        daemon,
        base,
        rf"""
        curl -X POST "$BASE/preflight" \
          -H "X-API-Key: $KEY" \
          -H "Content-Type: application/json" \
          -d '{PREFLIGHT}'
        """,
    )
    assert preflight["allow"] is True
    assert preflight["estimated_cost_usd"] == 0.00325
    assert preflight["request_id"]
    recorded = shell(
        daemon,
        base,
        rf"""
        curl -X POST "$BASE/usage/record" \
          -H "X-API-Key: $KEY" \
          -H "Content-Type: application/json" \
          -d '{RECORD}'
        """,
    )
    assert recorded["event_id"]
    assert recorded["cost_usd"] == 0.00303375


@pytest.fixture
def application(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("NO_PROXY", "*")
    spec = importlib.util.spec_from_file_location("cost_tracker", EXAMPLES / "cost_tracker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.settings.cost_tracker_base_url = daemon.http_url + "/cost-tracker/v1"
    module.settings.cost_tracker_api_key = daemon.admin_key
    return module


def test_a_wrapped_call(application: ModuleType) -> None:
    async def run() -> Any:
        try:
            return await application.call_gemini_with_tracking("Summarise this. " * 50, "user-1", "job-1")
        finally:
            await application.get_client().aclose()

    response, preflight, recorded = asyncio.run(run())
    assert response.text
    assert recorded["request_id"] == preflight["request_id"]
    assert 0 < recorded["cost_usd"] < preflight["estimated_cost_usd"]
    assert recorded["duplicate"] is False


def test_an_unreachable_tracker_lets_the_call_be_made(application: ModuleType) -> None:
    async def run() -> Any:
        async with httpx.AsyncClient(base_url="http://127.0.0.1:1/v1", timeout=1.0, trust_env=False) as nobody:
            return await application.safe_preflight(nobody, {})

    assert asyncio.run(run()) == {"allow": True, "request_id": None, "estimated_cost_usd": 0}


def test_characters_and_mirrored_users_and_projects(daemon: Daemon) -> None:
    key = {"X-API-Key": daemon.admin_key}
    with httpx.Client(base_url=f"{daemon.http_url}/v1", headers=key, timeout=10.0, trust_env=False) as ct:
        recorded = ct.post(
            "/usage/record",
            json={
                "user_external_id": "u",
                "source_app": "my-project",
                "model": "eleven_multilingual_v2",
                "units": {"chars": len("Hello there")},
                "latency_ms": 300,
                "status": "success",
            },
        )
        user = ct.post(
            "/users/upsert",
            json={"external_id": "7", "source_app": "my-project", "email": "u@example.org", "full_name": "U"},
        )
        project = ct.post(
            "/projects/upsert",
            json={
                "external_id": "9",
                "source_app": "my-project",
                "name": "Video",
                "workspace_id": "your-workspace-id",
            },
        )
    assert [response.status_code for response in (recorded, user, project)] == [200, 200, 200]
    assert (user.json()["full_name"], project.json()["name"]) == ("U", "Video")
