"""Promise 1: whoever was told OK finds the record after a crash, once, with its id and its cost.

A real daemon is loaded through every door (gRPC calls, batches and streams, HTTP records and batches), and killed with
SIGKILL at a random moment. It is started again on the same folder, and what the callers were told is compared with what
the database holds; then everything that got no answer is sent again under its own id, through whichever door.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

import harness
from callers import ALL_DOORS, Call, Door, GrpcDoor, HttpDoor, Outcome, Row, reported, rows, some_call, summed
from harness import Daemon

SUITE_ROUNDS = 20
SOAK_ROUNDS = 200
_CALLERS = 10
_BATCH = 24
_LONGEST_LOAD_S = 0.6


@dataclass
class Books:
    """What the callers know: everything sent, what they were told, and what they are still waiting for."""

    sent: dict[int, Call] = field(default_factory=dict)
    told: dict[int, Outcome] = field(default_factory=dict)
    found: dict[int, Row] = field(default_factory=dict)
    last_seq: int = 0

    @property
    def unanswered(self) -> list[Call]:
        """Calls whose fate their callers do not know."""
        return [call for number, call in self.sent.items() if number not in self.told]

    def note(self, call: Call, outcome: Outcome) -> None:
        """Take down an answer."""
        if outcome.word == "lost":
            return
        assert outcome.word == "kept", (call, outcome)
        assert outcome.cost_nano == call.expected_nano, (call, outcome)
        earlier = self.told.get(call.number)
        if earlier is None or not earlier.event_id:  # streams tell no ids
            self.told[call.number] = outcome
        elif outcome.event_id:
            assert earlier.event_id == outcome.event_id, f"two ids for one record: {call} {earlier} {outcome}"


class Load:
    """Callers that send until nobody answers any more."""

    def __init__(self, daemon: Daemon, books: Books, rng: random.Random, numbers: Iterator[int]) -> None:
        self._books = books
        self._numbers = numbers
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        doors = [ALL_DOORS[n % len(ALL_DOORS)](daemon) for n in range(_CALLERS)]
        seeds = [rng.getrandbits(64) for _ in doors]
        self._threads = [
            threading.Thread(target=self._run, args=(door, random.Random(seed)), daemon=True)
            for door, seed in zip(doors, seeds, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for everyone to have noticed; raises what went wrong on the way."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a caller still waits for an answer"
        if self._errors:
            raise self._errors[0]

    def _run(self, door: Door, rng: random.Random) -> None:
        try:
            while self._once(door, rng):
                pass
        except BaseException as error:
            self._errors.append(error)
        finally:
            door.close()

    def _once(self, door: Door, rng: random.Random) -> bool:
        calls = self._next(rng, 1 if type(door) in {GrpcDoor, HttpDoor} else _BATCH)
        outcomes = door.send(calls)
        with self._lock:
            for call, outcome in zip(calls, outcomes, strict=True):
                self._books.note(call, outcome)
        return not any(outcome.word == "lost" for outcome in outcomes)

    def _next(self, rng: random.Random, size: int) -> list[Call]:
        """New calls, most with ids of their own, and now and then one again that was answered before."""
        with self._lock:
            calls = [some_call(rng, next(self._numbers), with_id=rng.random() < 0.7) for _ in range(size)]
            self._books.sent.update((call.number, call) for call in calls)
            if self._books.told and rng.random() < 0.2:
                again = self._books.sent[rng.choice(list(self._books.told)[-200:])]
                calls += [again] * bool(again.request_id)
            return calls


def compare(daemon: Daemon, books: Books) -> None:
    """Hold what the callers were told against the database, as far as it is new."""
    for row in rows(daemon, books.last_seq):
        books.last_seq = row.seq
        call = books.sent[row.number]
        assert row.number not in books.found, f"held twice: {call}"
        assert (row.request_id, row.cost_nano) == (call.request_id, call.expected_nano), (row, call)
        assert (row.input_tokens, row.output_tokens) == (call.input_tokens, call.output_tokens), (row, call)
        books.found[row.number] = row
    lost = [books.sent[number] for number in books.told if number not in books.found]
    assert not lost, f"{len(lost)} records were acknowledged and are gone, among them {lost[:3]}"
    for number, outcome in books.told.items():
        assert outcome.event_id in {"", books.found[number].event_id}, (
            books.sent[number],
            outcome,
            books.found[number],
        )
    assert daemon.query("SELECT count(*), count(DISTINCT request_id) FROM request")[0] == (
        (len([row for row in books.found.values() if row.request_id]),) * 2
    )
    expected = (len(books.found), sum(row.cost_nano or 0 for row in books.found.values()))
    assert summed(daemon) == expected
    assert reported(daemon) == expected


def send_again(daemon: Daemon, books: Books, rng: random.Random) -> None:
    """What got no answer is sent again with its id, and is new exactly when the database did not hold it."""
    again = [call for call in books.unanswered if call.request_id]
    rng.shuffle(again)
    doors = [make(daemon) for make in ALL_DOORS]
    for call in again:
        outcome = rng.choice(doors).send([call])[0]
        assert outcome.duplicate == (call.number in books.found), (call, outcome)
        books.note(call, outcome)
        assert call.number in books.told
    for door in doors:
        door.close()
    for call in books.unanswered:  # without an id nobody can ask: kept or not, but not twice
        del books.sent[call.number]
        if row := books.found.get(call.number):
            books.sent[call.number] = call
            books.told[call.number] = Outcome("kept", "", row.event_id, row.cost_nano)


def kill_over_and_over(data_dir: Path, rounds: int, seed: int) -> Books:
    """Load, kill, compare: `rounds` times on one folder."""
    rng = random.Random(seed)
    books = Books()
    numbers = count()
    for _ in range(rounds):
        with alive(data_dir) as daemon:
            compare(daemon, books)
            send_again(daemon, books, rng)
            compare(daemon, books)
            load = Load(daemon, books, rng, numbers)
            time.sleep(rng.uniform(0, _LONGEST_LOAD_S))  # the moment of the crash: nothing is waited for
            daemon.kill()
            load.join()
        if rng.random() < 0.3:
            crash_while_starting(data_dir, rng)
    with alive(data_dir) as daemon:
        compare(daemon, books)
        send_again(daemon, books, rng)
        compare(daemon, books)
        assert daemon.stop() == 0, daemon.log
    checked = harness.costd("check", "--data-dir", str(data_dir), "--json")
    assert checked.returncode == 0, checked
    assert json.loads(checked.stdout)["events"] == len(books.found)
    assert "ERROR" not in daemon.log
    return books


@contextmanager
def alive(data_dir: Path) -> Iterator[Daemon]:
    """A daemon that is gone afterwards, whatever happens."""
    daemon = harness.start(data_dir)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


def crash_while_starting(data_dir: Path, rng: random.Random) -> None:
    """Start a daemon and kill it somewhere on its way up."""
    command = [sys.executable, "-m", "costd", "run", "--data-dir", str(data_dir)]
    command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    with (data_dir.parent / "crashed.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=harness.clean_env())
    time.sleep(rng.uniform(0.05, 0.7))
    process.kill()
    process.wait(10)


def run(data_dir: Path, rounds: int) -> None:
    """The test itself; COSTD_SEED repeats a run's choices (though not its timing)."""
    seed = int(os.environ.get("COSTD_SEED") or random.SystemRandom().getrandbits(32))
    print(f"COSTD_SEED={seed}")  # shown when it fails
    books = kill_over_and_over(data_dir, rounds, seed)
    assert len(books.told) > rounds * 20, "hardly anything was sent: this proves nothing"


