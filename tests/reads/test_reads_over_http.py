"""Every report of a real daemon, over HTTP and gRPC, against a brute-force sum of what its database holds."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import httpx
import pytest

import harness
from callers import stubs
from costd.domain.spend import Spend
from costd.v1 import query_pb2
from harness import Daemon
from reads import brute
from reads.brute import HOUR_MS, Record
from rpc_calls import details_of, refusal_of

DAY_S = 86_400
ZONES = ("UTC", "America/New_York", "Asia/Kolkata")
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("", "nobodys-model"), ("acme", "acme-1"))
RECORDS = 400


def bodies(chance: random.Random) -> list[dict[str, Any]]:
    """Records of the last 34 days; some without a price, a team, tags or a prompt, some failed."""
    made = []
    for number in range(RECORDS):
        provider, model = chance.choice(MODELS)
        made.append(
            {
                "request_id": f"r-{number}",
                "user_external_id": "u",
                "source_app": "shop",
                "provider": provider,
                "model": model,
                "units": {"input_tokens": chance.randrange(1, 9000), "output_tokens": chance.randrange(900)},
                "timestamp": time.time() - chance.randrange(34 * DAY_S),
                "status": chance.choice(["success", "success", "error", "429"]),
                "latency_ms": chance.randrange(5000),
                "team": chance.choice(["", "search"]),
                "project_external_id": chance.choice(["", "indexer"]),
                "feature_tags": chance.choice([[], ["a"], ["a", "b"], ["b", "c"]]),
                "prompt_key": chance.choice(["", "summarize", "classify"]),
            }
        )
    return made


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a month of records by two keys, and month entries of this month and the last."""
    daemon = harness.start(tmp_path_factory.mktemp("reads") / "data")
    other = {"Authorization": f"Bearer {daemon.key('nightly', team='search', role='ingest')}"}
    project = {"external_id": "indexer", "source_app": "shop", "name": "Indexer", "team_id": "platform"}
    assert daemon.client.post("/v1/projects/upsert", json=project).status_code == 200
    sent = bodies(random.Random(4))
    mine = [body for body in sent if body["team"] == "" or body["project_external_id"] == ""]
    theirs = [body | {"team": "search"} for body in sent if body not in mine]
    for records, headers in ((mine, {}), (theirs, other)):
        answer = daemon.client.post("/v1/usage/records", json=records, headers=headers).json()
        assert answer["recorded"] == len(records) > 50, answer
    today = datetime.now(UTC).date()
    last_month = today.replace(day=1) - timedelta(days=1)
    for day, service, amount in ((today, "OpenAI", 12.5), (today, "Vercel", 20), (last_month, "OpenAI", 7.25)):
        entry = {"service": service, "amount": amount, "month": day.month, "year": day.year}
        assert daemon.client.post("/api/costs/manual", json=entry).status_code == 200
    yield daemon
    assert daemon.stop() == 0, daemon.log


@pytest.fixture(scope="module")
def held(ledger: Daemon) -> list[Record]:
    return brute.records(ledger.database)


def get(daemon: Daemon, path: str, **query: Any) -> Any:
    """What a report answers: numbers with a fraction as Decimal, so that nothing is rounded on the way."""
    response = daemon.client.get(path, params=query)
    assert response.status_code == 200, response.text
    return _exact(response)


def _exact(response: httpx.Response) -> Any:
    answer = json.loads(response.text, parse_float=Decimal)
    return answer.get("data", answer)


def usd(spend: Spend) -> Decimal | None:
    return None if spend.shown_cost_nano is None else Decimal(spend.shown_cost_nano) / 10**9


def cents(spend: Spend) -> Decimal | None:
    return None if spend.shown_cost_nano is None else Decimal(spend.shown_cost_nano) / 10**7


