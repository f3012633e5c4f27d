"""Whatever way a record comes, and however often, each window it falls under is charged with it once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
from budget_calls import HttpDoor, Spend, set_budget, standing
from callers import ALL_DOORS, Call, Outcome, record_json, send, some_call
from costd.v1 import budget_pb2
from harness import Daemon

Launch = Callable[..., Daemon]
SEED = 20_261_128
#: Enough for all.
PLENTY_CENTS = 10**11
USERS = ("ada", "grace", "linus")


@pytest.fixture
def running(launch: Launch) -> Iterator[Daemon]:
    """A daemon with budgets of several shapes."""
    daemon = launch()
    set_budget(daemon, "all", PLENTY_CENTS, scope={"org": "default"}, period="day", hard=True)
    set_budget(daemon, "users", PLENTY_CENTS, scope={"model": "gpt-4o"}, each="user", period="total", hard=True)
    set_budget(daemon, "night", PLENTY_CENTS, scope={"tag": "night"}, period="month", timezone="Asia/Kathmandu")
    yield daemon
    checked = harness.costd("check", "--data-dir", str(daemon.data_dir))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def settled(daemon: Daemon, name: str, value: str = "") -> int:
    """What is settled in the present window of a budget, net of what was credited."""
    return standing(daemon, name, value).settled_nano_usd


def sums(calls: Sequence[Call]) -> dict[tuple[str, str], int]:
    """What the windows must hold of these calls."""
    costs = {call: call.expected_nano or 0 for call in calls}
    of_user = {
        ("users", user): sum(cost for call, cost in costs.items() if call.user == user and call.model == "gpt-4o")
        for user in USERS
    }
    night = sum(cost for call, cost in costs.items() if "night" in call.tags)
    return {("all", ""): sum(costs.values()), ("night", ""): night, **of_user}


def assert_charged(daemon: Daemon, calls: Sequence[Call]) -> None:
    """Every window holds what the calls come to."""
    for (name, value), nano in sums(calls).items():
        assert settled(daemon, name, value) == nano, (name, value)


def send_shuffled(daemon: Daemon, calls: Sequence[Call], rng: random.Random) -> list[Outcome]:
    """Every call once, through a random door, by four callers at once."""
    shuffled = list(calls)
    rng.shuffle(shuffled)
    chunks = [shuffled[start : start + 10] for start in range(0, len(shuffled), 10)]
    doors = [rng.choice(ALL_DOORS) for _ in chunks]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda chunk, door: send(door, daemon, *chunk), chunks, doors)
        return [outcome for answer in answers for outcome in answer]


def test_over_all_doors_again_and_again(running: Daemon, launch: Launch) -> None:
    rng = random.Random(SEED)
    calls = [some_call(rng, number, with_id=True) for number in range(200)]
    assert {outcome.word for outcome in send_shuffled(running, calls, rng)} == {"kept"}
    assert_charged(running, calls)
    send_shuffled(running, calls, rng)
    assert_charged(running, calls)
    conflicting = [call._replace(input_tokens=call.input_tokens + 1) for call in calls if call.request_id]
    assert {outcome.word for outcome in send_shuffled(running, conflicting, rng)} == {"refused"}
    assert_charged(running, calls)
    running.stop()
    again = launch()
    assert_charged(again, calls)
    send_shuffled(again, calls, rng)
    assert_charged(again, calls)


def test_a_record_that_is_taken_back_is_credited_once(running: Daemon) -> None:
    calls = [Call(number, f"call-{number}", input_tokens=1_000 * number, tags=("night",)) for number in range(1, 4)]
    send(ALL_DOORS[0], running, *calls)
    for _ in range(2):
        out = harness.costd("void", "call-2", "--reason", "twice", "--data-dir", str(running.data_dir), "--json")
        assert out.returncode == 0, out.stderr
    assert_charged(running, [calls[0], calls[2]])


def test_what_is_priced_later_is_charged_then(running: Daemon) -> None:
    odd = Call(1, "odd", model="gpt-4o", input_tokens=1_000_000, output_tokens=0)
    send(ALL_DOORS[0], running, odd, Call(2, "unpriced", model="nobodys-model", input_tokens=1_000_000))
    assert settled(running, "all") == odd.expected_nano
    folder = ("--data-dir", str(running.data_dir))
    made = harness.costd("prices", "set", "nobodys-model", "--input-per-mtok", "2", "--free", *folder)
    assert made.returncode == 0, made.stderr
    done = harness.costd("prices", "reprice", "--yes", *folder)
    assert done.returncode == 0, done.stderr
    assert settled(running, "all") == (odd.expected_nano or 0) + 2 * 10**9
    set_budget(running, "cheaper", PLENTY_CENTS, scope={"org": "default"}, period="day")
    made = harness.costd("prices", "set", "nobodys-model", "--input-per-mtok", "0.5", "--from", "always", *folder)
    assert made.returncode == 0, made.stderr
    done = harness.costd("prices", "reprice", "--yes", *folder)
    assert done.returncode == 0, done.stderr
    for name in ("all", "cheaper"):
        assert settled(running, name) == (odd.expected_nano or 0) + 5 * 10**8


def test_a_budget_begins_with_what_was_spent_before_it(running: Daemon) -> None:
    rng = random.Random(SEED)
    calls = [some_call(rng, number, with_id=False) for number in range(100)]
    send_shuffled(running, calls[:50], rng)

    def made(number: int) -> budget_pb2.Budget:
        each = ("", "user", "tag")[number % 3]
        return set_budget(running, f"late-{number}", PLENTY_CENTS, scope={"org": "default"}, each=each, period="week")

    with ThreadPoolExecutor(2) as pool:
        making = [pool.submit(made, number) for number in range(12)]
        send_shuffled(running, calls[50:], rng)
        for each in making:
            each.result()
    costs = {call: call.expected_nano or 0 for call in calls}
    for number in range(0, 12, 3):
        assert settled(running, f"late-{number}") == sum(costs.values())
        for user in USERS:
            mine = sum(cost for call, cost in costs.items() if call.user == user)
            assert settled(running, f"late-{number + 1}", user) == mine
        for tag in ("batch", "night"):
            mine = sum(cost for call, cost in costs.items() if tag in call.tags)
            assert settled(running, f"late-{number + 2}", tag) == mine
        untagged = running.query(
            "SELECT w.settled_nano FROM budget_window w JOIN budget b ON b.id = w.budget_id "
            "WHERE b.name = ? AND w.value = ''",
            f"late-{number + 2}",
        )
        assert untagged == [(sum(cost for call, cost in costs.items() if not call.tags),)]


def test_another_period_begins_with_what_was_spent_in_it(running: Daemon) -> None:
    send(ALL_DOORS[0], running, Call(1, input_tokens=1_000_000))
    before = settled(running, "all")
    set_budget(running, "all", PLENTY_CENTS, scope={"org": "default"}, period="year", timezone="America/New_York")
    assert settled(running, "all") == before > 0
    send(ALL_DOORS[0], running, Call(2, input_tokens=1_000_000))
    assert settled(running, "all") == 2 * before


def test_a_batch_settles_the_reservations_of_its_records(running: Daemon) -> None:
    door = HttpDoor(running)
    for number, make in enumerate(ALL_DOORS):
        request_id = f"reserved-{number}"
        assert door.ask(Spend(5, request_id)).allow
        assert standing(running, "all").reserved_nano_usd == 5 * 10**7
        call = Call(number, request_id, input_tokens=1_000, output_tokens=0)
        assert [outcome.word for outcome in send(make, running, call)] == ["kept"]
        assert standing(running, "all").reserved_nano_usd == 0, make.name
        assert door.ask(Spend(5, f"{request_id}-again")).allow
        (first,) = running.query("SELECT charged_ms FROM event ORDER BY seq DESC LIMIT 1")
        assert first[0] is not None, make.name
        door.release(f"{request_id}-again")
    door.close()
    # And a repeated record settles what was reserved for it since.
    body = json.loads(json.dumps(record_json(Call(0, "reserved-0", input_tokens=1_000, output_tokens=0))))
    assert running.client.post("/v1/usage/record", json=body).json()["duplicate"]
