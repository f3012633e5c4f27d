"""Promise 3: what sidecars acknowledged is at the hub once, whatever happens to the road, to them and to the hub.

Two sidecars are loaded by every door, on roads that drop, delay, truncate, repeat and swallow; sidecars and hub are
killed with SIGKILL and started again, by a seeded schedule. In the end the road is healed, and what callers were told,
what the sidecars hold and what the hub holds must be the same in every dimension, to the nano-dollar.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from callers import BatchDoor, Call, ColumnsDoor, GrpcDoor, send
from fault_proxy import misbehave
from fleet import Fleet, Sidecar, agree, fleet, jobs, query, taken_back, totals
from fleet_load import Books, NamedBatchDoor, callers

#: Chosen so that each fault of a road, and each way for a sidecar and the hub to end, comes at least three times.
SUITE_SEEDS = (42, 60, 82, 114, 313, 388)
_STEPS = 8
_LONGEST_STEP_S = 0.3


def endure(folder: Path, seed: int) -> None:
    """One schedule, from the first start to the last comparison."""
    rng = random.Random(seed)
    books = Books(random.Random(rng.getrandbits(64)))
    with fleet(folder, "web-1", "web-2") as running:
        callings = [calling for each in running.sidecars for calling in callers(each, books)]
        try:
            for _ in range(_STEPS):
                step(running, rng)
                time.sleep(rng.uniform(0.02, _LONGEST_STEP_S))  # when the next thing happens: nothing is waited for
        finally:
            mend(running)
            for calling in callings:
                calling.finish()
        running.drain()
        compare(running, books)
        for each in running.sidecars:
            each.stop()
        running.stop_hub(kill=False)
        running.check()


def step(running: Fleet, rng: random.Random) -> None:
    """Something happens: to a road most often, to a sidecar or the hub now and then."""
    each = rng.choice(running.sidecars)
    what = rng.choice(("fault", "fault", "fault", "heal", "kill", "stop", "hub"))
    print(f"  {what} {each.name}")
    if what == "fault":
        print(f"    {misbehave(each.proxy, rng)}")
    elif what == "heal":
        each.proxy.heal()
    elif what == "hub":
        running.restart_hub(kill=rng.random() < 0.7)
    else:
        end(each, kill=what == "kill")
        each.start()


def end(each: Sidecar, *, kill: bool) -> None:
    """End a sidecar; its callers notice by themselves."""
    if kill:
        each.kill()
    else:
        each.stop()


def mend(running: Fleet) -> None:
    """Everything is well again."""
    for each in running.sidecars:
        each.proxy.heal()
        if each.daemon is None:
            each.start()


def compare(running: Fleet, books: Books) -> None:
    """Callers, sidecars and hub must tell the same."""
    sidecars = [each.data_dir for each in running.sidecars]
    agree(running.data_dir, *sidecars)
    at_hub, at_sidecars = jobs(running.data_dir), jobs(*sidecars)
    assert at_hub.found == at_sidecars.found
    assert set(at_hub.found.values()) == {1}, [number for number, times in at_hub.found.items() if times > 1][:3]
    lost = books.told - at_hub.found.keys()
    assert not lost, f"{len(lost)} records were acknowledged and did not arrive, among them {sorted(lost)[:3]}"
    for number, cost in at_hub.costs.items():
        assert cost == books.sent[number].expected_nano, books.sent[number]
    assert reported(running) == books.expected(at_hub.found)
    units = query(
        running.data_dir, "SELECT sum(whole * 2 + micro / 500000) FROM rollup_unit WHERE unit = 'gpu_seconds'"
    )
    assert (units[0][0] or 0) >= len(books.rare)
    entries = Counter(project for (project,) in query(running.data_dir, "SELECT project FROM month_entry"))
    assert set(entries.values()) <= {1}
    assert {f"p{number}" for number in books.entries} <= entries.keys()
    assert query(running.data_dir, "SELECT count(*) FROM quarantine") == [(0,)]
    assert len(books.told) > 100, "hardly anything was sent: this proves nothing"
    for log in (running.hub.log, *(each.log for each in running.sidecars)):
        assert " ERROR " not in log


def reported(running: Fleet) -> dict[tuple[str, str, str], tuple[int, ...]]:
    """The hub's hours as callers see them."""
    return {
        (user, model, tags): (usd * 10**9 + nano, *amounts)
        for user, model, tags, usd, nano, *amounts in query(
            running.data_dir,
            "SELECT s.user, s.model, s.tags, sum(r.cost_usd) + sum(r.cost_nano) / 1000000000, "
            "sum(r.cost_nano) % 1000000000, sum(r.requests), sum(r.input_tokens), sum(r.output_tokens), "
            "sum(r.unpriced) FROM rollup r JOIN series s ON s.id = r.series_id GROUP BY 1, 2, 3 HAVING sum(r.requests)",
        )
    }