def today(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def within(held: list[Record], first: date, last: date, zone: str) -> list[Record]:
    return [one for one in held if first <= one.day(ZoneInfo(zone)) <= last]


def test_there_is_something_of_everything(held: list[Record]) -> None:
    assert len(held) == RECORDS
    assert {one.provider for one in held} == {"openai", "anthropic", "acme", ""}
    assert {one.team for one in held} == {"", "search", "platform"}
    assert len({one.key_id for one in held}) == 2
    assert any(one.cost_nano is None for one in held)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("provider", ["", "OpenAI", "unknown"])
def test_timeseries(ledger: Daemon, held: list[Record], zone: str, provider: str) -> None:
    last = today(zone)
    first = last - timedelta(days=33)
    found = get(ledger, "/api/tokens/timeseries", startDate=first, endDate=last, timezone=zone, provider=provider)
    mine = within(held, first, last, zone)
    mine = [one for one in mine if not provider or (one.provider or "unknown") == provider.lower()]
    by_day = brute.grouped(mine, lambda one: one.day(ZoneInfo(zone)))
    assert [point["date"] for point in found["series"]] == [
        (first + timedelta(days=number)).isoformat() for number in range(34)
    ]
    for point in found["series"]:
        spend = by_day.get(date.fromisoformat(point["date"]), Spend())
        assert (point["totalTokens"], point["cost"], point["requests"], point["unpriced"]) == (
            spend.tokens,
            usd(spend),
            spend.requests,
            spend.unpriced,
        )
    whole, parts = brute.total(mine), found["aggregations"]
    assert (parts["usage"]["totalCost"], parts["usage"]["requests"]) == (usd(whole), whole.requests)
    entries = {"": (3, Decimal("39.75")), "OpenAI": (2, Decimal("19.75")), "unknown": (0, 0)}[provider]
    assert (parts["entries"]["entries"], parts["entries"]["cost"]) == entries
    together = (usd(whole) or 0) + entries[1] if entries[0] else usd(whole)
    assert (parts["totalCost"], parts["totalTokens"]) == (together, whole.tokens)
    assert (found["timezone"], found["exact"]) == (zone, True)


@pytest.mark.parametrize("zone", ZONES)
def test_tokens_and_costs_in_a_zone(ledger: Daemon, held: list[Record], zone: str) -> None:
    first = today(zone).replace(day=1)
    mine = within(held, first, today(zone), zone)
    rows = [row for row in get(ledger, "/api/tokens", timezone=zone)["tokens"] if row["source"] == "usage"]
    expected = brute.grouped(mine, lambda one: (one.provider or "unknown", one.model))
    assert {(row["provider"], row["model"]): (row["cost"], row["totalTokens"]) for row in rows} == {
        names: (usd(spend), spend.tokens) for names, spend in expected.items()
    }
    everything = get(ledger, "/api/costs/all", timezone=zone)
    by_provider = brute.grouped(mine, lambda one: one.provider or "unknown")
    assert everything["usage"]["requests"] == len(mine)
    assert everything["byProvider"].get("acme") == (usd(by_provider["acme"]) if "acme" in by_provider else None)
    assert everything["total"] == (usd(brute.total(mine)) or 0) + Decimal("32.5")
    for provider, spend in by_provider.items():
        found = get(ledger, f"/api/costs/{provider}", timezone=zone)
        assert (found["usage"]["cost"], found["usage"]["unpriced"]) == (usd(spend), spend.unpriced)
        assert (found["timezone"], found["exact"]) == (zone, True)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("provider", ["", "anthropic", "acme"])
def test_stats(ledger: Daemon, held: list[Record], zone: str, provider: str) -> None:
    found = get(ledger, "/api/tokens/stats", timezone=zone, provider=provider)
    mine = within(held, today(zone).replace(day=1), today(zone), zone)
    spend = brute.total(one for one in mine if not provider or one.provider == provider)
    usage, entries = found["usage"], 0 if provider else Decimal("32.5")
    assert (usage["totalTokens"], usage["totalCost"], usage["requests"]) == (spend.tokens, usd(spend), spend.requests)
    assert found["entries"]["cost"] == entries
    used = (usd(spend) or 0) + entries if entries else usd(spend)
    assert found["budget"] == {"limit": None, "used": used, "remaining": None}
    assert found["projections"]["trend"] in {"increasing", "decreasing", "stable"}
    end = found["projections"]["endOfMonth"]
    assert (end is None) == (provider == "acme") or end >= used


@pytest.mark.parametrize("hours", [1, 24, 24 * 20])
def test_burn_rate_on_both_doors(ledger: Daemon, held: list[Record], hours: int) -> None:
    found = get(ledger, "/api/tokens/burn-rate", hours=hours)
    since_ms = int(datetime.fromisoformat(found["since"]).timestamp() * 1000)
    assert abs(time.time() * 1000 - since_ms - hours * HOUR_MS) < 60_000
    mine = [one for one in held if one.at_ms >= since_ms]
    spend = brute.total(mine)
    burn = found["burnRate"]
    assert (burn["tokens"], burn["requests"], burn["cost"]) == (spend.tokens, spend.requests, usd(spend))
    assert float(burn["tokensPerHour"]) == pytest.approx(spend.tokens / hours, abs=1e-6)
    assert float(burn["tokensPerDay"]) == pytest.approx(spend.tokens / hours * 24, abs=1e-5)
    if (cost := usd(spend)) is not None:
        assert abs(burn["costPerHour"] - cost / hours) <= Decimal("5e-10")
        assert abs(burn["costPerDay"] - cost / hours * 24) <= Decimal("5e-10")
    by_service = brute.grouped(mine, lambda one: one.provider or "unknown")
    assert {name: each["cost"] for name, each in found["byService"].items()} == {
        name: usd(each) for name, each in by_service.items()
    }
    with stubs(ledger) as services:
        answer = services.query.BurnRate(query_pb2.BurnRateRequest(hours=hours), metadata=services.metadata)
    mine = [one for one in held if one.at_ms >= answer.since_ms]
    assert (answer.hours, answer.total.requests, answer.exact) == (hours, len(mine), True)
    assert answer.total.tokens_per_hour == pytest.approx(brute.total(mine).tokens / hours)
    for each in answer.providers:
        own = brute.total(one for one in mine if (one.provider or "unknown") == each.provider)
        assert (Decimal(each.cost_usd) if each.HasField("cost_usd") else None) == usd(own)
        assert each.HasField("cost_usd_per_hour") == each.HasField("cost_usd")
        assert each.unpriced == own.unpriced


def test_burn_rate_of_one_service(ledger: Daemon, held: list[Record]) -> None:
    found = get(ledger, "/api/tokens/burn-rate", hours=24 * 36, service="Anthropic")
    mine = [one for one in held if one.provider == "anthropic"]
    assert (found["burnRate"]["requests"], list(found["byService"])) == (len(mine), ["anthropic"])


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("provider", ["", "openai"])
def test_aggregations(ledger: Daemon, held: list[Record], zone: str, provider: str) -> None:
    first, last = today(zone) - timedelta(days=20), today(zone) - timedelta(days=2)
    query = {"start": first.isoformat(), "end": last.isoformat(), "timezone": zone, "provider": provider}
    mine = [one for one in within(held, first, last, zone) if not provider or one.provider == provider]
    frame = {"period": {"start": query["start"], "end": query["end"]}, "timezone": zone, "exact": True}

    def rows(name: str, field: str, key: str) -> dict[str, Any]:
        found = get(ledger, f"/api/aggregations/{name}", **query)
        assert {name: found[name] for name in frame} == frame
        costs = [row["total_cost"] or 0 for row in found[field]]
        assert costs == sorted(costs, reverse=True)
        return {
            row[key]: (row["total_cost"], row["request_count"], row["total_tokens"], row["unpriced"])
            for row in found[field]
        }

    def shown(sums: dict[str, Spend]) -> dict[str, Any]:
        return {name: (usd(each), each.requests, each.tokens, each.unpriced) for name, each in sums.items()}

    assert rows("by-prompt", "prompts", "prompt_key") == shown(
        brute.grouped(mine, lambda one: one.prompt_key or "unknown")
    )
    assert rows("by-team", "teams", "team_name") == shown(brute.grouped(mine, lambda one: one.team or "unknown"))
    assert rows("by-tag", "tags", "tag") == shown(brute.by_tag(mine))
    assert rows("by-key", "keys", "key_id") == shown(brute.grouped(mine, lambda one: one.key_id))
    month = get(ledger, "/api/aggregations/monthly", **query)
    spend = brute.total(mine)
    assert month["usage"] == {"cost": usd(spend), "requests": spend.requests, "unpriced": spend.unpriced}
    assert {name: month[name] for name in frame} == frame
    assert month["total_cost"] == (usd(spend) or 0) + month["entries"]["cost"]


def test_monthly_adds_this_months_entries_by_default(ledger: Daemon, held: list[Record]) -> None:
    found = get(ledger, "/api/aggregations/monthly")
    mine = within(held, today("UTC").replace(day=1), today("UTC"), "UTC")
    assert found["entries"] == {"cost": Decimal("32.5"), "entries": 2}
    assert found["total_cost"] == (usd(brute.total(mine)) or 0) + Decimal("32.5")
    assert found["period"]["start"] == today("UTC").replace(day=1).isoformat()


def test_by_key_names_the_keys(ledger: Daemon) -> None:
    keys = get(ledger, "/api/aggregations/by-key", start="2020-01-01")["keys"]
    assert {(key["key_name"], key["team_name"]) for key in keys} == {("admin", None), ("nightly", "search")}
    assert all(key["key_prefix"].startswith("ct_live_") for key in keys)


@pytest.mark.parametrize("zone", ZONES)
def test_usage_summary(ledger: Daemon, held: list[Record], zone: str) -> None:
    first = today(zone) - timedelta(days=11)
    noon = datetime.now(UTC).replace(hour=12, minute=34, second=5, microsecond=0) - timedelta(days=4)
    for query, mine in (
        ({}, held),
        ({"from": first, "to": today(zone)}, within(held, first, today(zone), zone)),
        ({"model": "gpt-4o"}, [one for one in held if one.model == "gpt-4o"]),
        ({"to": noon.isoformat()}, [one for one in held if one.at_ms < noon.timestamp() * 1000]),
        ({"from": noon.isoformat()}, [one for one in held if one.at_ms >= noon.timestamp() * 1000]),
        ({"api_key_id": held[0].key_id}, [one for one in held if one.key_id == held[0].key_id]),
        ({"proxy_endpoint_id": "p"}, []),
        ({"model": "none such"}, []),
    ):
        found = get(ledger, "/api/usage/summary", timezone=zone, **query)
        whole = brute.total(mine)
        assert (found["totalCostCents"], found["totalRequests"]) == (cents(whole), whole.requests), query
        assert (found["totalInputTokens"], found["totalOutputTokens"]) == (whole.input_tokens, whole.output_tokens)
        for field, name, sums in (
            ("byModel", "model", brute.grouped(mine, lambda one: one.model)),
            ("byDay", "date", brute.grouped(mine, lambda one: one.day(ZoneInfo(zone)).isoformat())),
        ):
            assert {
                row[name]: (row["cost"], row["requests"], row["tokens"], row["unpriced"]) for row in found[field]
            } == {key: (cents(each), each.requests, each.tokens, each.unpriced) for key, each in sums.items()}, (
                query,
                field,
            )
        assert found["exact"] is True


def pages(daemon: Daemon, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(daemon, "/api/usage", **query, **cursor)
        found += page["items"]
        assert page["hasMore"] == (page["nextCursor"] is not None)
        if not page["hasMore"]:
            return found
        assert len(page["items"]) == query.get("limit", 20)
        cursor = {"cursor": page["nextCursor"]}


def test_usage_pages_newest_first(ledger: Daemon, held: list[Record]) -> None:
    everything = pages(ledger, limit=100)
    assert len({item["id"] for item in everything}) == RECORDS
    assert [cost_of(item) for item in everything] == [one.cost_nano for one in reversed(held)]
    assert pages(ledger, limit=7)[:50] == everything[:50]
    assert len(get(ledger, "/api/usage")["items"]) == 20
    first, last = today("Asia/Kolkata") - timedelta(days=9), today("Asia/Kolkata") - timedelta(days=3)
    mine = [one for one in within(held, first, last, "Asia/Kolkata") if one.model == "acme-1"]
    query = {"model": "acme-1", "from": first, "to": last, "timezone": "Asia/Kolkata", "limit": 3}
    assert [item["input_tokens"] for item in pages(ledger, **query)] == [one.input_tokens for one in reversed(mine)]
    by_key = pages(ledger, api_key_id=held[-1].key_id, limit=100)
    assert len(by_key) == sum(one.key_id == held[-1].key_id for one in held)
    assert get(ledger, "/api/usage", proxy_endpoint_id="p") == {"items": [], "nextCursor": None, "hasMore": False}


def cost_of(item: dict[str, Any]) -> int | None:
    return None if item["cost_cents"] is None else int(Decimal(item["cost_cents"]) * 10**7)


def test_a_record_in_full(ledger: Daemon) -> None:
    body = {
        "user_external_id": "u",
        "source_app": "shop",
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "usage": {
            "input_tokens": 100,
            "output_tokens": 20,
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 7,
        },
        "latency_ms": 812,
        "status": "529",
        "request_id": "in full",
    }
    sent = ledger.client.post("/v1/usage/record", json=body).json()
    for wanted in (sent["event_id"], "in full"):
        found = ledger.client.get(f"/api/usage/{wanted}").json()
        assert found.pop("requested_at").endswith("Z")
        assert found.pop("api_key_id")
        assert Decimal(found.pop("cost_cents")) == Decimal(str(sent["cost_usd"])) * 100
        assert found == {
            "id": sent["event_id"],
            "model": "claude-sonnet-4-5",
            "input_tokens": 137,
            "output_tokens": 20,
            "duration_ms": 812,
            "status_code": 529,
            "proxy_endpoint_id": None,
            "provider": "anthropic",
            "prompt_key": "unknown",
            "status": "529",
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 7,
            "request_body": None,
            "response_body": None,
        }
    missing = ledger.client.get("/api/usage/00000000-0000-7000-8000-000000000000")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")


def test_status(ledger: Daemon) -> None:
    found = get(ledger, "/api/status")["integrations"]
    assert set(found) == {"openai", "anthropic", "google", "acme", "unknown", "vercel"}
    assert found["google"] == {"connected": False, "lastSync": None, "status": "no_data"}
    assert (found["anthropic"]["connected"], found["vercel"]["status"]) == (True, "fresh")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/tokens/stats?timezone=Mars/Olympus", "timezone"),
        ("/api/tokens/stats?timezone=../../etc/passwd", "timezone"),
        ("/api/tokens/stats?timezone=America", "timezone"),
        ("/api/tokens/stats?timezone=right/UTC", "timezone"),
        (f"/api/tokens/stats?timezone={'A' * 65}", "timezone"),
        ("/api/tokens/stats?provider=%00", "provider"),
        ("/api/tokens/timeseries?startDate=2026-02-30", "startDate"),
        ("/api/tokens/timeseries?startDate=2026-02-02&endDate=2026-02-01", "endDate"),
        ("/api/tokens/timeseries?startDate=2020-01-01&endDate=2026-02-01", "endDate"),
        ("/api/tokens/timeseries?endDate=1999-12-31", "endDate"),
        ("/api/tokens/burn-rate?hours=0", "hours"),
        ("/api/tokens/burn-rate?hours=9999", "hours"),
        ("/api/tokens/burn-rate?hours=1.5", "hours"),
        (f"/api/tokens/burn-rate?service={'s' * 257}", "service"),
        ("/api/usage?limit=0", "limit"),
        ("/api/usage?limit=101", "limit"),
        ("/api/usage?limit=ten", "limit"),
        ("/api/usage?cursor=abc", "cursor"),
        (f"/api/usage?cursor={'9' * 30}", "cursor"),
        ("/api/usage?from=yesterday", "from"),
        ("/api/usage?from=2026-01-02&to=2026-01-01", "to"),
        ("/api/usage?to=9999-12-31T23:59:59-14:00", "to"),
        ("/api/usage?from=0001-01-01T00:00:00Z", "from"),
        ("/api/usage?model=%0a", "model"),
        ("/api/usage/summary?timezone=x", "timezone"),
        ("/api/usage/%00", "id"),
        ("/api/aggregations/monthly?start=2026-13-01", "start"),
        ("/api/aggregations/by-tag?start=2026-01-02&end=2026-01-01", "end"),
        ("/api/aggregations/by-key?end=2101-01-01", "end"),
        ("/api/tokens?timezone=nowhere", "timezone"),
        ("/api/costs/all?timezone=nowhere", "timezone"),
        ("/api/costs/openai?timezone=nowhere", "timezone"),
    ],
)
def test_a_wrong_query_is_named(ledger: Daemon, path: str, field: str) -> None:
    response = ledger.client.get(path)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (400, "VALIDATION_ERROR"), response.text
    assert answer["details"]["field"] == field


