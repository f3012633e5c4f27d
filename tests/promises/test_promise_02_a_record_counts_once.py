"""Promise 2: a record counts once, however often it is sent, on whichever door, before or after a restart.

Everything is sent three times, in another order and through another door each time, by several callers at once; the
totals are those of sending it once, to the nano-dollar. An id that comes back with other content is a conflict on
every door, and changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product

import pytest

from callers import (
    ALL_DOORS,
    DOORS,
    BatchDoor,
    Call,
    GrpcDoor,
    HttpDoor,
    Outcome,
    record_json,
    reported,
    rows,
    send,
    some_call,
    summed,
)
from harness import Daemon

Launch = Callable[..., Daemon]
SEED = 20_261_122


def send_shuffled(daemon: Daemon, calls: Sequence[Call], rng: random.Random) -> dict[int, Outcome]:
    """Every call once, through a random door, by four callers at once."""
    shuffled = list(calls)
    rng.shuffle(shuffled)
    chunks = [shuffled[start : start + 20] for start in range(0, len(shuffled), 20)]
    doors = [rng.choice(ALL_DOORS) for _ in chunks]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda chunk, door: send(door, daemon, *chunk), chunks, doors))
    told = zip(shuffled, (outcome for answer in answers for outcome in answer), strict=True)
    return {call.number: outcome for call, outcome in told}


def test_promise_2_replaying_everything_three_times_over_all_doors_changes_no_total(launch: Launch) -> None:
    rng = random.Random(SEED)
    calls = [some_call(rng, number, with_id=True) for number in range(400)]
    expected = (len(calls), sum(call.expected_nano or 0 for call in calls))
    daemon = launch()
    first = send_shuffled(daemon, calls, rng)
    assert all(outcome.word == "kept" and not outcome.duplicate for outcome in first.values())
    for replay in range(3):
        if replay == 2:
            assert daemon.stop() == 0
            daemon = launch()
        for number, outcome in send_shuffled(daemon, calls, rng).items():
            ids = {outcome.event_id, first[number].event_id} - {""}  # streams tell no ids
            assert len(ids) <= 1
            assert (outcome.word, outcome.duplicate, outcome.cost_nano) == ("kept", True, first[number].cost_nano)
        assert reported(daemon) == summed(daemon) == expected
    held = {row.number: row.event_id for row in rows(daemon)}
    assert held.keys() == first.keys()
    assert all(outcome.event_id in {"", held[number]} for number, outcome in first.items())


def test_promise_2_one_record_sent_by_many_callers_at_the_same_moment_counts_once(launch: Launch) -> None:
    daemon = launch()
    calls = [Call(number, f"same-{number}") for number in range(20)]
    with ThreadPoolExecutor(9) as pool:
        doors = [DOORS[n % 3](daemon) for n in range(9)]
        answers = [list(pool.map(lambda door, c=call: door.send([c])[0], doors)) for call in calls]
    for door in doors:
        door.close()
    for outcomes in answers:
        assert {outcome.word for outcome in outcomes} == {"kept"}
        assert [outcome.duplicate for outcome in outcomes].count(False) == 1
        assert len({(outcome.event_id, outcome.cost_nano) for outcome in outcomes}) == 1
    assert reported(daemon) == summed(daemon) == (20, 20 * (calls[0].expected_nano or 0))


def test_promise_2_the_same_id_with_other_content_is_a_conflict_on_every_pair_of_doors(daemon: Daemon) -> None:
    first = Call(1, input_tokens=7)
    others = {
        "tokens": {"input_tokens": 8},
        "user": {"user": "grace"},
        "model": {"model": "gpt-4o-mini"},
        "cost": {"cost_nano": first.expected_nano},
        "tags": {"tags": ("night",)},
        "number": {"number": 2},
    }
    before = summed(daemon)
    added = 0
    for (one, other), (what, changes) in product(product(ALL_DOORS, ALL_DOORS), others.items()):
        call = first._replace(request_id=f"{one.__name__}-{other.__name__}-{what}")
        kept = send(one, daemon, call)[0]
        assert kept.word == "kept"
        added += 1
        refused = send(other, daemon, call._replace(**changes))[0]
        assert (refused.word, refused.status) in {("refused", "409"), ("refused", "ALREADY_EXISTS")}, (what, refused)
        again = send(other, daemon, call)[0]
        assert (again.word, again.duplicate) == ("kept", True)
    assert summed(daemon) == (before[0] + added, before[1] + added * (first.expected_nano or 0))
    assert summed(daemon) == reported(daemon)


def test_promise_2_the_order_of_tags_and_units_is_no_content(daemon: Daemon) -> None:
    call = Call(3, "ordered", tags=("b", "a"))
    kept = send(GrpcDoor, daemon, call)[0]
    for make, tags in product(DOORS, permutations(("a", "b"))):
        assert send(make, daemon, call._replace(tags=tags))[0].event_id == kept.event_id
    body = record_json(call)
    body["units"] = dict(reversed(body["units"].items()))
    assert daemon.client.post("/v1/usage/record", json=body).status_code == 200


def test_promise_2_repeats_inside_one_batch_count_once_and_a_conflict_there_hits_only_itself(daemon: Daemon) -> None:
    before = summed(daemon)[0]
    call = Call(4, "in-one-batch")
    outcomes = send(BatchDoor, daemon, call, call, call._replace(input_tokens=11), Call(5), call)
    assert [(outcome.word, outcome.duplicate) for outcome in outcomes] == [
        ("kept", False),
        ("kept", True),
        ("refused", False),
        ("kept", False),
        ("kept", True),
    ]
    assert outcomes[2].status == "409"
    assert summed(daemon)[0] == before + 2


def test_promise_2_a_retry_after_the_time_window_has_closed_is_still_recognised(daemon: Daemon) -> None:
    # What a retry says may have become invalid meanwhile; a record that is held is answered all the same.
    call = Call(6, "was-fine-then")
    kept = send(GrpcDoor, daemon, call)[0]
    bad = Call(6, "was-fine-then", at_ms=1_000_000_000_000)
    assert send(GrpcDoor, daemon, bad)[0].status == "ALREADY_EXISTS"
    assert send(HttpDoor, daemon, bad)[0].status == "409"
    assert send(BatchDoor, daemon, bad._replace(request_id="never-held"))[0].status == "400"
    assert send(HttpDoor, daemon, call)[0].event_id == kept.event_id


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        ("/api/ingest", {"type": "cost", "service": "OpenAI", "data": {"amount": 12.5, "month": 3, "year": 2026}},
         {"service": "Mistral"}),
        ("/api/costs/manual", {"service": "openai", "amount": 3.25, "month": 3, "year": 2026}, {"amount": 3.26}),
        ("/api/tokens/track", {"model": "gpt-4o", "inputTokens": 5}, {"inputTokens": 6}),
        ("/v1/usage/record", record_json(Call(7)), {"latency_ms": 3}),
        ("/cost-tracker/v1/usage/record", record_json(Call(8)), {"latency_ms": 3}),
    ],
)  # fmt: skip
def test_promise_2_an_idempotency_key_counts_once_on_every_post_that_records(
    daemon: Daemon, path: str, body: dict[str, object], change: dict[str, object]
) -> None:
    def held() -> list[tuple[int, ...]]:
        return daemon.query("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM month_entry)")

    headers = {"Idempotency-Key": f"key of {path}"}
    first = daemon.client.post(path, json=body, headers=headers)
    assert first.status_code == 200, first.text
    after = held()
    again = daemon.client.post(path, json=body, headers=headers)
    assert again.status_code == 200, again.text
    assert again.text.count('"duplicate":true') == 1
    refused = daemon.client.post(path, json=body | change, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert held() == after


def test_promise_2_one_id_for_a_record_and_a_month_entry_is_a_conflict(daemon: Daemon) -> None:
    headers = {"Idempotency-Key": "both"}
    entry = {"service": "openai", "amount": 3.25, "month": 3, "year": 2026}
    assert daemon.client.post("/api/costs/manual", json=entry, headers=headers).status_code == 200
    assert daemon.client.post("/v1/usage/record", json=record_json(Call(9)), headers=headers).status_code == 409
    assert send(HttpDoor, daemon, Call(10, "both-2"))[0].word == "kept"
    headers = {"Idempotency-Key": "both-2"}
    assert daemon.client.post("/api/costs/manual", json=entry, headers=headers).status_code == 409
