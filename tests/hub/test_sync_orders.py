"""What the operator of a sidecar wants done with what the hub has set aside: it is done there, and shows here."""

from __future__ import annotations

import json
from typing import Any

from members import Launch, audit, join

from callers import Call, GrpcDoor, send, summed
from harness import Daemon, costd, until


def quarantine(daemon: Daemon) -> list[dict[str, Any]]:
    """All that was set aside, as the command lists it."""
    done = costd("quarantine", "list", "--all", "--json", "--data-dir", str(daemon.data_dir))
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["entries"])


def state(daemon: Daemon) -> tuple[Any, ...]:
    """(state, order) of the only thing that was set aside; () where nothing was."""
    rows = daemon.query("SELECT state, ordered FROM quarantine")
    return rows[0] if rows else ()


def settle(daemon: Daemon, action: str) -> None:
    [(quarantine_id,)] = daemon.query("SELECT id FROM quarantine")
    done = costd("quarantine", action, quarantine_id, "--data-dir", str(daemon.data_dir))
    assert done.returncode == 0, done.stderr


def counted(daemon: Daemon) -> int:
    """Records that count, by the rollups."""
    return int(daemon.query("SELECT coalesce(sum(requests), 0) FROM rollup")[0][0])


def two_that_disagree(launch: Launch) -> tuple[Daemon, Daemon, Daemon]:
    """A hub and two sidecars that recorded different things under one request id; the second's was set aside."""
    hub = launch(name="hub", command="hub")
    first, second = (join(launch, hub, name, "default") for name in ("web-1", "web-2"))
    assert send(GrpcDoor, first, Call(1, request_id="twice", input_tokens=10))[0].word == "kept"
    until(lambda: summed(hub)[0] == 1, "the first to arrive")
    assert send(GrpcDoor, second, Call(2, request_id="twice", input_tokens=20))[0].word == "kept"
    assert send(GrpcDoor, second, Call(3, input_tokens=30))[0].word == "kept"
    until(lambda: state(second) == ("held", ""), "the second to be set aside", 30)
    until(lambda: counted(hub) == 2, "the rest to go on")
    return hub, first, second


def test_what_is_dropped_by_the_word_of_its_source_counts_at_neither_end(launch: Launch) -> None:
    hub, _, second = two_that_disagree(launch)
    assert counted(second) == 2
    settle(second, "drop")
    until(lambda: state(second) == ("dropped", ""), "the hub to have dropped it", 30)
    assert state(hub)[0] == "dropped"
    until(lambda: counted(second) == 1, "it to be taken back")
    [(actor, _, _)] = audit(hub, "quarantine.dropped")
    assert (actor,) in hub.query("SELECT key_id FROM source WHERE name = 'web-2'")
    # What was taken back goes its way to the hub, where there is nothing to take back.
    until(lambda: counted(hub) == 2, "both ends to agree")


def test_what_the_hub_drops_is_taken_back_at_its_source(launch: Launch) -> None:
    hub, first, second = two_that_disagree(launch)
    settle(hub, "drop")
    until(lambda: state(second) == ("dropped", ""), "its source to hear of it", 30)
    until(lambda: counted(first) + counted(second) == counted(hub) == 2, "all ends to agree")


def test_an_order_that_cannot_be_carried_out_is_answered_too(launch: Launch) -> None:
    _, _, second = two_that_disagree(launch)
    settle(second, "retry")
    until(lambda: state(second) == ("held", ""), "the answer that it is held as before", 30)
    # So it may be ordered again, and otherwise.
    settle(second, "drop")
    until(lambda: state(second) == ("dropped", ""), "the hub to have dropped it", 30)


def test_what_went_in_between_stays_counted_when_the_rest_is_dropped(launch: Launch) -> None:
    """So many single records of one range that they are set aside as one stretch, with those between them."""
    hub = launch(name="hub", command="hub")
    first = join(launch, hub, "web-1", "default")
    for number in range(20):
        send(GrpcDoor, first, Call(number, request_id=f"taken-{number}", input_tokens=10))
    until(lambda: counted(hub) == 20, "the first's to arrive")
    alone = launch(name="web-2")
    for number in range(20):
        send(GrpcDoor, alone, Call(100 + number, request_id=f"taken-{number}", input_tokens=20))
        send(GrpcDoor, alone, Call(200 + number, input_tokens=30))
    assert alone.stop() == 0
    second = join(launch, hub, "web-2", "default")
    until(lambda: counted(hub) == 40 and state(second) == ("held", ""), "the rest to go in", 30)
    settle(second, "drop")
    until(lambda: state(second) == ("dropped", "") and counted(second) == 20, "it to be taken back", 30)
    until(lambda: costs(hub) == costs(first) + costs(second), "all ends to agree", 30)
    assert counted(hub) == 40


def costs(daemon: Daemon) -> int:
    """Nano-USD, by the rollups."""
    usd, nano = daemon.query("SELECT sum(cost_usd), sum(cost_nano) FROM rollup")[0]
    return int(usd) * 10**9 + int(nano)