def test_an_empty_ledger_has_zeros(tmp_path: Any) -> None:
    daemon = harness.start(tmp_path / "data")
    try:
        assert get(daemon, "/api/aggregations/monthly")["total_cost"] == 0
        assert get(daemon, "/api/aggregations/by-prompt")["prompts"] == []
        assert get(daemon, "/api/usage/summary")["byDay"] == []
        assert get(daemon, "/api/tokens/burn-rate")["burnRate"]["costPerHour"] == 0
        stats = get(daemon, "/api/tokens/stats")
        assert stats["projections"] == {"endOfMonth": 0, "trend": "stable"}
        assert len(get(daemon, "/api/tokens/timeseries")["series"]) == 30
    finally:
        daemon.stop()


def test_a_burn_rate_over_grpc_names_what_is_wrong(ledger: Daemon) -> None:
    with stubs(ledger) as services:
        for request, field in (
            (query_pb2.BurnRateRequest(hours=-1), "hours"),
            (query_pb2.BurnRateRequest(hours=8785), "hours"),
            (query_pb2.BurnRateRequest(provider="p" * 257), "provider"),
        ):
            call = refusal_of(lambda request=request: services.query.BurnRate(request, metadata=services.metadata))
            assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert list(details_of(call)[0]) == [field]


def test_the_check_agrees(ledger: Daemon) -> None:
    done = harness.costd("check", "--data-dir", str(ledger.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
