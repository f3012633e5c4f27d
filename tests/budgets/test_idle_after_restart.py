"""A sidecar that starts again gives back what it held of windows that nobody uses there any more."""

from __future__ import annotations

from pathlib import Path

import pytest

import fleet as fleets
from budget_calls import CENT_NANO, GrpcDoor, Spend, set_budget, standing
from callers import stubs
from costd.v1 import admin_pb2
from harness import until


@pytest.mark.parametrize("kill", [False, True])
def test_money_of_a_value_that_moved_on_follows_it(tmp_path: Path, kill: bool) -> None:
    """One user's calls go to another sidecar after theirs was started again: the whole amount is there for them."""
    with fleets.fleet(tmp_path) as running:
        for name in ("one", "two"):
            running.add(name, "--budgets-reservation-minutes", "0.05")
        set_budget(running.hub, "users", 300, scope={"team": "video"}, each="user", period="total")
        with stubs(running.hub) as services:
            request = admin_pb2.CreateKeyRequest(name="callers", roles=["ingest", "read"])
            key = str(services.admin.CreateKey(request, metadata=services.metadata, timeout=20).secret)
        one, two = running.sidecars
        door = GrpcDoor(one.running, key)
        call = Spend(10, user="ada", team="video")

        def in_force() -> bool:
            answer = door.ask(call)
            return bool(answer.budget) and door.record(call._replace(request_id=answer.request_id)) == "kept"

        until(in_force, "the budget to be in force")
        running.drain()
        assert standing(running.hub, "users", "ada").held_nano_usd > 0
        door.close()
        one.kill() if kill else one.stop()
        one.start()
        door = GrpcDoor(two.running, key)
        left = 290 if standing(running.hub, "users", "ada").settled_nano_usd == 10 * CENT_NANO else 280
        until(lambda: door.ask(Spend(left - 1, user="ada", team="video")).allow, "the rest of ada's money", 45)
        door.close()
