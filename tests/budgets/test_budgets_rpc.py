"""Budgets over gRPC: made, changed, removed and listed, and every mistake named by its field."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from budget_calls import CENT_NANO, GrpcDoor, Spend
from callers import Stubs, stubs
from costd.v1 import budget_pb2 as pb
from harness import Daemon
from rpc_calls import bearer, details_of, refusal_of

TIMEOUT_S = 30
USD = 10**9


@pytest.fixture(scope="module")
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


def put(services: Stubs, name: str, **fields: Any) -> pb.Budget:
    request = pb.SetBudgetRequest(name=name, **fields)
    made: pb.Budget = services.admin.SetBudget(request, metadata=services.metadata, timeout=TIMEOUT_S)
    return made


def listed(services: Stubs) -> list[pb.BudgetStanding]:
    answer = services.query.ListBudgets(pb.ListBudgetsRequest(), metadata=services.metadata, timeout=TIMEOUT_S)
    return list(answer.budgets)


def test_a_budget_is_made_changed_and_removed(services: Stubs) -> None:
    """What is not said is as by default at first, and stays as it is later."""
    made = put(services, "crud", scope={"team": "video", "model": "gpt-4o"}, amount_nano_usd=100 * USD)
    assert (made.period, made.timezone, made.anchor_day, made.each) == ("month", "UTC", 1, "")
    assert (made.hard, made.on_unpriced, made.on_hub_down) == (True, "allow", "deny")
    assert (made.revision, made.organization, list(made.alert_thresholds)) == (1, "default", [])
    assert made.created_ms == made.updated_ms
    again = put(services, "crud", amount_nano_usd=50 * USD, alert_thresholds=["0.5", "1.0"], hard=False)
    assert (again.id, again.amount_nano_usd, again.hard, again.revision) == (made.id, 50 * USD, False, 1)
    assert list(again.alert_thresholds) == ["0.5", "1"]
    assert dict(again.scope) == {"team": "video", "model": "gpt-4o"}
    assert again.since_ms == made.since_ms
    other = put(services, "crud", scope={"team": "video"}, each="user", no_alerts=True)
    assert (other.id, other.revision, other.each, list(other.alert_thresholds)) == (made.id, 2, "user", [])
    assert other.since_ms > made.since_ms
    assert put(services, "crud") == other
    assert [each.budget for each in listed(services) if each.budget.name == "crud"] == [other]
    request = pb.RemoveBudgetRequest(budget="crud")
    gone = services.admin.RemoveBudget(request, metadata=services.metadata, timeout=TIMEOUT_S)
    assert gone.id == made.id
    assert [each for each in listed(services) if each.budget.name == "crud"] == []
    error = refusal_of(lambda: services.admin.RemoveBudget(request, metadata=services.metadata, timeout=TIMEOUT_S))
    assert error.code().name == "NOT_FOUND"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"amount_nano_usd": None}, "amount_nano_usd"),
    ({"amount_nano_usd": -1}, "amount_nano_usd"),
    ({"amount_nano_usd": 2**63 - 1}, "amount_nano_usd"),
    ({"name": ""}, "name"),
    ({"name": "x" * 257}, "name"),
    ({"name": "0197a3b0-0000-7000-8000-000000000000"}, "name"),
    ({"scope": {}}, "scope"),
    ({"scope": {"colour": "red"}}, "scope"),
    ({"scope": {"team": ""}}, "scope.team"),
    ({"scope": {"team": "a\nb"}}, "scope.team"),
    ({"scope": {"tag": "a,b"}}, "scope.tag"),
    ({"scope": {"key": "nobody"}}, "scope.key"),
    ({"scope": {"org": "elsewhere"}}, "scope.org"),
    ({"each": "colour"}, "each"),
    ({"each": "team"}, "each"),
    ({"period": "fortnight"}, "period"),
    ({"timezone": "Mars/Olympus"}, "timezone"),
    ({"timezone": "../../etc/passwd"}, "timezone"),
    ({"anchor_day": 0}, "anchor_day"),
    ({"anchor_day": 32}, "anchor_day"),
    ({"period": "week", "anchor_day": 8}, "anchor_day"),
    ({"period": "day", "anchor_day": 2}, "anchor_day"),
    ({"alert_thresholds": ["0.8", "0.5"]}, "alert_thresholds"),
    ({"alert_thresholds": ["0.5", "0.50"]}, "alert_thresholds"),
    ({"alert_thresholds": ["NaN"]}, "alert_thresholds"),
    ({"alert_thresholds": ["-0.5"]}, "alert_thresholds"),
    ({"alert_thresholds": ["1e-999999"]}, "alert_thresholds"),
    ({"alert_thresholds": ["0"]}, "alert_thresholds"),
    ({"alert_thresholds": ["11"]}, "alert_thresholds"),
    ({"alert_thresholds": ["0.5"], "no_alerts": True}, "no_alerts"),
    ({"on_unpriced": "ask"}, "on_unpriced"),
    ({"on_hub_down": "ask"}, "on_hub_down"),
]


@pytest.mark.parametrize(("fields", "named"), BAD)
def test_what_is_wrong_is_named(services: Stubs, fields: dict[str, Any], named: str) -> None:
    """And nothing is made of it."""
    said = {"name": "bad", "scope": {"team": "video"}, "amount_nano_usd": USD} | fields
    error = refusal_of(lambda: put(services, said.pop("name"), **{k: v for k, v in said.items() if v is not None}))
    assert error.code().name == "INVALID_ARGUMENT"
    assert list(details_of(error)[0]) == [named]
    assert not [each for each in listed(services) if each.budget.name == "bad"]


def test_a_scope_is_kept_in_the_words_of_records(services: Stubs, daemon: Daemon) -> None:
    """A provider by its one name, a key by its id."""
    daemon.key("scoped")
    (key_id,) = daemon.query("SELECT id FROM api_key WHERE name = 'scoped'")[0]
    made = put(services, "words", scope={"provider": "OpenAI", "key": "scoped", "org": "default"}, amount_nano_usd=USD)
    assert dict(made.scope) == {"provider": "openai", "key": key_id, "org": "default"}
    daemon.key("scoped")
    error = refusal_of(lambda: put(services, "ambiguous", scope={"key": "scoped"}, amount_nano_usd=USD))
    assert list(details_of(error)[0]) == ["scope.key"]
    assert put(services, "by-id", scope={"key": key_id}, amount_nano_usd=USD).scope["key"] == key_id


def test_roles_are_kept(services: Stubs, daemon: Daemon) -> None:
    """An admin sets, read reads, and ingest does neither."""
    read, ingest = daemon.key("reads", role="read"), daemon.key("ingests", role="ingest")
    put(services, "roles", scope={"team": "video"}, amount_nano_usd=USD)
    said = pb.SetBudgetRequest(name="roles", amount_nano_usd=2 * USD)
    services.query.ListBudgets(pb.ListBudgetsRequest(), metadata=bearer(read), timeout=TIMEOUT_S)
    for call in (
        lambda: services.admin.SetBudget(said, metadata=bearer(read), timeout=TIMEOUT_S),
        lambda: services.admin.RemoveBudget(
            pb.RemoveBudgetRequest(budget="roles"), metadata=bearer(read), timeout=TIMEOUT_S
        ),
        lambda: services.query.ListBudgets(pb.ListBudgetsRequest(), metadata=bearer(ingest), timeout=TIMEOUT_S),
    ):
        assert refusal_of(call).code().name == "PERMISSION_DENIED"


def test_what_was_done_is_in_the_audit_trail(services: Stubs, daemon: Daemon) -> None:
    """Each change with who did it, once."""
    made = put(services, "audited", scope={"team": "video"}, amount_nano_usd=USD)
    put(services, "audited", amount_nano_usd=2 * USD)
    put(services, "audited", amount_nano_usd=2 * USD)
    request = pb.RemoveBudgetRequest(budget=made.id)
    services.admin.RemoveBudget(request, metadata=services.metadata, timeout=TIMEOUT_S)
    rows = daemon.query("SELECT action, resource_type, actor FROM audit WHERE resource_id = ? ORDER BY id", made.id)
    (admin_id,) = daemon.query("SELECT id FROM api_key WHERE name = 'admin'")[0]
    assert rows == [(f"budget.{verb}", "budget", admin_id) for verb in ("created", "changed", "removed")]


def test_a_budget_made_while_records_come_misses_none_and_counts_none_twice(launch: Any) -> None:
    """Whatever commit a record is in, before, with or after that of the budget."""
    daemon = launch()
    stopped, users = threading.Event(), list[str]()

    def record(user: str) -> None:
        door = GrpcDoor(daemon)
        while not stopped.is_set():
            assert door.record(Spend(1, user=user, team="busy")) == "kept"
            users.append(user)
        door.close()

    with ThreadPoolExecutor(4) as pool, stubs(daemon) as found:
        callers = [pool.submit(record, user) for user in ("ada", "bob", "ada", "cleo")]
        for number in range(20):
            put(found, f"b{number}", scope={"team": "busy"}, amount_nano_usd=USD, hard=False)
            if number % 4 == 0:
                put(found, "again", scope={"team": "busy"}, amount_nano_usd=USD, each=("", "user")[number % 8 == 0])
        put(found, "again", each="user")
        stopped.set()
        for caller in callers:
            caller.result()
        for number in range(20):
            (window,) = status(found, f"b{number}").windows
            assert window.settled_nano_usd == len(users) * CENT_NANO
        by_user = {window.value: window.settled_nano_usd for window in status(found, "again").windows}
        assert by_user == {user: count * CENT_NANO for user, count in Counter(users).items()}


def status(services: Stubs, name: str) -> pb.BudgetStatusResponse:
    request = pb.BudgetStatusRequest(budget=name)
    answer: pb.BudgetStatusResponse = services.query.BudgetStatus(
        request, metadata=services.metadata, timeout=TIMEOUT_S
    )
    return answer
