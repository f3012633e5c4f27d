"""The dashboard API over real sockets: the envelope, tokens, costs and health."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from harness import Daemon

TRACK = {
    "provider": "openai",
    "model": "gpt-4-turbo",
    "inputTokens": 1000,
    "outputTokens": 500,
    "cachedTokens": 0,
    "cost": 0.05,
    "flush": True,
}


def data(response: httpx.Response) -> Any:
    answer = response.json()
    assert response.status_code == 200, response.text
    assert answer["success"] is True
    assert answer["requestId"] == response.headers["X-Request-Id"]
    datetime.fromisoformat(answer["timestamp"])
    return answer["data"]


def track(daemon: Daemon, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    return daemon.client.post("/api/tokens/track", json={**TRACK, **changes}, headers=headers or {})


def test_a_tracked_call_is_on_disk_when_it_is_answered(daemon: Daemon) -> None:
    tracked = data(track(daemon))
    assert tracked.pop("id")
    assert tracked.pop("timestamp")
    assert tracked == {
        "provider": "openai",
        "model": "gpt-4-turbo",
        "inputTokens": 1000,
        "outputTokens": 500,
        "cachedTokens": 0,
        "cost": 0.05,
        "flushed": True,
        "requestId": None,
        "duplicate": False,
        "warnings": [],
    }
    assert data(track(daemon, flush=False))["flushed"] is True


def test_a_tracked_call_without_a_cost_is_priced(daemon: Daemon) -> None:
    assert data(track(daemon, cost=None, model="gpt-4o"))["cost"] == 0.0075
    assert data(track(daemon, cost=None, provider=None, model="gpt-4o"))["provider"] == "openai"


def test_a_tracked_call_counts_once_under_its_id(daemon: Daemon) -> None:
    first = data(track(daemon, {"Idempotency-Key": "track-1"}))
    again = data(track(daemon, requestId="track-1"))
    assert again == {**first, "duplicate": True}
    other = track(daemon, requestId="track-1", inputTokens=1)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": None}, "model"),
        ({"inputTokens": -1}, "inputTokens"),
        ({"inputTokens": "many"}, "inputTokens"),
        ({"outputTokens": 1.5}, "outputTokens"),
        ({"cachedTokens": 1001}, "cachedTokens"),
        ({"cost": -1}, "cost"),
        ({"cost": "0.05"}, "cost"),
        ({"flush": "yes"}, "flush"),
        ({"provider": 5}, "provider"),
        ({"userId": "a\n"}, "userId"),
        ({"timestamp": "soon"}, "timestamp"),
    ],
)
def test_a_wrong_field_is_named_and_error_is_the_sentence(daemon: Daemon, changes: dict[str, Any], field: str) -> None:
    response = track(daemon, **changes)
    answer = response.json()
    assert response.status_code == 400, response.text
    assert answer["details"]["field"] == field
    assert answer["error"] == answer["message"]
    assert field in answer["error"]


def test_tokens_show_usage_and_entries_apart(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    track(daemon)
    track(daemon, inputTokens=10, outputTokens=0, cachedTokens=4)
    now = datetime.now(UTC)
    entry = {"month": now.month, "year": now.year, "tokens_used": 2_500_000, "cost": 45.75, "input_tokens": 2_000_000}
    daemon.client.post("/api/ingest", json={"type": "tokens", "service": "Anthropic", "data": entry})
    found = data(daemon.client.get("/api/tokens"))
    assert found["tokens"] == [
        {
            "source": "usage",
            "provider": "openai",
            "model": "gpt-4-turbo",
            "requests": 2,
            "inputTokens": 1010,
            "outputTokens": 500,
            "cachedTokens": 4,
            "totalTokens": 1510,
            "cost": 0.1,
            "unpriced": 0,
        },
        {
            "source": "entries",
            "provider": "anthropic",
            "model": None,
            "requests": 0,
            "inputTokens": 2_000_000,
            "outputTokens": 0,
            "cachedTokens": 0,
            "totalTokens": 2_500_000,
            "cost": 45.75,
            "unpriced": 0,
        },
    ]
    assert found["dataFreshness"] == "fresh"
    assert found["billingPeriod"]["start"] == now.strftime("%Y-%m-01")
    other = data(daemon.client.get("/api/tokens?billingStartDate=2020-01-01&billingEndDate=2020-01-31"))
    assert (other["tokens"], other["billingPeriod"]) == ([], {"start": "2020-01-01", "end": "2020-01-31"})


def test_costs_add_usage_and_entries_and_show_them_apart(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    now = datetime.now(UTC)
    track(daemon)
    manual = {"service": "OpenAI", "amount": 50.00, "month": now.month, "year": now.year, "category": "API Calls"}
    stored = data(daemon.client.post("/api/costs/manual", json=manual))
    assert stored.pop("id")
    assert stored == {**manual, "amount": 50, "description": None, "duplicate": False}
    before = (now.year - 1, 12) if now.month == 1 else (now.year, now.month - 1)
    earlier = {"type": "cost", "service": "openai", "data": {"amount": 25, "month": before[1], "year": before[0]}}
    daemon.client.post("/api/ingest", json=earlier)
    found = data(daemon.client.get("/api/costs/OpenAI"))
    assert found == {
        "service": "openai",
        "month": now.month,
        "year": now.year,
        "currentMonth": 50.05,
        "previousMonth": 25,
        "breakdown": {"gpt-4-turbo": 0.05},
        "tokenUsage": {"inputTokens": 1000, "outputTokens": 500, "cachedTokens": 0, "totalTokens": 1500},
        "usage": {"cost": 0.05, "requests": 1, "unpriced": 0},
        "entries": {"cost": 50, "entries": 1},
        "dataFreshness": "fresh",
        "timezone": "UTC",
        "exact": True,
    }
    everything = data(daemon.client.get("/api/costs/all"))
    assert everything == {
        "total": 50.05,
        "month": now.month,
        "year": now.year,
        "byProvider": {"openai": 50.05},
        "comparison": {"previousMonth": 25, "changePercent": 100.2},
        "usage": {"cost": 0.05, "requests": 1, "unpriced": 0},
        "entries": {"cost": 50, "entries": 1},
        "dataFreshness": "fresh",
        "timezone": "UTC",
        "exact": True,
    }


def test_what_has_no_price_is_null_and_what_has_no_provider_is_unknown(launch: Callable[..., Daemon]) -> None:
    """Never $0: a sum is null as long as nothing in it has a price, and `unpriced` says how much that is."""
    daemon = launch()
    track(daemon, cost=None, provider="acme", model="acme-1")
    track(daemon, cost=None, provider=None, model="nobodys-model")
    everything = data(daemon.client.get("/api/costs/all"))
    assert (everything["total"], everything["byProvider"]) == (None, {"acme": None, "unknown": None})
    assert everything["usage"] == {"cost": None, "requests": 2, "unpriced": 2}
    assert everything["comparison"] == {"previousMonth": 0, "changePercent": None}
    for provider, model in (("acme", "acme-1"), ("unknown", "nobodys-model")):
        found = data(daemon.client.get(f"/api/costs/{provider}"))
        assert (found["currentMonth"], found["breakdown"]) == (None, {model: None})
        assert found["dataFreshness"] == "fresh"
    rows = {row["provider"]: row for row in data(daemon.client.get("/api/tokens"))["tokens"]}
    assert {name: (row["cost"], row["unpriced"]) for name, row in rows.items()} == {
        "acme": (None, 1),
        "unknown": (None, 1),
    }
    assert set(data(daemon.client.get("/api/tracking-health"))["providers"]) == {"acme", "unknown"}
    track(daemon, cost=0.05, provider="acme", model="acme-1")
    found = data(daemon.client.get("/api/costs/acme"))
    assert (found["currentMonth"], found["usage"]) == (0.05, {"cost": 0.05, "requests": 2, "unpriced": 1})


@pytest.mark.parametrize(
    "provider",
    [
        "openai",
        "anthropic",
        "google",
        "aws",
        "gcp",
        "azure",
        "vercel",
        "supabase",
        "cursor",
        "github",
        "lovable",
        "kiro",
    ],
)
def test_every_documented_provider_answers(daemon: Daemon, provider: str) -> None:
    found = data(daemon.client.get(f"/api/costs/{provider}?month=1&year=2026"))
    assert (found["month"], found["year"], found["currentMonth"]) == (1, 2026, 0)
    assert set(found) >= {"service", "previousMonth", "breakdown", "tokenUsage", "dataFreshness"}


def test_an_entry_is_found_under_any_name_of_its_service(daemon: Daemon) -> None:
    for service in ("Mistral", "Vercel", "Lovable Labs"):
        daemon.client.post("/api/costs/manual", json={"service": service, "amount": 7, "month": 2, "year": 2024})
        found = data(daemon.client.get(f"/api/costs/{service.upper()}?month=2&year=2024"))
        assert found["currentMonth"] == 7, service


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/costs/all?month=13", "month"),
        ("/api/costs/all?month=x", "month"),
        ("/api/costs/openai?year=1999", "year"),
        ("/api/costs/openai%00", "provider"),
        ("/api/tokens?billingStartDate=2026-02-30", "billingStartDate"),
        ("/api/tokens?billingEndDate=yesterday", "billingEndDate"),
        ("/api/tokens?billingStartDate=2026-02-01&billingEndDate=2026-01-01", "billingEndDate"),
    ],
)
def test_a_wrong_query_is_named(daemon: Daemon, path: str, field: str) -> None:
    response = daemon.client.get(path)
    assert (response.status_code, response.json()["details"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": "50"}, "amount"),
        ({"month": 0}, "month"),
        ({"amount": 2e9}, "amount"),
        ({"service": ""}, "service"),
        ({"currency": "GBP"}, "currency"),
        ({"description": "d" * 5000}, "description"),
    ],
)
def test_a_wrong_manual_cost_is_named(daemon: Daemon, changes: dict[str, Any], field: str) -> None:
    body = {"service": "OpenAI", "amount": 50.0, "month": 1, "year": 2026, **changes}
    response = daemon.client.post("/api/costs/manual", json=body)
    assert (response.status_code, response.json()["details"]["field"]) == (400, field)


def test_health_answers_in_every_documents_form(daemon: Daemon) -> None:
    answer = httpx.get(f"{daemon.http_url}/api/health", trust_env=False).json()
    assert (answer["success"], answer["status"]) == (True, "ok")
    assert 0 < answer["dbLatencyMs"] < 5000
    assert answer["data"]["status"] == "healthy"
    assert answer["data"]["database"]["healthy"] is True
    assert answer["data"]["services"]["writer"] == "healthy"


def test_tracking_health_reports_the_real_buffer(daemon: Daemon) -> None:
    track(daemon)
    found = data(daemon.client.get("/api/tracking-health"))
    assert (found["status"], found["dataFreshness"]) == ("healthy", "fresh")
    assert (found["buffer"]["size"], found["buffer"]["capacity"]) == (0, 50000)
    flushed = datetime.fromisoformat(found["buffer"]["lastFlush"]).timestamp()
    assert time.time() - flushed < 10
    assert found["providers"]["openai"]["dataFreshness"] == "fresh"


def test_freshness_goes_by_the_newest_record(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    assert data(daemon.client.get("/api/tracking-health"))["dataFreshness"] == "no_data"
    assert data(daemon.client.get("/api/tokens"))["lastUpdated"] is None
    track(daemon, timestamp=time.time() - 2 * 3600)
    assert data(daemon.client.get("/api/tracking-health"))["dataFreshness"] == "very_stale"
    track(daemon, timestamp=time.time() - 30 * 60)
    assert data(daemon.client.get("/api/tracking-health"))["dataFreshness"] == "stale"


def test_metrics_are_prometheus_text_without_a_key(daemon: Daemon) -> None:
    track(daemon)
    response = httpx.get(f"{daemon.http_url}/metrics", trust_env=False)
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert 'costd_records_accepted_total{door="http"}' in response.text


def test_records_refused_at_the_door_are_counted(daemon: Daemon) -> None:
    def rejected() -> float:
        text = httpx.get(f"{daemon.http_url}/metrics", trust_env=False).text
        start = 'costd_records_rejected_total{door="http",reason="invalid"} '
        return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))

    before = rejected()
    track(daemon, model=5)
    track(daemon, inputTokens=-1)
    daemon.client.post("/v1/usage/records", json=[{"model": 5}])
    assert rejected() == before + 3