@pytest.mark.parametrize("seed", SUITE_SEEDS)
def test_promise_3_what_was_acknowledged_is_at_the_hub_once_whatever_happened(tmp_path: Path, seed: int) -> None:
    endure(tmp_path, seed)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with two sidecars."""
    with fleet(tmp_path, "web-1", "web-2") as running:
        yield running


def spent(data_dir: Path) -> tuple[int, int]:
    """(records, nano-USD) of all hours."""
    sums = [(amounts[1], amounts[0]) for amounts in totals(data_dir).values()]
    return sum(requests for requests, _ in sums), sum(nano for _, nano in sums)


@pytest.mark.parametrize("door", [GrpcDoor, BatchDoor, ColumnsDoor], ids=lambda door: door.name)
def test_promise_3_a_request_id_sent_to_two_sidecars_counts_once_everywhere(pair: Fleet, door: type) -> None:
    first, second = pair.sidecars
    calls = [Call(n, f"shared-{n}") for n in range(30)]
    nano = sum(call.expected_nano or 0 for call in calls)
    for each in (first, second):
        outcomes = send(door, each.running, *calls, Call(100 + each.starts, f"own-{each.name}"))
        assert {(outcome.word, outcome.duplicate) for outcome in outcomes} == {("kept", False)}
        pair.drain()
    agree(pair.data_dir, first.data_dir, second.data_dir)
    own = Call(0).expected_nano or 0
    assert spent(pair.data_dir) == (32, nano + 2 * own)
    assert spent(first.data_dir) == (31, nano + own)
    assert spent(second.data_dir) == (1, own), "what came second is taken back"
    assert len(taken_back(second.data_dir)) == 30
    assert {kind for (kind,) in query(second.data_dir, "SELECT kind FROM adjustment")} == {"duplicate"}
    listed = pair.sources()
    assert (listed["web-1"]["duplicates"], listed["web-2"]["duplicates"]) == (0, 30)
    # A retry at either sidecar is still a duplicate, and changes nothing.
    for each in (first, second):
        assert all(outcome.duplicate for outcome in send(door, each.running, *calls))
    pair.drain()
    assert spent(pair.data_dir) == (32, nano + 2 * own)
    pair.check()


def test_promise_3_a_batch_with_an_id_sent_to_two_sidecars_counts_once(pair: Fleet) -> None:
    first, second = pair.sidecars
    calls = [Call(n) for n in range(50)]
    for each in (first, second):
        assert {outcome.word for outcome in send(NamedBatchDoor, each.running, *calls)} == {"kept"}
        pair.drain()
    agree(pair.data_dir, first.data_dir, second.data_dir)
    assert spent(pair.data_dir) == (50, 50 * (Call(0).expected_nano or 0))
    assert spent(second.data_dir) == (0, 0)


@pytest.mark.soak
def test_promise_3_over_hundreds_of_schedules(tmp_path: Path) -> None:
    first = int(os.environ.get("COSTD_SEED") or random.SystemRandom().getrandbits(31))
    for seed in range(first, first + int(os.environ.get("COSTD_KILL_ROUNDS") or 200)):
        print(f"COSTD_SEED={seed}")  # shown when it fails
        endure(tmp_path / str(seed), seed)
        shutil.rmtree(tmp_path / str(seed))  # hundreds of ledgers would fill the disk
