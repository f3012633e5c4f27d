"""The ingest surface over real sockets: entries, the document's words for errors, keys."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from harness import Daemon

COST_FORM = "Required: amount (number), month (number), year (number)"
TOKENS_FORM = "Required: month (number), year (number), tokens_used (number)"
ENTRY_FORM = 'Required: type ("cost" or "tokens"), service (string), data (object)'


def post(daemon: Daemon, body: Any, **headers: str) -> httpx.Response:
    return daemon.client.post("/api/ingest", json=body, headers=headers)


def cost(**data: Any) -> dict[str, Any]:
    return {"type": "cost", "service": "OpenAI", "data": {"amount": 125.5, "month": 1, "year": 2026, **data}}


def tokens(**data: Any) -> dict[str, Any]:
    return {"type": "tokens", "service": "Anthropic", "data": {"month": 1, "year": 2026, "tokens_used": 9, **data}}


def test_the_endpoint_describes_itself_without_a_key(daemon: Daemon) -> None:
    about = httpx.get(f"{daemon.http_url}/api/ingest", trust_env=False).json()
    assert about["types"]["cost"]["required"] == ["amount", "month", "year"]
    assert about["types"]["tokens"]["required"] == ["month", "year", "tokens_used"]


def test_a_cost_is_stored(daemon: Daemon) -> None:
    answer = post(daemon, cost()).json()
    assert answer.pop("recordId")
    assert answer == {"success": True, "message": "Cost data ingested successfully", "duplicate": False}


def test_every_optional_field_is_kept(daemon: Daemon) -> None:
    entry = cost(
        payment_source="card",
        breakdown={"gpt-4o": 100.25, "more": [1, {"x": 2}]},
        notes="n",
        tokens_used=5,
        tokens_limit=10,
    )
    assert post(daemon, {**entry, "project": "Staging", "product": "search"}).status_code == 200
    row = daemon.query(
        "SELECT service, project, product, cost_nano, tokens, details FROM month_entry ORDER BY seq DESC"
    )
    assert row[0][:5] == ("OpenAI", "Staging", "search", 125_500_000_000, 5)
    assert '"breakdown": {"gpt-4o": 100.25, "more": [1, {"x": 2}]}' in row[0][5]


def test_defaults_are_the_documents(daemon: Daemon) -> None:
    post(daemon, {**tokens(), "service": "anthropic"})
    row = daemon.query("SELECT service, project, product, cost_nano FROM month_entry ORDER BY seq DESC")
    assert row[0] == ("Anthropic", "Production", "default", 0)


def test_numbers_may_be_floats_where_they_are_whole(daemon: Daemon) -> None:
    assert post(daemon, tokens(month=1.0, year=2026.0, tokens_used=2.5e6)).status_code == 200


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({**cost(), "data": {"month": 1, "year": 2026}}, COST_FORM, "data.amount"),
        ({**cost(), "data": {}}, COST_FORM, "data.amount"),
        (cost(amount="125.5"), COST_FORM, "data.amount"),
        (cost(month="January"), COST_FORM, "data.month"),
        (cost(year=None), COST_FORM, "data.year"),
        ({**tokens(), "data": {"month": 1, "year": 2026}}, TOKENS_FORM, "data.tokens_used"),
        ({"type": "tokens", "service": "OpenAI", "data": {}}, TOKENS_FORM, "data.month"),
        (tokens(tokens_used="9"), TOKENS_FORM, "data.tokens_used"),
        ({}, ENTRY_FORM, "type"),
        ({**cost(), "type": "coins"}, ENTRY_FORM, "type"),
        ({**cost(), "type": 5}, ENTRY_FORM, "type"),
        ({**cost(), "service": 5}, ENTRY_FORM, "service"),
        ({"type": "cost", "service": "OpenAI"}, ENTRY_FORM, "data"),
        ({**cost(), "data": []}, ENTRY_FORM, "data"),
        ({**cost(), "service": ""}, ENTRY_FORM, "service"),
    ],
)
def test_what_is_missing_is_said_in_the_documents_words(
    daemon: Daemon, body: dict[str, Any], message: str, field: str
) -> None:
    response = post(daemon, body)
    answer = response.json()
    assert (response.status_code, answer["error"], answer["message"]) == (400, "Bad request", message)
    assert answer["details"]["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (cost(month=13), "data.month"),
        (cost(month=0), "data.month"),
        (cost(month=1.5), "data.month"),
        (cost(year=1999), "data.year"),
        (cost(amount=-1), "data.amount"),
        (cost(amount=1_000_000_001), "data.amount"),
        (cost(currency="EUR"), "data.currency"),
        (cost(notes="n" * 5000), "data.notes"),
        (cost(breakdown="x"), "data.breakdown"),
        (tokens(tokens_used=-1), "data.tokens_used"),
        (tokens(cost=-1), "data.cost"),
        (tokens(input_tokens="x"), "data.input_tokens"),
        (tokens(billing_start_date="01/02/2026"), "data.billing_start_date"),
    ],
)
def test_a_wrong_value_is_named(daemon: Daemon, body: dict[str, Any], field: str) -> None:
    before = daemon.query("SELECT count(*) FROM month_entry")
    response = post(daemon, body)
    assert (response.status_code, response.json()["details"]["field"]) == (400, field), response.text
    assert daemon.query("SELECT count(*) FROM month_entry") == before


def test_a_breakdown_nested_beyond_reason_is_refused(daemon: Daemon) -> None:
    deep: Any = 1
    for _ in range(50):
        deep = {"x": deep}
    assert post(daemon, cost(breakdown=deep)).json()["details"]["field"] == "data.breakdown"


def test_an_entry_counts_once_under_its_idempotency_key(daemon: Daemon) -> None:
    key = {"Idempotency-Key": "entry-1"}
    first = post(daemon, cost(), **key).json()
    again = post(daemon, cost(), **key).json()
    other = post(daemon, cost(amount=1), **key)
    assert again == {**first, "duplicate": True}
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")


def test_an_admin_makes_keys_that_work_at_once(daemon: Daemon) -> None:
    answer = daemon.client.post("/api/ingest/generate-key", json={"keyName": "ci", "description": "builds"}).json()
    assert set(answer) == {"success", "message", "keyName", "apiKey", "instructions"}
    assert answer["keyName"] == "ci"
    headers = {"Authorization": f"Bearer {answer['apiKey']}"}
    assert post(daemon, cost(), **headers).status_code == 200
    refused = daemon.client.post("/api/ingest/generate-key", json={"keyName": "more"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "AUTHORIZATION_ERROR")


@pytest.mark.parametrize("body", [{}, {"keyName": ""}, {"keyName": 5}, {"keyName": "k" * 300}])
def test_a_key_needs_a_name(daemon: Daemon, body: dict[str, Any]) -> None:
    response = daemon.client.post("/api/ingest/generate-key", json=body)
    assert (response.status_code, response.json()["details"]["field"]) == (400, "keyName")
