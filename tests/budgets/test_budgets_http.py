"""`/api/budgets`: budgets are made, read, replaced, changed and removed, exactly, and by those who may."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from budget_calls import GrpcDoor, Spend
from harness import Daemon, costd

SCOPE = {"scope": {"team": "video"}}


def ask(daemon: Daemon, method: str, path: str, status: int = 200, key: str = "", **options: Any) -> Any:
    """The data of an answer, or the whole of a refusal; numbers as they were written."""
    headers = {"Authorization": f"Bearer {key}"} if key else None
    response = daemon.client.request(method, path, headers=headers, **options)
    assert response.status_code == status, response.text
    body = json.loads(response.text, parse_float=Decimal)
    return body["data"] if status == 200 else body


def make(daemon: Daemon, status: int = 200, **fields: Any) -> Any:
    return ask(daemon, "POST", "/api/budgets", status, json=fields)


def names(daemon: Daemon) -> list[str]:
    return [budget["name"] for budget in ask(daemon, "GET", "/api/budgets")["budgets"]]


def test_a_budget_is_made_read_changed_replaced_and_removed(daemon: Daemon) -> None:
    """POST makes, PATCH changes what it names, PUT says everything anew, DELETE removes."""
    made = make(daemon, name="crud", scope={"team": "video", "model": "gpt-4o"}, amount_usd=100, period="week")
    assert (made["scope"], made["scope_type"], made["scope_id"]) == (
        {"team": "video", "model": "gpt-4o"}, "team,model", None,
    )  # fmt: skip
    assert (made["amount_usd"], made["hard_limit"], made["each"], made["alert_thresholds"]) == (100, True, None, [])
    path = f"/api/budgets/{made['id']}"
    one = ask(daemon, "GET", path)
    assert {name: one[name] for name in made} == made
    assert ask(daemon, "GET", "/api/budgets/crud") == one
    assert (one["window_count"], len(one["windows"]), one["window"]) == (1, 1, one["windows"][0])
    assert "crud" in names(daemon)
    assert make(daemon, 409, name="crud", amount_usd=1, **SCOPE)["code"] == "CONFLICT"

    changed = ask(daemon, "PATCH", path, json={"amount_usd": 50, "name": "renamed", "alert_thresholds": [0.5, 1]})
    assert (changed["name"], changed["amount_usd"], changed["period"]) == ("renamed", 50, "week")
    assert changed["alert_thresholds"] == [Decimal("0.5"), 1]
    assert (changed["revision"], changed["since"]) == (1, made["since"])
    ask(daemon, "GET", "/api/budgets/crud", 404)

    whole = ask(daemon, "PUT", path, json={"scope": {"team": "video"}, "amount_usd": 7, "each": "user"})
    assert (whole["name"], whole["period"], whole["alert_thresholds"]) == ("renamed", "month", [])
    assert (whole["id"], whole["revision"], whole["each"]) == (made["id"], 2, "user")
    assert ask(daemon, "PATCH", path, json={"each": ""})["each"] is None

    assert ask(daemon, "DELETE", path)["id"] == made["id"]
    for method in ("GET", "DELETE"):
        ask(daemon, method, path, 404)
    ask(daemon, "PATCH", path, 404, json={"amount_usd": 1})
    history = ask(daemon, "GET", f"{path}/history")["changes"]
    assert [change["action"] for change in history] == ["removed", "changed", "changed", "changed", "created"]
    assert [change["budget"]["amount_usd"] for change in history] == [7, 7, 7, 50, 100]
    assert {change["actor_name"] for change in history} == {"admin"}
    assert "renamed" not in names(daemon)


def test_the_fields_of_the_document_are_taken_as_they_are(daemon: Daemon) -> None:
    """preflight/record knows scope_type, amount_usd, alert_thresholds and hard_limit, and no names."""
    said = {"amount_usd": 250, "alert_thresholds": [0.5, 0.8, 1.0], "hard_limit": True}
    made = make(daemon, scope_type="workspace", scope_id="ford", **said)
    assert (made["name"], made["scope"]) == ("workspace=ford", {"workspace": "ford"})
    assert (made["scope_type"], made["scope_id"], made["hard_limit"], made["period"]) == (
        "workspace", "ford", True, "month",
    )  # fmt: skip
    assert made["alert_thresholds"] == [Decimal("0.5"), Decimal("0.8"), 1]
    for name in ("scope", "scope_value"):
        other = make(daemon, scope_type="project", name=name, hard_limit=False, amount_usd=1, **{name: "launch"})
        assert (other["scope"], other["hard_limit"]) == ({"project": "launch"}, False)


def test_what_was_read_can_be_sent_again(daemon: Daemon) -> None:
    """A budget as it is answered is a body that says the same, and changes nothing."""
    fields = {
        "name": "again",
        "scope": {"team": "video", "provider": "OpenAI", "tag": "batch"},
        "each": "user",
        "amount_usd": 12.345678901,
        "period": "month",
        "timezone": "Asia/Kolkata",
        "anchor_day": 15,
        "alert_thresholds": [0.25, 0.9],
        "hard_limit": False,
        "on_unpriced": "deny",
        "on_hub_down": "allow",
    }
    made = make(daemon, **fields)
    assert made["scope"]["provider"] == "openai"
    assert made["amount_usd"] == Decimal("12.345678901")
    path = f"/api/budgets/{made['id']}"
    for method in ("PUT", "PATCH"):
        assert ask(daemon, method, path, content=json.dumps(made, default=float)) == made
    assert len(ask(daemon, "GET", f"{path}/history")["changes"]) == 1


@pytest.mark.parametrize("text", ["0", "0.000000001", "1e-9", "123456789.123456789", "1e9", "5.0"])
def test_amounts_are_taken_as_they_are_written(daemon: Daemon, text: str) -> None:
    """No float comes between."""
    made = ask(
        daemon, "POST", "/api/budgets", content=f'{{"name": "n{text}", "scope": {{"user": "u"}}, "amount_usd": {text}}}'
    )
    assert Decimal(made["amount_usd"]) == Decimal(text)
    window = ask(daemon, "GET", f"/api/budgets/{made['id']}")["window"]
    assert Decimal(window["limit_usd"]) == Decimal(window["available_usd"]) == Decimal(text)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"amount_usd": None}, "amount_usd"),
    ({"amount_usd": -1}, "amount_usd"),
    ({"amount_usd": "100"}, "amount_usd"),
    ({"amount_usd": True}, "amount_usd"),
    ({"amount_usd": 1e10}, "amount_usd"),
    ({"amount_usd": float("nan")}, "amount_usd"),
    ({"amount_usd": float("inf")}, "amount_usd"),
    ({"name": "x" * 257}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": 5}, "name"),
    ({"name": "0197a3b0-0000-7000-8000-000000000000"}, "name"),
    ({"scope": None}, "scope"),
    ({"scope": {}}, "scope"),
    ({"scope": []}, "scope"),
    ({"scope": "video"}, "scope"),
    ({"scope": {"colour": "red"}}, "scope"),
    ({"scope": {"team": 5}}, "scope.team"),
    ({"scope": {"team": ""}}, "scope.team"),
    ({"scope": {"team": "x" * 257}}, "scope.team"),
    ({"scope": {"key": "nobody"}}, "scope.key"),
    ({"scope": {"org": "elsewhere"}}, "scope.org"),
    ({"scope": {"tag": "a,b"}}, "scope.tag"),
    ({"scope_type": "user"}, "scope_type"),
    ({"scope": None, "scope_type": "colour", "scope_id": "red"}, "scope_type"),
    ({"scope": None, "scope_type": "team"}, "scope_id"),
    ({"scope": None, "scope_id": "video"}, "scope_id"),
    ({"scope": "a", "scope_type": "team", "scope_id": "b"}, "scope"),
    ({"each": "colour"}, "each"),
    ({"each": "team"}, "each"),
    ({"period": "fortnight"}, "period"),
    ({"timezone": "Mars/Olympus"}, "timezone"),
    ({"timezone": "../../etc/passwd"}, "timezone"),
    ({"anchor_day": 32}, "anchor_day"),
    ({"anchor_day": 0}, "anchor_day"),
    ({"anchor_day": 1.5}, "anchor_day"),
    ({"anchor_day": 1e400}, "anchor_day"),
    ({"period": "day", "anchor_day": 2}, "anchor_day"),
    ({"alert_thresholds": [0.8, 0.5]}, "alert_thresholds"),
    ({"alert_thresholds": [0.5, 0.5]}, "alert_thresholds"),
    ({"alert_thresholds": [0]}, "alert_thresholds"),
    ({"alert_thresholds": [-0.5]}, "alert_thresholds"),
    ({"alert_thresholds": [50]}, "alert_thresholds"),
    ({"alert_thresholds": [1e-300]}, "alert_thresholds"),
    ({"alert_thresholds": ["0.5"]}, "alert_thresholds"),
    ({"alert_thresholds": [None]}, "alert_thresholds"),
    ({"alert_thresholds": [n / 100 for n in range(1, 22)]}, "alert_thresholds"),
    ({"alert_thresholds": 0.5}, "alert_thresholds"),
    ({"hard_limit": "yes"}, "hard_limit"),
    ({"on_unpriced": "ask"}, "on_unpriced"),
    ({"on_hub_down": "ask"}, "on_hub_down"),
]


@pytest.mark.parametrize(("fields", "named"), BAD)
def test_what_is_wrong_is_named(daemon: Daemon, fields: dict[str, Any], named: str) -> None:
    """And nothing is made of it, whichever way it is said."""
    said = {"name": "bad", "amount_usd": 1, **SCOPE} | fields
    content = json.dumps(said)
    refusal = ask(daemon, "POST", "/api/budgets", 400, content=content)
    assert refusal["code"] == "VALIDATION_ERROR"
    if refusal["details"]["field"] != named:  # a number that JSON does not know is named where it stands
        assert refusal["details"]["field"].startswith(named)
    assert refusal["message"]
    assert "bad" not in names(daemon)


def test_roles_are_kept(daemon: Daemon) -> None:
    """An admin sets, read reads, and ingest does neither."""
    made = make(daemon, name="roles", amount_usd=1, **SCOPE)
    path = f"/api/budgets/{made['id']}"
    read, ingest = daemon.key("reads", role="read"), daemon.key("ingests", role="ingest")
    for get in ("/api/budgets", path, f"{path}/history"):
        ask(daemon, "GET", get, key=read)
        ask(daemon, "GET", get, 403, key=ingest)
    for method, where in (("POST", "/api/budgets"), ("PUT", path), ("PATCH", path)):
        ask(daemon, method, where, 403, key=read, json={"amount_usd": 2, **SCOPE})
    ask(daemon, "DELETE", path, 403, key=read)
    assert ask(daemon, "GET", path)["amount_usd"] == 1


def test_a_budget_is_seen_by_its_organization_alone(hub: Daemon) -> None:
    """An admin of another organization finds none, and may give the same name."""
    costd("sources", "create", "s", "--org", "acme", "--data-dir", str(hub.data_dir))
    theirs = hub.key("acme-admin", role="admin", org="acme")
    own = make(hub, name="same", amount_usd=1, **SCOPE)
    other = ask(hub, "POST", "/api/budgets", key=theirs, json={"name": "same", "amount_usd": 2, **SCOPE})
    assert (own["organization"], other["organization"]) == ("default", "acme")
    assert [each["id"] for each in ask(hub, "GET", "/api/budgets", key=theirs)["budgets"]] == [other["id"]]
    for method in ("GET", "DELETE"):
        ask(hub, method, f"/api/budgets/{own['id']}", 404, key=theirs)
    ask(hub, "GET", f"/api/budgets/{own['id']}/history", 404, key=theirs)
    refusal = ask(hub, "POST", "/api/budgets", 400, key=theirs, json={"amount_usd": 1, "scope": {"org": "default"}})
    assert refusal["details"]["field"] == "scope.org"


def test_windows_without_an_end_have_none(daemon: Daemon) -> None:
    """`total` ends never, and nothing is forecast of it."""
    made = make(daemon, name="total", amount_usd=5, period="total", **SCOPE)
    window = ask(daemon, "GET", f"/api/budgets/{made['id']}")["window"]
    assert (window["start"], window["end"], window["forecast_usd"]) == ("1970-01-01T00:00:00.000Z", None, None)


@pytest.mark.parametrize(
    ("query", "named"), [({"limit": 0}, "limit"), ({"limit": 1001}, "limit"), ({"value": "u"}, "value")]
)
def test_odd_questions_are_refused(daemon: Daemon, query: dict[str, Any], named: str) -> None:
    make(daemon, name=f"asked {query}", amount_usd=1, **SCOPE)
    refusal = ask(daemon, "GET", f"/api/budgets/asked {query}", 400, params=query)
    assert refusal["details"]["field"] == named


def test_they_outlive_the_daemon(launch: Any) -> None:
    """What was answered is there after a kill."""
    daemon = launch()
    made = make(daemon, name="kept", amount_usd=3, alert_thresholds=[0.5], **SCOPE)
    daemon.kill()
    daemon = launch()
    found = ask(daemon, "GET", "/api/budgets/kept")
    assert {name: found[name] for name in made} == made


def test_the_statistics_know_the_months_budget(launch: Any) -> None:
    """That of the whole organization, or of the provider that is asked about; the lowest where there are several."""
    daemon = launch()
    body = {"service": "OpenAI", "amount": 30, **_this_month(daemon)}
    assert daemon.client.post("/api/costs/manual", json=body).status_code == 200
    budget = ask(daemon, "GET", "/api/tokens/stats")["budget"]
    assert budget == {"limit": None, "used": 30, "remaining": None}
    for name, fields in (
        ("all", {"scope": {"org": "default"}, "amount_usd": 100}),
        ("tighter", {"scope": {"org": "default"}, "amount_usd": 80}),
        ("openai", {"scope": {"provider": "openai"}, "amount_usd": 20}),
        ("by day", {"scope": {"org": "default"}, "amount_usd": 1, "period": "day"}),
        ("each", {"scope": {"org": "default"}, "amount_usd": 1, "each": "user"}),
        ("team", {"scope": {"team": "video"}, "amount_usd": 1}),
    ):
        make(daemon, name=name, **fields)
    assert ask(daemon, "GET", "/api/tokens/stats")["budget"] == {"limit": 80, "used": 30, "remaining": 50}
    with_provider = ask(daemon, "GET", "/api/tokens/stats", params={"provider": "OpenAI"})["budget"]
    assert with_provider == {"limit": 20, "used": 30, "remaining": 0}


def test_what_was_reserved_before_a_kill_is_shown_after_it(launch: Any) -> None:
    """Of a window that nobody has used since, too."""
    daemon = launch()
    make(daemon, name="each", amount_usd=1, each="user", **SCOPE)
    door = GrpcDoor(daemon)
    assert door.ask(Spend(10, team="video")).allow
    door.close()
    daemon.kill()
    (window,) = ask(launch(), "GET", "/api/budgets/each")["windows"]
    assert window["value"] == "ada"
    assert Decimal("0.1") <= window["reserved_usd"] <= 1
    assert window["reserved_usd"] + window["available_usd"] == 1


def _this_month(daemon: Daemon) -> dict[str, int]:
    period = ask(daemon, "GET", "/api/tokens/stats")["period"]["start"]
    return {"year": int(period[:4]), "month": int(period[5:7])}
