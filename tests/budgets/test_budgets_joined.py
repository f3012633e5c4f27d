"""Budgets at a sidecar that has a hub: the hub's are read there and set at the hub; its own return when it leaves."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from budget_calls import GrpcDoor, Spend, cents, set_budget
from callers import stubs
from costd.v1 import budget_pb2 as pb
from fleet import fleet
from harness import costd, start, until
from rpc_calls import refusal_of


def test_they_are_set_at_the_hub_alone(tmp_path: Path) -> None:
    """Every door of the sidecar refuses, and says where to go; what it shows are the hub's."""
    with fleet(tmp_path, "web") as members:
        web = members.sidecars[0].running
        made = set_budget(members.hub, "hubs", 500, scope={"team": "video"})
        until(lambda: web.client.get("/api/budgets/hubs").status_code == 200, "the hub's budget")
        address = members.sidecars[0].proxy.address
        for method, path in (
            ("POST", "/api/budgets"),
            ("PATCH", f"/api/budgets/{made.id}"),
            ("PUT", f"/api/budgets/{made.id}"),
            ("DELETE", f"/api/budgets/{made.id}"),
        ):
            refusal = web.client.request(method, path, json={"amount_usd": 1, "scope": {"team": "a"}})
            assert refusal.status_code == 403
            assert address in refusal.json()["message"]
        with stubs(web) as services:
            for call in (
                lambda: services.admin.SetBudget(pb.SetBudgetRequest(name="x"), metadata=services.metadata),
                lambda: services.admin.RemoveBudget(pb.RemoveBudgetRequest(budget="hubs"), metadata=services.metadata),
            ):
                error = refusal_of(call)
                assert (error.code().name, address in (error.details() or "")) == ("PERMISSION_DENIED", True)
        done = costd("budgets", "remove", "hubs", "--data-dir", str(web.data_dir))
        assert (done.returncode, address in done.stderr) == (3, True)
        (listed,) = web.client.get("/api/budgets").json()["data"]["budgets"]
        assert (listed["id"], listed["amount_usd"], listed["window"]["partial"]) == (made.id, 5, True)


def test_what_a_source_brought_is_shown_as_its_own(tmp_path: Path) -> None:
    """At the hub, by the source's name; and at the source what it recorded itself."""
    with fleet(tmp_path, "web", "api") as members:
        set_budget(members.hub, "all", 500, scope={"team": "video"})
        for number, sidecar in enumerate(members.sidecars):
            web = sidecar.running
            until(lambda web=web: web.client.get("/api/budgets/all").status_code == 200, "the hub's budget")
            door = GrpcDoor(web)
            assert door.record(Spend(10 * (number + 1), request_id=f"r{number}", team="video")) == "kept"
            door.close()
        until(lambda: cents(members.hub, "all").settled == 30, "both records")
        window = members.hub.client.get("/api/budgets/all").json()["data"]["window"]
        brought = {holder["source"]: Decimal(str(holder["settled_usd"])) for holder in window["holders"]}
        assert brought == {"web": Decimal("0.1"), "api": Decimal("0.2")}
        assert cents(members.sidecars[1].running, "all").settled == 20


def test_own_budgets_are_in_force_again_once_the_hub_is_left(tmp_path: Path) -> None:
    """And know what was recorded meanwhile."""
    alone = start(tmp_path / "web")
    set_budget(alone, "own", 100, scope={"user": "ada"})
    door = GrpcDoor(alone)
    assert door.record(Spend(10, request_id="before", user="ada")) == "kept"
    door.close()
    assert cents(alone, "own").settled == 10
    assert alone.stop() == 0
    with fleet(tmp_path, "web") as members:
        web = members.sidecars[0].running
        assert web.client.get("/api/budgets/own").status_code == 404
        set_budget(members.hub, "hubs", 500, scope={"user": "ada"})
        until(lambda: web.client.get("/api/budgets/hubs").status_code == 200, "the hub's budget")
        door = GrpcDoor(web)
        assert door.record(Spend(25, request_id="meanwhile", user="ada")) == "kept"
        door.close()
        members.sidecars[0].stop()
        left = start(tmp_path / "web")
        try:
            assert cents(left, "own").settled == 35
            assert cents(left, "own").available == 65
        finally:
            assert left.stop() == 0
        back = members.sidecars[0].start()
        assert back.client.get("/api/budgets/own").status_code == 404
        until(lambda: back.client.get("/api/budgets/hubs").status_code == 200, "the hub's budget")
        checked = costd("check", "--data-dir", str(back.data_dir))
        assert checked.returncode == 0, checked.stdout + checked.stderr
