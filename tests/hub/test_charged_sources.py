"""What sources forward is charged to their accounts at the hub, once, however it comes and however often."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fleet_model import HubNode, SourceNode

from charging import Charging, keep
from costd.clock import ManualClock
from costd.domain.budget import Budget
from costd.store.commit import Change
from costd.store.corrections import void_event
from costd.store.integrity import check_ledger
from ledger import DAY_MS, NOW_MS

DAY = NOW_MS - NOW_MS % DAY_MS
EVERYTHING = Budget("b", 1, "everything", (("org", "default"),), 1_000, period="day", since_ms=NOW_MS)


@pytest.fixture
def clock() -> ManualClock:
    """The one clock of all of them."""
    return ManualClock(NOW_MS)


@pytest.fixture
def hub(tmp_path: Path, clock: ManualClock) -> Iterator[HubNode]:
    """A hub with a budget for everything."""
    node = HubNode(tmp_path / "hub", clock)
    charge(node)
    yield node
    node.close()


@pytest.fixture
def web(tmp_path: Path, clock: ManualClock) -> Iterator[SourceNode]:
    """A source, a."""
    node = SourceNode(tmp_path / "a", clock, "a")
    yield node
    node.close()


def charge(hub: HubNode) -> None:
    """Have the hub charge its budget."""
    keep(hub.writer, EVERYTHING)
    hub.writer.budgeting = Charging(EVERYTHING)


def accounts(hub: HubNode) -> dict[str, list[int]]:
    """What was settled by each source, in each of its epochs."""
    found: dict[str, list[int]] = {}
    rows = hub.query(
        "SELECT s.name, a.settled_nano FROM budget_account a JOIN source s ON s.id = a.source_id "
        "JOIN source_epoch e ON e.source_id = a.source_id AND e.epoch = a.epoch ORDER BY s.name, a.settled_nano"
    )
    for name, settled in rows:
        found.setdefault(name, []).append(settled)
    return found


def own(hub: HubNode) -> tuple[int, int]:
    """What the hub itself settled, and what was credited."""
    ((settled, credited),) = hub.query("SELECT settled_nano, credited_nano FROM budget_window")
    return settled, credited


def assert_sound(hub: HubNode) -> None:
    """The check finds nothing."""
    with closing(sqlite3.connect(hub.writer.path)) as connection:
        assert check_ledger(connection).findings == []


def test_what_is_forwarded_is_its_sources_and_what_is_recorded_here_the_hubs(hub: HubNode, web: SourceNode) -> None:
    web.record(cost=5)
    web.record(cost=7)
    web.forward(hub)
    web.forward(hub)
    SourceNode.record(hub, cost=100)  # type: ignore[arg-type]
    assert (accounts(hub), own(hub)) == ({"a": [12]}, (100, 0))
    assert_sound(hub)


def test_answers_that_are_lost_charge_nothing_twice(hub: HubNode, web: SourceNode) -> None:
    for cost in (1, 20, 300):
        web.record(cost=cost)
        web.forward(hub, heard=lambda: False)
    web.forward(hub)
    assert (accounts(hub), own(hub)) == ({"a": [321]}, (0, 0))


def test_a_restored_sources_records_stay_in_their_epoch(hub: HubNode, web: SourceNode, tmp_path: Path) -> None:
    web.record(cost=1)
    web.copy_to(tmp_path / "copy")
    web.record(cost=20)
    web.forward(hub)
    web.set_back(tmp_path / "copy")
    web.record(cost=300)
    web.forward(hub)
    assert (accounts(hub), own(hub)) == ({"a": [21, 300]}, (0, 0))
    assert_sound(hub)


def test_a_duplicate_of_another_source_is_not_charged(
    hub: HubNode, web: SourceNode, tmp_path: Path, clock: ManualClock
) -> None:
    other = SourceNode(tmp_path / "b", clock, "b")
    for node in (web, other):
        node.record("same", cost=5)
        node.forward(hub)
    other.record(cost=7)
    other.forward(hub)
    assert (accounts(hub), own(hub)) == ({"a": [5], "b": [7]}, (0, 0))
    assert_sound(hub)
    other.close()


def test_a_correction_that_lowers_is_credited_to_the_window(hub: HubNode, web: SourceNode) -> None:
    web.record("wrong", cost=5)
    web.record("right", cost=7)
    web.forward(hub)
    web.writer.submit(Change(lambda commit: void_event(commit, 1, "wrong", "wrong", "tester"))).wait(20)
    web.forward(hub)
    assert (accounts(hub), own(hub)) == ({"a": [12]}, (0, 5))
    hub.writer.submit(Change(lambda commit: void_event(commit, 1, "right", "wrong", "tester"))).wait(20)
    assert (accounts(hub), own(hub)) == ({"a": [12]}, (0, 12))
    assert_sound(hub)


def test_what_comes_after_its_window_counts_in_it_and_is_credited_no_more(
    hub: HubNode, web: SourceNode, clock: ManualClock
) -> None:
    web.record("late", cost=5)
    clock.advance(DAY_MS / 1000)
    web.forward(hub)
    web.writer.submit(Change(lambda commit: void_event(commit, 1, "late", "wrong", "tester"))).wait(20)
    web.forward(hub)
    assert (accounts(hub), own(hub)) == ({"a": [5]}, (0, 0))
    assert hub.query("SELECT start_ms FROM budget_window") == [(DAY,)]
    assert_sound(hub)
