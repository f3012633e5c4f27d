"""`/api/prices`: prices are made, read, replaced and removed, exactly, and by those who may."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from harness import Daemon, costd

ALWAYS = {"from": "always"}


def ask(daemon: Daemon, method: str, path: str, status: int = 200, key: str = "", **options: Any) -> Any:
    """The data of an answer, or the whole of a refusal; numbers as they were written."""
    headers = {"Authorization": f"Bearer {key}"} if key else None
    response = daemon.client.request(method, path, headers=headers, **options)
    assert response.status_code == status, response.text
    body = json.loads(response.text, parse_float=Decimal)
    return body["data"] if status == 200 else body


def cost(daemon: Daemon, model: str, units: dict[str, Any], **fields: Any) -> Decimal | None:
    """What a record costs."""
    body = {"user_external_id": "u", "source_app": "prices", "model": model, "units": units, **fields}
    answer = daemon.client.post("/v1/usage/record", json=body)
    assert answer.status_code == 200, answer.text
    said = json.loads(answer.text, parse_float=Decimal)["cost_usd"]
    return None if said is None else Decimal(said)


def test_a_price_is_made_read_replaced_and_removed(daemon: Daemon) -> None:
    """Each change is in force for the very next record, and the history is kept."""
    body = {"model": "Crud-1", "usd_per_mtok": {"input_tokens": 2}, "note": "first"}
    made = ask(daemon, "POST", "/api/prices", json=body)
    price = made["price"]
    assert (made["new"], made["from_chosen"], made["before"]) == (True, True, None)
    assert (price["model"], price["from"], price["until"], price["provider"], price["org"]) == (
        "crud-1", "always", None, None, None,
    )  # fmt: skip
    assert price["created_by_name"] == "admin"
    assert cost(daemon, "crud-1", {"input_tokens": 1_000_000}) == 2
    assert ask(daemon, "GET", f"/api/prices/{price['id']}") == price
    assert ask(daemon, "GET", "/api/prices", params={"model": "crud-1"})["prices"] == [price]

    other = ask(daemon, "PUT", f"/api/prices/{price['id']}", json=body | {"usd_per_mtok": {"input_tokens": 3}})
    assert other["id"] != price["id"]
    assert other["from"] == "always"
    assert cost(daemon, "crud-1", {"input_tokens": 1_000_000}) == 3
    old = ask(daemon, "GET", f"/api/prices/{price['id']}")
    assert old["removed"] is not None
    assert old["removed_by_name"] == "admin"
    assert {key: old[key] for key in body} == {key: price[key] for key in body}
    ask(daemon, "PUT", f"/api/prices/{price['id']}", 404, json=body)

    gone = ask(daemon, "DELETE", f"/api/prices/{other['id']}")
    assert gone["removed"] is not None
    assert cost(daemon, "crud-1", {"input_tokens": 1}) is None
    ask(daemon, "DELETE", f"/api/prices/{other['id']}", 404)
    assert ask(daemon, "GET", "/api/prices", params={"model": "crud-1"})["prices"] == []
    history = ask(daemon, "GET", "/api/prices", params={"model": "crud-1", "removed": "true"})["prices"]
    assert [held["id"] for held in history] == [other["id"], price["id"]]


def test_what_was_read_can_be_sent_again(daemon: Daemon) -> None:
    """A price as it is answered is a body that says the same, and changes nothing."""
    body = {
        "model": "again",
        "provider": "OpenAI",
        "org": "default",
        "when": {"processing": "batch"},
        "usd_per_mtok": {"input_tokens": {"base": 1.25, "above": {"200000": 2.5}}, "output_tokens": 10},
        "usd_each": {"images": 0.04, "chars": 0.00003},
        "multiplier": 0.85,
        "from": "2026-11-01",
        "until": 1_893_456_000,
        "note": "contract 17",
    }
    made = ask(daemon, "POST", "/api/prices", json=body)
    price = made["price"]
    assert price["usd_per_mtok"]["input_tokens"] == {"base": Decimal("1.25"), "above": {"200000": Decimal("2.5")}}
    assert price["usd_each"] == {"images": Decimal("0.04"), "input_characters": Decimal("0.00003")}
    assert (price["provider"], price["org"], price["multiplier"]) == ("openai", "default", Decimal("0.85"))
    assert (price["from"], price["until"]) == ("2026-11-01T00:00:00.000Z", "2030-01-01T00:00:00.000Z")
    again = ask(daemon, "POST", "/api/prices", content=json.dumps(price, default=float))
    assert again["new"] is False
    assert again["price"] == price


@pytest.mark.parametrize(
    "text", ["0.1", "3e-05", "0.000000000000000000000000000001", "123456.789012345678901234567890", "1e6", "0", "2.50"]
)
def test_numbers_are_taken_as_they_are_written(daemon: Daemon, text: str) -> None:
    """No float comes between."""
    content = f'{{"model": "exact", "usd_each": {{"images": {text}}}, "from": "always"}}'
    made = ask(daemon, "POST", "/api/prices", content=content)
    assert Decimal(made["price"]["usd_each"]["images"]) == Decimal(text)
    assert Decimal(made["after"]["rates"][0]["usd_each"]) == Decimal(text)


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "usd_per_mtok"),
    ({"model": ""}, "model"),
    ({"model": "a*b"}, "model"),
    ({"usd_per_mtok": {"input_tokens": -1}}, "usd_per_mtok.input_tokens"),
    ({"usd_per_mtok": {"input_tokens": "free"}}, "usd_per_mtok.input_tokens"),
    ({"usd_per_mtok": {"input_tokens": True}}, "usd_per_mtok.input_tokens"),
    ({"usd_per_mtok": {"input_tokens": 1e13}}, "usd_per_mtok.input_tokens"),
    ({"usd_per_mtok": {"cache_read_tokens": 1}}, "usd_per_mtok"),
    ({"usd_per_mtok": {"input_tokens": {"above": {"5": 1}}}}, "usd_per_mtok.input_tokens.base"),
    ({"usd_per_mtok": {"input_tokens": {"base": 1, "above": {"-5": 1}}}}, "usd_per_mtok.input_tokens.above.-5"),
    ({"usd_per_mtok": {"input_tokens": {"base": 1, "above": {"5": -1}}}}, "usd_per_mtok.input_tokens.above.5"),
    ({"usd_per_mtok": {"input_tokens": {"base": 1, "over": {}}}}, "usd_per_mtok.input_tokens.over"),
    ({"usd_each": {"Images": 1}}, "usd_each.Images"),
    ({"usd_each": {"chars": 1, "input_characters": 1}}, "usd_each.input_characters"),
    ({"usd_each": [1]}, "usd_each"),
    ({"multiplier": -1}, "multiplier"),
    ({"multiplier": 1001}, "multiplier"),
    ({"multiplier": 1, "free": True}, "free"),
    ({"free": "yes"}, "free"),
    ({"free": True, "from": "soon"}, "from"),
    ({"free": True, "from": "2026-02-30"}, "from"),
    ({"free": True, "from": "1999-12-31"}, "from"),
    ({"free": True, "until": "always"}, "until"),
    ({"free": True, "from": "2026-11-02", "until": "2026-11-01"}, "until"),
    ({"free": True, "until": "2001-01-01"}, "until"),
    ({"free": True, "when": {"processing": 1}}, "when"),
    ({"free": True, "when": {"processing": ""}}, "when"),
    ({"free": True, "org": "nobody's"}, "org"),
    ({"free": True, "note": "n" * 257}, "note"),
]


@pytest.mark.parametrize(("fields", "field"), BAD)
def test_what_makes_no_sense_is_refused_by_its_field(daemon: Daemon, fields: dict[str, Any], field: str) -> None:
    before = ask(daemon, "GET", "/api/prices", params={"removed": "true"})
    # A model without a price takes any moment; "until" in the past needs one that has.
    error = ask(daemon, "POST", "/api/prices", 400, json={"model": "gpt-4o" if "until" in fields else "bad"} | fields)
    assert error["details"]["field"].partition("[")[0] == field
    assert ask(daemon, "GET", "/api/prices", params={"removed": "true"}) == before


def test_only_an_admin_changes_prices(daemon: Daemon) -> None:
    """Who reads may look; who ingests may not even do that; a revoked key nothing."""
    body = {"model": "roles", "free": True}
    made = ask(daemon, "POST", "/api/prices", json=body)["price"]
    one = f"/api/prices/{made['id']}"
    reader, sender, gone = (daemon.key(f"p-{role}", role=role) for role in ("read", "ingest", "admin"))
    costd("keys", "revoke", "p-admin", "--data-dir", str(daemon.data_dir))
    for key, status in ((reader, 403), (sender, 403), (gone, 401)):
        ask(daemon, "POST", "/api/prices", status, key, json=body)
        ask(daemon, "PUT", one, status, key, json=body)
        ask(daemon, "DELETE", one, status, key)
    for path in ("/api/prices", one, "/api/prices/match?model=gpt-4o"):
        ask(daemon, "GET", path, 200, reader)
        ask(daemon, "GET", path, 403, sender)
        ask(daemon, "GET", path, 401, gone)
    assert ask(daemon, "GET", one)["removed"] is None


def test_match_says_what_a_model_costs_and_why(daemon: Daemon) -> None:
    body = {"model": "o4-mini", "usd_per_mtok": {"output_tokens": 4}, "multiplier": 0.5, "from": "2026-11-01"}
    mine = ask(daemon, "POST", "/api/prices", json=body)["price"]["id"]
    asked = {"model": "O4-mini", "at": "2026-11-02"}
    found = ask(daemon, "GET", "/api/prices/match", params=asked)
    rates = {rate["unit"]: rate for rate in found["rates"]}
    assert (found["provider"], found["model"], found["at"]) == ("openai", "o4-mini", "2026-11-02T00:00:00.000Z")
    assert found["since"] == "2026-11-01T00:00:00.000Z"
    assert found["prices"] == [mine]
    out, in_ = rates["output_tokens"], rates["input_tokens"]
    assert (out["source"], out["source_id"], out["scaled_by"], out["usd_per_mtok"]) == ("price", mine, [], 4)
    assert (in_["source"], in_["scaled_by"], in_["per"]) == ("list", [mine], 1_000_000)
    before = ask(daemon, "GET", "/api/prices/match", params=asked | {"at": "2026-10-31"})
    plain = {rate["unit"]: rate for rate in before["rates"]}
    assert in_["usd"] * 2 == plain["input_tokens"]["usd"]
    assert before["prices"] == []
    assert before["until"] == "2026-11-01T00:00:00.000Z"
    batch = ask(daemon, "GET", "/api/prices/match", params=asked | {"when": "processing=batch", "provider": "openai"})
    assert batch["when"] == {"processing": "batch"}
    assert ask(daemon, "GET", "/api/prices/match", 404, params={"model": "unheard-of"})["code"] == "NOT_FOUND"
    assert ask(daemon, "GET", "/api/prices/match", 400)["details"]["field"] == "model"
    assert ask(daemon, "GET", "/api/prices/match", 400, params=asked | {"when": "x"})["details"]["field"] == "when"
    assert ask(daemon, "GET", "/api/prices/match", 400, params=asked | {"org": "x"})["details"]["field"] == "org"


def test_an_id_may_be_shortened_while_it_is_clear(daemon: Daemon) -> None:
    first, second = (ask(daemon, "POST", "/api/prices", json={"model": f"short-{n}", "free": True}) for n in (1, 2))
    ids = [made["price"]["id"] for made in (first, second)]
    assert ask(daemon, "GET", f"/api/prices/{ids[0][:-1]}")["id"] == ids[0]
    assert ask(daemon, "GET", "/api/prices/0", 400)["details"]["field"] == "id"
    ask(daemon, "GET", "/api/prices/x", 404)
    ask(daemon, "GET", "/api/prices/%00", 400)