def test_promise_1_what_was_acknowledged_survives_kill_9_once(tmp_path: Path) -> None:
    run(tmp_path / "data", int(os.environ.get("COSTD_KILL_ROUNDS") or SUITE_ROUNDS))


@pytest.mark.soak
def test_promise_1_what_was_acknowledged_survives_200_kills(tmp_path: Path) -> None:
    run(tmp_path / "data", int(os.environ.get("COSTD_KILL_ROUNDS") or SOAK_ROUNDS))


def test_promise_1_a_crash_in_the_first_start_leaves_a_folder_that_the_next_one_takes_over(tmp_path: Path) -> None:
    seed = int(os.environ.get("COSTD_SEED") or random.SystemRandom().getrandbits(32))
    print(f"COSTD_SEED={seed}")
    rng = random.Random(seed)
    for number in range(4):
        data_dir = tmp_path / f"first{number}" / "data"
        data_dir.parent.mkdir()
        for _ in range(3):
            crash_while_starting(data_dir, rng)
        daemon = harness.start(data_dir)
        assert daemon.client.post("/v1/usage/record", json=ONE).status_code == 200
        assert daemon.query("SELECT count(*) FROM api_key") == [(1,)]
        assert daemon.stop() == 0


ONE = {"user_external_id": "ada", "source_app": "tests", "model": "gpt-4o", "units": {"input_tokens": 1}}
