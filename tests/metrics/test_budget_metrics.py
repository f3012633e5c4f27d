"""Metrics of budgets: how windows stand, capped, and what became of preflights and reservations."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

from budget_calls import GrpcDoor, HttpDoor, Spend, set_budget
from callers import stubs
from costd.v1 import budget_pb2
from harness import Daemon, until
from scraping import Page

HARD = '{org="default",budget="video",value="",}'


def usd(page: Page, name: str, labels: str = HARD) -> Decimal:
    return page.series(f"costd_budget_{name}_usd")[labels]


def test_a_budget_is_shown_as_it_stands(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    assert Page.of(daemon).series("costd_budgets") == {'{kind="hard"}': 0, '{kind="soft"}': 0}
    set_budget(daemon, "video", 100, scope={"team": "video"}, period="total")
    set_budget(daemon, "soft", 100, scope={"team": "audio"}, period="month", hard=False)
    door = GrpcDoor(daemon)
    assert door.ask(Spend(20, "a", team="video")).allow
    assert door.ask(Spend(30, "b", team="video")).allow
    assert door.record(Spend(40, "b", team="video")) == "kept"
    page = Page.of(daemon)
    assert page.series("costd_budgets") == {'{kind="hard"}': 1, '{kind="soft"}': 1}
    found = {name: usd(page, name) for name in ("limit", "settled", "reserved", "held", "available", "overshoot")}
    assert found == {
        "limit": Decimal(1),
        "settled": Decimal("0.4"),
        "reserved": Decimal("0.2"),
        "held": Decimal("0.2"),
        "available": Decimal("0.4"),
        "overshoot": Decimal(0),
    }
    assert page.series("costd_budget_utilization_ratio")[HARD] == Decimal("0.6")
    assert page.series("costd_reservations_open") == {"": 1}
    assert page.series("costd_reservations_capacity") == {"": 200_000}
    assert HARD not in page.series("costd_budget_forecast_usd"), "it never ends"
    assert HARD not in page.series("costd_budget_reset_timestamp_seconds")
    soft = HARD.replace("video", "soft")
    assert page.series("costd_budget_reset_timestamp_seconds")[soft] > int(time.time())
    assert door.record(Spend(90, "a", team="video")) == "kept"
    page = Page.of(daemon)
    assert (usd(page, "settled"), usd(page, "overshoot")) == (Decimal("1.3"), Decimal("0.3"))
    assert (usd(page, "available"), page.series("costd_reservations_open")) == (0, {"": 0})
    assert page.series("costd_budget_exhaustion_seconds")[HARD] == 0
    door.close()


def test_preflights_are_counted_by_what_came_of_them_at_both_doors(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    set_budget(daemon, "video", 10, scope={"team": "video"}, period="total")
    for door in (GrpcDoor(daemon), HttpDoor(daemon)):
        assert door.ask(Spend(4, team="video")).allow
        assert door.ask(Spend(40, team="video")).word == "budget_exceeded"
        door.close()
    page = Page.of(daemon)
    assert page.series("costd_preflights_total") == {
        '{decision="allow",reason=""}': 2,
        '{decision="deny",reason="budget_exceeded"}': 2,
    }
    assert page.series("costd_preflight_duration_seconds_count") == {"": 4}


def test_reservations_that_expire_are_counted(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--budgets-reservation-minutes", "0.01")
    set_budget(daemon, "video", 10, scope={"team": "video"}, period="total")
    door = GrpcDoor(daemon)
    for number in range(3):
        assert door.ask(Spend(1, f"r{number}", team="video")).allow
    assert door.release("r0")
    until(lambda: Page.of(daemon).series("costd_reservations_expired_total") == {"": 2}, "two to expire")
    assert Page.of(daemon).series("costd_reservations_open") == {"": 0}
    door.close()


def test_very_many_values_have_a_bounded_page_that_is_quick(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--metrics-max-series", "50")
    set_budget(daemon, "users", 1000, scope={"org": "default"}, each="user", period="day")
    set_budget(daemon, "all", 1000, scope={"org": "default"}, period="day")
    users = 10_000
    for start in range(0, users, 500):
        lines = [
            {
                "user_external_id": f"u{number}",
                "source_app": "a",
                "model": "gpt-4o",
                "units": {"input_tokens": number + 1},
            }
            for number in range(start, start + 500)
        ]
        assert daemon.client.post("/v1/usage/records", json=lines).status_code == 200
    page = Page.of(daemon)
    shown = page.series("costd_budget_settled_usd")
    assert len(shown) == 50
    assert page.series("costd_budget_overflow") == {"": users - 49}
    fullest = [f'{{org="default",budget="users",value="u{users - 1 - rank}",}}' for rank in range(49)]
    assert set(fullest) < set(shown), "those of which most is spent"
    began = time.monotonic()
    for _ in range(5):
        Page.of(daemon)
    assert (time.monotonic() - began) / 5 < 0.5


def test_names_cannot_break_the_page(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    set_budget(daemon, 'a "b" \\ c', 10, scope={"team": "video"}, period="total")
    assert '{org="default",budget="a \\"b\\" \\\\ c",value="",}' in Page.of(daemon).series("costd_budget_limit_usd")


def test_a_budget_that_is_removed_is_shown_no_more(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    set_budget(daemon, "video", 10, scope={"team": "video"}, period="total")
    assert Page.of(daemon).series("costd_budget_limit_usd")
    with stubs(daemon) as services:
        request = budget_pb2.RemoveBudgetRequest(budget="video")
        services.admin.RemoveBudget(request, metadata=services.metadata)
    page = Page.of(daemon)
    assert page.series("costd_budget_limit_usd") == {}
    assert page.series("costd_budgets")['{kind="hard"}'] == 0
