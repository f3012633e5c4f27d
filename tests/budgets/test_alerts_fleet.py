"""In a fleet the hub finds the alerts, of what all sidecars brought, once; metrics say at each end what it knows."""

from __future__ import annotations

from pathlib import Path

from alert_receivers import receiving
from budget_calls import GrpcDoor, Spend, set_budget
from fleet_spending import is_told, patient
from harness import Daemon, until
from scraping import Page

LABELS = '{org="default",budget="video",value="",}'
SECRET = "a secret of sixteen or more"


def spend(daemon: Daemon, cents: int, request_id: str = "") -> None:
    door = GrpcDoor(daemon)
    try:
        if request_id:
            assert door.ask(Spend(cents, request_id, team="video")).allow
        assert door.record(Spend(cents, request_id, team="video")) == "kept"
    finally:
        door.close()


def test_the_hub_tells_once_of_what_several_sidecars_spent_together(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        patient(
            tmp_path, "a", "b", flags=("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret", SECRET)
        ) as members,
    ):
        hub = members.hub
        set_budget(hub, "video", 100, scope={"team": "video"}, period="total", alert_thresholds=["0.5"])
        sidecars = [each.running for each in members.sidecars]
        until(lambda: all(is_told(each, "video") for each in sidecars), "the budget at the sidecars")
        spend(sidecars[0], 30, "one")
        spend(sidecars[1], 25)
        until(lambda: receiver.posts, "the alert")
        assert receiver.posts[0].json["data"]["settled_usd"] == 0.55
        spend(sidecars[0], 10)
        members.drain()
        until(lambda: Page.of(hub).series("costd_budget_settled_usd").get(LABELS), "the hub to have it")
        members.restart_hub()
        until(lambda: Page.of(members.hub).series("costd_alerts_undelivered") == {'{channel="webhook"}': 0}, "the hub")
        assert len(receiver.posts) == 1
        assert not any(each.query("SELECT 1 FROM budget_alert") for each in sidecars)


def test_metrics_say_at_each_end_what_is_known_there(tmp_path: Path) -> None:
    with patient(tmp_path, "a") as members:
        hub, sidecar = members.hub, members.sidecars[0].running
        set_budget(hub, "video", 100, scope={"team": "video"}, period="total")
        until(lambda: is_told(sidecar, "video"), "the budget at the sidecar")
        spend(sidecar, 30, "one")
        members.drain()
        page = Page.of(sidecar)
        assert page.series("costd_budget_limit_usd") == {LABELS: 1}
        assert [float(value) for value in page.series("costd_budget_settled_usd").values()] == [0.3]
        for name in ("available_usd", "overshoot_usd", "utilization_ratio", "forecast_usd", "exhaustion_seconds"):
            assert page.series(f"costd_budget_{name}") == {}, "only the hub knows"
        assert page.value("costd_slice_requests_total", outcome="answered") >= 1
        assert page.series("costd_slice_request_seconds_count")[""] >= 1
        page = Page.of(hub)
        assert [float(value) for value in page.series("costd_budget_settled_usd").values()] == [0.3]
        held, available = (page.series(f"costd_budget_{name}_usd")[LABELS] for name in ("held", "available"))
        assert float(held + available) == 0.7
        assert page.value("costd_hub_slice_requests_total", outcome="answered") >= 1
