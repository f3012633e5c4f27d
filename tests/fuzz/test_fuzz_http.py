"""Fuzz: whatever is sent to whichever endpoint, the daemon never fails, and nothing refused is recorded."""

from __future__ import annotations

import json
import random
import socket
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costd.wire.web.table import routes
from harness import Daemon

MONTH = {"month": 1, "year": 2026}
VALID: dict[str, Any] = {
    "/v1/preflight": {
        "user_external_id": "u",
        "source_app": "a",
        "model": "gpt-4o",
        "estimated_units": {"input_tokens": 10},
        "provider": "openai",
        "feature_tags": ["t"],
        "price_context": {"processing": "batch"},
        "prompt_version": 2,
    },
    "/v1/usage/record": {
        "user_external_id": "u",
        "source_app": "a",
        "model": "gpt-4o",
        "units": {"input_tokens": 10, "chars": 3},
        "status": "success",
        "latency_ms": 12.5,
        "timestamp": "2026-01-01T00:00:00Z",
        "cost_usd": 0.25,
        "feature_tags": ["t"],
        "price_context": {"processing": "batch"},
        "service_tier": "flex",
        "currency": "USD",
    },
    "/v1/usage/records": [
        {
            "user_external_id": "u",
            "source_app": "a",
            "model": "gpt-4o",
            "provider": "openai",
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}},
        }
    ],
    "/v1/users/upsert": {"external_id": "u", "source_app": "a", "email": "e", "full_name": "f"},
    "/v1/projects/upsert": {"external_id": "p", "source_app": "a", "name": "n", "workspace_id": "w", "team_id": "t"},
    "/api/ingest": {"type": "cost", "service": "OpenAI", "data": {"amount": 1, **MONTH, "breakdown": {"x": [1.5]}}},
    "/api/ingest/generate-key": {"keyName": "k", "description": "d"},
    "/api/tokens/track": {
        "provider": "openai",
        "model": "gpt-4o",
        "inputTokens": 5,
        "outputTokens": 6,
        "cachedTokens": 1,
        "cost": 0.5,
        "flush": True,
        "timestamp": 1763800000.5,
        "featureTags": ["x"],
    },
    "/api/budgets": {
        "name": "b",
        "scope": {"team": "t"},
        "scope_type": "team",
        "scope_id": "t",
        "each": "user",
        "amount_usd": 1.5,
        "period": "week",
        "timezone": "Europe/London",
        "anchor_day": 3,
        "alert_thresholds": [0.5, 1.0],
        "hard_limit": True,
        "on_unpriced": "deny",
        "on_hub_down": "allow",
    },
    "/api/costs/manual": {"service": "OpenAI", "amount": 5.0, **MONTH, "category": "c"},
    "/api/api-keys": {"name": "k"},
}
#: Values at the edges of what JSON can say.
ODD = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    -0.0,
    1e-300,
    1e300,
    10**12,
    10**13,
    2**63,
    2**64,
    10**30,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\x00",
    "\ud800",
    "é",
    "🦉",
    "a" * 256,
    "a" * 257,
    "2026-13-01T00:00:00Z",
    [],
    {},
    [None],
    [[]],
    {"": 1},
    {"a": {"b": {}}},
    {"\n": 1},
    ["a", 1],
]
TABLES = ("event", "request", "month_entry", "api_key", "catalog_user", "catalog_project", "audit", "ledger_commit")
VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def mutated(value: Any, chance: random.Random) -> Any:
    """`value` with something in it replaced, removed or added."""
    if chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return chance.choice(ODD)
    if isinstance(value, list):
        return [mutated(item, chance) for item in value] * chance.choice([1, 1, 2])
    name = chance.choice(list(value))
    return chance.choice(
        [
            lambda: {**value, name: mutated(value[name], chance)},
            lambda: {**value, name: chance.choice(ODD)},
            lambda: {key: item for key, item in value.items() if key != name},
            lambda: {**value, "".join(chance.choices(string.printable, k=5)): chance.choice(ODD)},
        ]
    )()


def held(daemon: Daemon) -> list[Any]:
    """How many rows each table has: asked at once, since opening a database takes longest."""
    return daemon.query(f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in TABLES)}")


