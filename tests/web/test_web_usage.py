"""The preflight/record surface over real sockets: shapes, prices, ids, and errors that name their field."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx
import pytest

from harness import Daemon

RECORD = {
    "user_external_id": "ann",
    "source_app": "shop",
    "model": "gpt-4o",
    "provider": "openai",
    "units": {"input_tokens": 1000, "output_tokens": 100},
    "status": "success",
}
PREFLIGHT = {
    "user_external_id": "ann",
    "source_app": "shop",
    "model": "gpt-4o",
    "estimated_units": {"input_tokens": 1000, "output_tokens": 100},
}


def record(daemon: Daemon, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    return daemon.client.post("/v1/usage/record", json={**RECORD, **changes}, headers=headers or {})


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


def test_health_is_the_documents_own_two_fields(daemon: Daemon) -> None:
    for path in ("/v1/health", "/cost-tracker/v1/health"):
        response = httpx.get(daemon.http_url + path, trust_env=False)
        assert (response.status_code, response.json()) == (200, {"status": "ok", "db": "ok"})


def test_a_preflight_is_priced_and_allowed(daemon: Daemon) -> None:
    answer = daemon.client.post("/v1/preflight", json=PREFLIGHT).json()
    assert uuid.UUID(answer.pop("request_id")).version == 7
    assert answer == {
        "allow": True,
        "estimated_cost_usd": 0.0035,
        "deny_reason": None,
        "budget": None,
        "warnings": [],
    }


def test_an_unknown_model_is_allowed_with_a_warning(daemon: Daemon) -> None:
    answer = daemon.client.post("/v1/preflight", json={**PREFLIGHT, "model": "no-such-model-1"}).json()
    assert (answer["allow"], answer["estimated_cost_usd"], len(answer["warnings"])) == (True, None, 1)


def test_a_preflights_id_is_the_callers_own_if_it_has_one(daemon: Daemon) -> None:
    named = daemon.client.post("/v1/preflight", json={**PREFLIGHT, "request_id": "mine-1"})
    keyed = daemon.client.post("/v1/preflight", json=PREFLIGHT, headers={"Idempotency-Key": "mine-2"})
    assert (named.json()["request_id"], keyed.json()["request_id"]) == ("mine-1", "mine-2")


def test_a_record_is_stored_and_priced_exactly(daemon: Daemon) -> None:
    response = record(daemon)
    answer = response.json()
    assert response.status_code == 200, response.text
    uuid.UUID(answer.pop("event_id"))
    assert answer == {"cost_usd": 0.0035, "request_id": None, "duplicate": False, "warnings": []}


def test_money_has_no_exponent_and_loses_no_digit(daemon: Daemon) -> None:
    response = daemon.client.post(
        "/v1/usage/record",
        content=b'{"user_external_id":"u","source_app":"a","model":"m","units":{},"cost_usd":0.000000001}',
    )
    assert b'"cost_usd":0.000000001,' in response.content
    response = daemon.client.post(
        "/v1/usage/record",
        content=b'{"user_external_id":"u","source_app":"a","model":"m","units":{},"cost_usd":999999.123456789}',
    )
    assert b'"cost_usd":999999.123456789,' in response.content


def test_an_unpriced_record_is_kept_with_a_null_cost(daemon: Daemon) -> None:
    answer = record(daemon, model="no-such-model-2").json()
    assert answer["cost_usd"] is None
    assert answer["warnings"]


def test_the_same_id_and_content_gets_the_first_answer_again(daemon: Daemon) -> None:
    first = record(daemon, request_id="again-1").json()
    again = record(daemon, request_id="again-1").json()
    assert again == {**first, "duplicate": True}


def test_the_same_id_with_other_content_conflicts_and_records_nothing(daemon: Daemon) -> None:
    record(daemon, request_id="again-2")
    before = daemon.query("SELECT count(*) FROM event")
    response = record(daemon, request_id="again-2", units={"input_tokens": 1})
    assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")
    assert daemon.query("SELECT count(*) FROM event") == before


def test_the_idempotency_key_is_the_id_where_the_body_has_none(daemon: Daemon) -> None:
    first = record(daemon, {"Idempotency-Key": "key-1"}, request_id="").json()
    again = record(daemon, request_id="key-1").json()
    assert (first["request_id"], again["duplicate"], again["event_id"]) == ("key-1", True, first["event_id"])
    same = record(daemon, {"Idempotency-Key": "key-1"}, request_id="key-1")
    assert same.json()["duplicate"] is True
    both = record(daemon, {"Idempotency-Key": "key-2"}, request_id="key-1")
    assert (both.status_code, both.json()["details"]["field"]) == (400, "Idempotency-Key")


def test_null_is_the_same_as_absent(daemon: Daemon) -> None:
    optional = (
        "project_external_id",
        "job_external_id",
        "provider",
        "team",
        "prompt_key",
        "prompt_version",
        "feature_tags",
        "request_id",
        "latency_ms",
        "timestamp",
        "cost_usd",
        "price_context",
        "service_tier",
    )
    response = record(daemon, units={"input_tokens": 5, "output_tokens": None}, **dict.fromkeys(optional))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "timestamp",
    [
        lambda now: now,
        int,
        lambda now: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        lambda now: time.strftime("%Y-%m-%dT%H:%M:%S.123+00:00", time.gmtime(now)),
        lambda now: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)),
    ],
    ids=["float", "int", "Z", "offset", "naive"],
)
def test_timestamps_are_rfc_3339_or_unix_seconds(daemon: Daemon, timestamp: Any) -> None:
    at_s = time.time() - 3 * 86400
    event_id = record(daemon, timestamp=timestamp(at_s), model="timed-model").json()["event_id"]
    row = daemon.query("SELECT at_ms FROM event ORDER BY seq DESC LIMIT 1")
    assert abs(row[0][0] - at_s * 1000) < 1001, event_id


def test_the_providers_own_usage_object_is_converted(daemon: Daemon) -> None:
    body = {**without(RECORD, "units"), "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
    answer = daemon.client.post("/v1/usage/record", json=body).json()
    assert answer["cost_usd"] == 0.0035


def test_a_batch_tier_is_cheaper(daemon: Daemon) -> None:
    assert record(daemon, service_tier="batch").json()["cost_usd"] == 0.00175
    assert record(daemon, price_context={"processing": "batch"}).json()["cost_usd"] == 0.00175


def test_characters_are_a_unit_too(daemon: Daemon) -> None:
    response = record(daemon, model="eleven_multilingual_v2", provider=None, units={"chars": 1200})
    assert response.status_code == 200, response.text


WRONG = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 4}, "model"),
    ({"model": "m" * 257}, "model"),
    ({"model": "a\nb"}, "model"),
    ({"user_external_id": None}, "user_external_id"),
    ({"user_external_id": "a\x00"}, "user_external_id"),
    ({"source_app": None}, "source_app"),
    ({"project_external_id": "p" * 300}, "project_external_id"),
    ({"job_external_id": "\x1b"}, "job_external_id"),
    ({"units": None}, "units"),
    ({"units": []}, "units"),
    ({"units": {"input_tokens": -1}}, "units.input_tokens"),
    ({"units": {"input_tokens": 1.5}}, "units.input_tokens"),
    ({"units": {"input_tokens": "1"}}, "units.input_tokens"),
    ({"units": {"input_tokens": True}}, "units.input_tokens"),
    ({"units": {"input_tokens": 10**13}}, "units.input_tokens"),
    ({"units": {"input_tokens": 10**400}}, "units.input_tokens"),
    ({"units": {"input_tokens": float("nan")}}, "units.input_tokens"),
    ({"units": {"input_tokens": float("inf")}}, "units.input_tokens"),
    ({"units": {"input_tokens": 5, "cache_read_tokens": 6}}, "units.cache_read_tokens"),
    ({"units": {"Bad Name": 1}}, "units.Bad Name"),
    ({"usage": {"prompt_tokens": 1}}, "usage"),
    ({"units": None, "usage": {"prompt_tokens": "1"}}, "usage.prompt_tokens"),
    ({"units": None, "usage": {"prompt_tokens": 1}, "provider": None}, "provider"),
    ({"latency_ms": -1}, "latency_ms"),
    ({"latency_ms": "fast"}, "latency_ms"),
    ({"status": 200}, "status"),
    ({"timestamp": "yesterday"}, "timestamp"),
    ({"timestamp": "2020-01-01T00:00:00Z"}, "timestamp"),
    ({"timestamp": 1_763_800_000_000}, "timestamp"),
    ({"timestamp": True}, "timestamp"),
    ({"cost_usd": "1"}, "cost_usd"),
    ({"cost_usd": -0.01}, "cost_usd"),
    ({"cost_usd": 1_000_001}, "cost_usd"),
    ({"cost_usd": 1, "currency": "EUR"}, "currency"),
    ({"feature_tags": "a"}, "feature_tags"),
    ({"feature_tags": ["a,b"]}, "feature_tags"),
    ({"feature_tags": ["a"] * 33}, "feature_tags"),
    ({"price_context": {"tier": 1}}, "price_context"),
    ({"request_id": "r" * 257}, "request_id"),
]


@pytest.mark.parametrize(
    ("changes", "field"), WRONG, ids=[f"{field}-{index}" for index, (_, field) in enumerate(WRONG)]
)
def test_a_wrong_field_is_named_and_nothing_is_recorded(daemon: Daemon, changes: dict[str, Any], field: str) -> None:
    before = daemon.query("SELECT count(*) FROM event")
    response = daemon.client.post("/v1/usage/record", content=json.dumps({**RECORD, **changes}))
    body = response.json()
    assert response.status_code == 400, response.text
    assert body["details"]["field"] == field
    assert field in body["message"]
    assert (body["success"], body["error"], body["code"]) == (False, "Bad request", "VALIDATION_ERROR")
    assert daemon.query("SELECT count(*) FROM event") == before


@pytest.mark.parametrize("name", ["user_external_id", "model", "estimated_units"])
def test_a_preflight_names_what_it_lacks(daemon: Daemon, name: str) -> None:
    body = daemon.client.post("/v1/preflight", json=without(PREFLIGHT, name)).json()
    assert body["details"] == {"field": name, "reason": "is required"}


def test_a_preflights_units_are_named_as_it_sent_them(daemon: Daemon) -> None:
    for units in ({"output_tokens": -5}, {"output_tokens": "5"}):
        body = daemon.client.post("/v1/preflight", json={**PREFLIGHT, "estimated_units": units}).json()
        assert body["details"]["field"] == "estimated_units.output_tokens"


def test_users_and_projects_are_stored_and_updated(daemon: Daemon) -> None:
    user = daemon.client.post(
        "/v1/users/upsert", json={"external_id": "u1", "source_app": "shop", "email": "ann@example.org"}
    ).json()
    assert {**user, "created_at": "", "updated_at": ""} == {
        "external_id": "u1",
        "source_app": "shop",
        "email": "ann@example.org",
        "full_name": None,
        "created_at": "",
        "updated_at": "",
    }
    again = daemon.client.post(
        "/v1/users/upsert", json={"external_id": "u1", "source_app": "shop", "full_name": "Ann"}
    ).json()
    assert (again["email"], again["full_name"], again["created_at"]) == ("ann@example.org", "Ann", user["created_at"])
    project = daemon.client.post(
        "/v1/projects/upsert",
        json={"external_id": "p1", "source_app": "shop", "name": "Checkout", "workspace_id": "w1"},
    ).json()
    assert (project["name"], project["workspace_id"], project["team_id"], project["registered"]) == (
        "Checkout",
        "w1",
        None,
        True,
    )


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/users/upsert", {"source_app": "shop"}, "external_id"),
        ("/v1/users/upsert", {"external_id": "", "source_app": "shop"}, "external_id"),
        ("/v1/users/upsert", {"external_id": "u"}, "source_app"),
        ("/v1/users/upsert", {"external_id": "u", "source_app": "shop", "email": 5}, "email"),
        ("/v1/projects/upsert", {"external_id": "p", "source_app": "shop"}, "name"),
    ],
)
def test_an_upsert_names_what_is_wrong(daemon: Daemon, path: str, body: dict[str, Any], field: str) -> None:
    response = daemon.client.post(path, json=body)
    assert (response.status_code, response.json()["details"]["field"]) == (400, field)


def test_the_alias_answers_like_the_path_itself(daemon: Daemon) -> None:
    response = daemon.client.post("/cost-tracker/v1/usage/record", json={**RECORD, "request_id": "alias-1"})
    again = daemon.client.post("/v1/usage/record", json={**RECORD, "request_id": "alias-1"})
    assert again.json() == {**response.json(), "duplicate": True}
    wrong = daemon.client.post("/cost-tracker/v1/usage/record", json={})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "Bad request")
