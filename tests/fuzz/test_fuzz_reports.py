"""Fuzz: whatever a report is asked, it answers or names the field, and the daemon never fails."""

from __future__ import annotations

import random
from typing import Any, get_args

from costd.wire.web.table import routes
from harness import Daemon

ODD = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "1.5",
    "1e3",
    "9" * 19,
    "9" * 400,
    "NaN",
    "null",
    "é",
    "\x00",
    "\ud7ff",
    "🦉",
    "a" * 256,
    "a" * 300,
    "2026-01-01",
    "2026-11-20",
    "2026-02-30",
    "1999-12-31",
    "2100-12-31",
    "2101-01-01",
    "0001-01-01",
    "9999-12-31",
    "2026-11-20T10:30:00Z",
    "2026-11-20T10:30:00.123456789+05:30",
    "2026-11-20T10:30:00 05:30",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "1763800000",
    "UTC",
    "Asia/Kolkata",
    "America/New_York",
    "Pacific/Apia",
    "America",
    "../UTC",
    "/etc/localtime",
    "GMT+25",
    "posixrules",
    "zone.tab",
    "Factory",
    "openai",
    "unknown",
    "OpenAI",
]
REPORTS = [route for route in routes(metrics_open=True) if route.role == "read" and route.method == "GET"]


def fields(query: Any) -> list[str]:
    kind = (get_args(query) or [query])[0]
    return list(getattr(kind, "__struct_encode_fields__", ())) or ["x"]


def test_odd_queries_are_never_a_failure(daemon: Daemon) -> None:
    record = {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "units": {"input_tokens": 10}}
    assert daemon.client.post("/v1/usage/record", json=record).status_code == 200
    chance = random.Random(12)
    answered = set()
    for _ in range(1500):
        route = chance.choice(REPORTS)
        path = route.path.replace("{provider}", chance.choice(["openai", "x y", "%f0", "%00"])).replace("{id}", "x")
        names = fields(route.query)
        query = {name: chance.choice(ODD) for name in chance.sample(names, k=chance.randrange(len(names) + 1))}
        response = daemon.client.get(path, params=query)
        assert response.status_code in {200, 400, 404}, (path, query, response.text)
        if response.status_code == 200:
            answered.add(route.path)
        elif response.status_code == 400:
            named = response.json()["details"]
            assert named is None or named["field"] in {*names, "provider", "id"}, (path, query, named)
    # There is no such one.
    single = {"/api/usage/{id}", "/api/prices/{id}", "/api/prices/match", "/api/budgets/{id}"}
    single.add("/api/budgets/{id}/history")
    assert answered | single == {route.path for route in REPORTS} | single
    assert " ERROR " not in daemon.log
    assert "Traceback" not in daemon.log