@pytest.mark.parametrize("path", VALID)
def test_odd_json_is_never_a_failure_and_never_recorded_when_refused(daemon: Daemon, path: str) -> None:
    chance = random.Random(path)
    for _ in range(150):
        body = mutated(VALID[path], chance)
        before = held(daemon)
        response = daemon.client.post(path, content=json.dumps(body))
        assert response.status_code in {200, 201, 400, 403, 409, 413}, (body, response.text)
        if response.status_code not in {200, 201}:
            assert response.json()["success"] is False
            assert held(daemon) == before, body
        elif path == "/v1/usage/records":
            answer = response.json()
            assert answer["recorded"] + answer["duplicates"] + answer["refused"] == len(answer["results"])


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_odd_changes_of_a_budget_are_never_a_failure(daemon: Daemon, method: str) -> None:
    made = daemon.client.post("/api/budgets", json=VALID["/api/budgets"] | {"name": method}).json()["data"]["id"]
    chance = random.Random(method)
    for _ in range(150):
        body = mutated(VALID["/api/budgets"], chance)
        response = daemon.client.request(method, f"/api/budgets/{made}", content=json.dumps(body))
        assert response.status_code in {200, 400, 409}, (body, response.text)
    assert daemon.client.get(f"/api/budgets/{made}").status_code == 200


def test_odd_names_of_a_profile_are_never_a_failure(daemon: Daemon) -> None:
    chance = random.Random("profile")
    for _ in range(150):
        body = mutated({"name": "admin"}, chance)
        before = held(daemon)
        response = daemon.client.put("/api/profile", content=json.dumps(body))
        assert response.status_code in {200, 400}, (body, response.text)
        if response.status_code == 400:
            assert held(daemon) == before, body
    assert daemon.client.put("/api/profile", json={"name": "admin"}).json()["name"] == "admin"


@pytest.mark.parametrize("path", ["/api/api-keys", "/api/audit-logs"])
def test_odd_pages_are_never_a_failure(daemon: Daemon, path: str) -> None:
    chance = random.Random(path)
    for _ in range(150):
        odd = [value for value in ODD if isinstance(value, str | int | float) and value != "\ud800"]
        query = {"cursor": str(chance.choice([*odd, "7", "0" * 18, "9" * 19])), "limit": str(chance.choice(odd))}
        named = {name: value for name, value in query.items() if chance.random() < 0.6}
        response = daemon.client.get(path, params=named)
        assert response.status_code in {200, 400}, (named, response.text)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(path=st.sampled_from(sorted(VALID)), content=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_random_bytes_are_never_a_failure(daemon: Daemon, path: str, content: bytes) -> None:
    response = daemon.client.post(path, content=content)
    assert response.status_code in {200, 400}
    if response.status_code == 200:
        assert response.json()["recorded"] == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(path=st.sampled_from(sorted(VALID)), value=JSON)
def test_random_json_is_never_a_failure(daemon: Daemon, path: str, value: Any) -> None:
    response = daemon.client.post(path, content=json.dumps(value))
    assert response.status_code in {200, 400}


def test_random_requests_are_never_a_failure(daemon: Daemon) -> None:
    chance = random.Random(7)
    paths = sorted({route.path.replace("{provider}", "x") for route in routes(metrics_open=True)})
    for _ in range(300):
        path = chance.choice(paths) + chance.choice(
            ["", "/", "?", "?month=1", "?year=%7f", "?a=%zz&month=x", "%00", "%ff"]
        )
        headers = {
            name: chance.choice(["", "a", "é", "0", "null", "x" * 300, "gzip", "chunked-ish"])
            for name in chance.sample(
                ["X-Request-Id", "Idempotency-Key", "Origin", "Content-Type", "X-API-Key", "Accept", "Expect"], k=2
            )
        }
        response = daemon.client.request(
            chance.choice(VERBS), path, headers={name: value.encode() for name, value in headers.items()}
        )
        assert response.status_code in {200, 400, 401, 403, 404, 405}, (path, headers, response.text)
        assert "X-Request-Id" in response.headers


def test_random_bytes_on_the_wire_never_end_the_daemon(daemon: Daemon) -> None:
    chance = random.Random(11)
    host, _, port = daemon.ready["http"].rpartition(":")
    good = b"POST /v1/usage/record HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    for _ in range(200):
        raw = bytearray(good if chance.random() < 0.7 else chance.randbytes(chance.randrange(1, 200)))
        for _ in range(chance.randrange(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        assert not answer.startswith(b"HTTP/1.1 5"), raw
    assert daemon.client.get("/v1/health").status_code == 200


def test_none_of_it_was_logged_as_a_failure(daemon: Daemon) -> None:
    assert " ERROR " not in daemon.log
    assert "Traceback" not in daemon.log
