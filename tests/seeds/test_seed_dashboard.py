"""The dashboard document's examples for the endpoints there are, with only base URL and key changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import Daemon

EXAMPLES = Path(__file__).parent / "examples"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_client(daemon: Daemon) -> None:
    env = {**os.environ, "BASE": daemon.http_url, "KEY": daemon.admin_key}
    done = subprocess.run(
        ["node", str(EXAMPLES / "dashboard_client.mjs")],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    tracked = answers["openai"]
    assert set(tracked) >= {"success", "data", "timestamp", "requestId"}
    assert set(tracked["data"]) >= {"id", "provider", "model", "inputTokens", "outputTokens", "cost", "timestamp"}
    assert tracked["data"]["cost"] == 0.025
    assert answers["anthropic"]["data"]["cost"] == 0.027
    assert answers["costs"]["data"]["currentMonth"] >= 0.025
    assert answers["costs"]["data"]["breakdown"]["gpt-4-turbo"] >= 0.025


def test_the_documented_bodies(daemon: Daemon) -> None:
    tracked = daemon.client.post(
        "/api/tokens/track",
        json={
            "provider": "openai",
            "model": "gpt-4-turbo",
            "inputTokens": 1000,
            "outputTokens": 500,
            "cachedTokens": 0,
            "cost": 0.05,
            "flush": True,
        },
    ).json()
    assert tracked["data"]["cost"] == 0.05
    manual = daemon.client.post(
        "/api/costs/manual",
        json={
            "service": "OpenAI",
            "amount": 50.00,
            "month": 1,
            "year": 2026,
            "category": "API Calls",
            "description": "Monthly subscription",
        },
    ).json()
    assert manual["success"] is True


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "/api/tokens?billingStartDate=2026-01-01&billingEndDate=2026-01-31",
            {"tokens", "lastUpdated", "dataFreshness", "billingPeriod"},
        ),
        (
            "/api/costs/openai?month=1&year=2026",
            {"service", "currentMonth", "previousMonth", "breakdown", "tokenUsage", "dataFreshness"},
        ),
        ("/api/costs/all?month=1&year=2026", {"total", "byProvider", "comparison"}),
        ("/api/health", {"status", "database", "services"}),
        ("/api/tracking-health", {"status", "buffer", "dataFreshness", "errors"}),
    ],
)
def test_the_documented_answers(daemon: Daemon, path: str, fields: set[str]) -> None:
    answer = daemon.client.get(path).json()
    assert answer["success"] is True
    assert set(answer["data"]) >= fields


def test_the_documented_error(daemon: Daemon) -> None:
    answer = daemon.client.post("/api/tokens/track", json={"model": 5}).json()
    assert answer["success"] is False
    assert isinstance(answer["error"], str)
    assert answer["code"] == "VALIDATION_ERROR"
    assert answer["requestId"]
