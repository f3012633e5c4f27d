"""Budgets of a hub at its sidecars: they come with the rest of its state, change within seconds, and are set there."""

from __future__ import annotations

from pathlib import Path

from budget_calls import set_budget
from callers import stubs
from costd.v1 import budget_pb2
from fleet import fleet
from harness import Daemon, start, until

#: What is promised: a change is in force on every connected daemon within this.
PROMISED_S = 5.0
_SAID = "SELECT id, name, scope, each, thresholds, period, timezone, since_ms FROM budget ORDER BY id"


def copies(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """{name: (amount, revision)} of the hub's budgets that a sidecar has."""
    rows = daemon.query("SELECT name, amount_nano, revision FROM budget WHERE origin = 'hub' AND removed_ms IS NULL")
    return {name: (amount, revision) for name, amount, revision in rows}


def remove_budget(daemon: Daemon, name: str) -> None:
    with stubs(daemon) as services:
        request = budget_pb2.RemoveBudgetRequest(budget=name)
        services.admin.RemoveBudget(request, metadata=services.metadata, timeout=30)


def test_a_budget_and_its_changes_are_at_a_connected_sidecar_in_time(tmp_path: Path) -> None:
    with fleet(tmp_path, "web") as members:
        hub, web = members.hub, members.sidecars[0].running
        set_budget(hub, "one", 500, scope={"user": "ada"})
        until(lambda: copies(web) == {"one": (5 * 10**9, 1)}, "the first", PROMISED_S)
        set_budget(hub, "two", 100, each="user", alert_thresholds=["0.5", "1"])
        until(lambda: "two" in copies(web), "the new budget", PROMISED_S)
        set_budget(hub, "two", 50)
        until(lambda: copies(web)["two"] == (5 * 10**8, 1), "the new amount", PROMISED_S)
        set_budget(hub, "two", 50, period="day")
        until(lambda: copies(web)["two"] == (5 * 10**8, 2), "the new revision", PROMISED_S)
        assert web.query(_SAID) == hub.query(_SAID)
        remove_budget(hub, "one")
        until(lambda: set(copies(web)) == {"two"}, "the removal", PROMISED_S)


def test_a_sidecar_is_told_of_its_own_organizations_alone(tmp_path: Path) -> None:
    with fleet(tmp_path) as members:
        web = members.add("web", orgs=("acme",)).running
        set_budget(members.hub, "of the hub", 500, scope={"user": "ada"})
        until(lambda: web.query("SELECT budgets_version FROM hub_link") == [(1,)], "the news")
        assert copies(web) == {}


def test_what_changed_while_a_sidecar_was_down_is_there_once_it_is_back(tmp_path: Path) -> None:
    with fleet(tmp_path, "web") as members:
        web = members.sidecars[0]
        set_budget(members.hub, "one", 500, scope={"user": "ada"})
        until(lambda: "one" in copies(web.running), "the budget")
        web.kill()
        set_budget(members.hub, "one", 700)
        set_budget(members.hub, "two", 100, scope={"user": "bob"})
        web.start()
        until(lambda: copies(web.running) == {"one": (7 * 10**9, 1), "two": (10**9, 1)}, "what changed", PROMISED_S)


def test_budgets_that_were_made_before_a_hub_was_joined_are_kept(tmp_path: Path) -> None:
    alone = start(tmp_path / "web")
    set_budget(alone, "own", 100, scope={"user": "ada"})
    assert alone.stop() == 0
    with fleet(tmp_path, "web") as members:
        web = members.sidecars[0].running
        set_budget(members.hub, "own", 700, scope={"user": "bob"})
        until(lambda: "own" in copies(web), "the hub's")
        kept = web.query("SELECT amount_nano, origin FROM budget WHERE removed_ms IS NULL ORDER BY amount_nano")
        assert kept == [(10**9, ""), (7 * 10**9, "hub")]
