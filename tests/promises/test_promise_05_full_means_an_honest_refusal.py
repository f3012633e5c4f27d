"""Promise 5: full means an honest refusal, with a time to try again; memory stays flat, and it recovers by itself.

The queue is filled by holding the database's write lock from outside; the disk is a small file system of its own, and
where that cannot be mounted (and besides) a limit on the size of files. No mocks.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import harness
from callers import DOORS, BatchDoor, Call, GrpcDoor, HttpDoor, Outcome, reported, rows, send, stubs, summed
from costd.v1 import admin_pb2
from harness import Daemon

Launch = Callable[..., Daemon]
ENTRY = {"type": "cost", "service": "OpenAI", "data": {"amount": 1, "month": 3, "year": 2026}}
#: What a daemon may grow by under a flood it refuses: allocator noise, far below the flood itself.
_NOISE_BYTES = 24 << 20


def is_ready(daemon: Daemon) -> bool:
    """Whether it says that it takes records."""
    return daemon.client.get("/v1/health").status_code == 200


def rss_bytes(daemon: Daemon) -> int:
    """The daemon's resident memory."""
    fields = Path(f"/proc/{daemon.process.pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def check_honest(outcomes: list[Outcome], *, queue: bool) -> None:
    """Every refusal is one of load or of space, and says when to try again."""
    grpc_status = "RESOURCE_EXHAUSTED" if queue else "UNAVAILABLE"
    for outcome in outcomes:
        if outcome.word != "kept":
            assert outcome.word == "refused", outcome
            assert outcome.status in {grpc_status, "503"}, outcome
            in_batch = '"retryAfter"' in outcome.body and outcome.status == "503"
            assert (outcome.retry_s or 0) > 0 or in_batch, outcome


@contextmanager
def locked(daemon: Daemon) -> Iterator[None]:
    """Keep the writer waiting, as another program at the same file would."""
    connection = sqlite3.connect(daemon.database, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


@pytest.mark.parametrize("limit", [("--queue-max-records", "20"), ("--queue-max-bytes", "20000")], ids=lambda o: o[0])
def test_promise_5_a_full_queue_refuses_with_a_retry_time_and_records_nothing_of_it(
    launch: Launch, limit: tuple[str, str]
) -> None:
    daemon = launch(*limit)
    calls = [Call(number, f"call-{number}") for number in range(90)]
    with ThreadPoolExecutor(60) as pool:
        with locked(daemon):
            singles = [
                pool.submit(send, (GrpcDoor, HttpDoor)[n % 2], daemon, call) for n, call in enumerate(calls[:60])
            ]
            harness.until(lambda: not is_ready(daemon), "the queue to be full")
            problems = daemon.client.get("/api/health").json()["data"]["problems"]
            assert "the write queue is full" in problems
            harness.until(lambda: sum(one.done() for one in singles) >= 35, "refusals, given at once")
            refused_at_once = send(BatchDoor, daemon, *calls[60:])
            entry = daemon.client.post("/api/ingest", json=ENTRY)
            assert (entry.status_code, int(entry.headers["Retry-After"]) > 0) == (503, True)
        outcomes = [one.result()[0] for one in singles] + refused_at_once
    check_honest(outcomes, queue=True)
    kept = {call.number for call, outcome in zip(calls, outcomes, strict=True) if outcome.word == "kept"}
    assert 10 <= len(kept) <= 25, "what the queue holds, not more"
    assert {row.number for row in rows(daemon)} == kept
    harness.until(lambda: is_ready(daemon), "the queue to have emptied")
    again = [send(make, daemon, call)[0] for make, call in zip(DOORS * 30, calls, strict=True)]
    assert [outcome.duplicate for outcome in again] == [call.number in kept for call in calls]
    assert reported(daemon) == summed(daemon) == (90, 90 * (calls[0].expected_nano or 0))
    assert daemon.query("SELECT count(*) FROM month_entry") == [(0,)]


def test_promise_5_memory_stays_flat_under_a_flood_that_is_refused(launch: Launch) -> None:
    daemon = launch("--queue-max-records", "5")
    flood = [Call(number, f"call-{number}-{'x' * 200}") for number in range(1000)]

    def pour(times: int) -> list[Outcome]:
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda _: send(BatchDoor, daemon, *flood), range(times))
            return [outcome for answer in answers for outcome in answer]

    outcomes = pour(8)
    before = rss_bytes(daemon)
    outcomes += pour(40)
    grown = rss_bytes(daemon) - before
    check_honest(outcomes, queue=True)
    assert sum(outcome.word == "refused" for outcome in outcomes) > 30_000
    assert grown < _NOISE_BYTES, f"{grown >> 20} MiB more after a flood of 40,000 records"
    kept = {outcome.event_id for outcome in outcomes if outcome.word == "kept"}
    assert {row.event_id for row in rows(daemon)} == kept
    assert is_ready(daemon)


def test_promise_5_a_database_locked_for_long_is_refused_honestly_and_served_again(launch: Launch) -> None:
    daemon = launch()
    calls = [Call(n, f"call-{n}") for n in range(3)]
    with locked(daemon):
        outcomes = send(BatchDoor, daemon, *calls)
        check_honest(outcomes, queue=False)
        assert {outcome.word for outcome in outcomes} == {"refused"}
        check_honest([send(make, daemon, calls[0])[0] for make in DOORS], queue=False)
    harness.until(lambda: is_ready(daemon), "the lock to be noticed gone")
    assert [send(make, daemon, call)[0].duplicate for make, call in zip(DOORS, calls, strict=True)] == [False] * 3
    assert summed(daemon)[0] == 3


def test_promise_5_a_ledger_at_its_limit_is_refused_honestly_and_served_again_once_there_is_room(
    launch: Launch,
) -> None:
    daemon = launch("--storage-max-bytes", "4MiB")
    with sqlite3.connect(daemon.database) as connection:  # what will be deleted
        connection.execute("CREATE TABLE ballast AS SELECT zeroblob(2000000) AS room")
    connection.close()
    told = fill_until_refused(daemon, lambda: None, 0)
    assert not is_ready(daemon)
    (problem,) = daemon.client.get("/api/health").json()["data"]["problems"]
    assert problem == "the ledger has the size that storage.max_bytes allows (4,194,304 bytes); nothing was recorded"
    assert all("storage.max_bytes" in outcome.body for _, outcome in told if outcome.word == "refused" and outcome.body)
    told += check_while_full(daemon)
    check_control_writes(daemon)
    before = rss_bytes(daemon)
    calls = [Call(2 * 10**9 + n, f"flood-{n}") for n in range(1000)]
    for _ in range(20):
        check_honest(send(BatchDoor, daemon, *calls), queue=False)
    assert rss_bytes(daemon) - before < _NOISE_BYTES
    with sqlite3.connect(daemon.database) as connection:
        connection.execute("DROP TABLE ballast")
    connection.close()
    harness.until(lambda: is_ready(daemon), "records to be taken again")
    check_books(daemon, told)


# -- the disk ----------------------------------------------------------------------------------------------------------


class SmallDisk:
    """A real file system of a few megabytes at `folder`."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "costd-test", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")

    def fill(self) -> None:
        """Take every byte that is left."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        """Give it back."""
        self._ballast.unlink()

    def unmount(self) -> None:
        """The end of it."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 24 MB, mounted where launch() puts its daemon's data."""
    small = SmallDisk(tmp_path / "data", "24m")
    yield small
    small.unmount()


def fill_until_refused(daemon: Daemon, fill: Callable[[], None], first: int) -> list[tuple[Call, Outcome]]:
    """Records, through all doors in turn, until the disk is so full that one is refused."""
    told: list[tuple[Call, Outcome]] = []
    for number in range(first, first + 20_000):
        fill()
        calls = [Call(number * 100 + n, f"call-{number}-{n}", user=f"{number}-{'u' * 200}-{n}") for n in range(30)]
        told += zip(calls, send(DOORS[number % 3], daemon, *calls), strict=True)
        if told[-1][1].word == "refused":
            return told
    raise AssertionError("the disk never filled up")


def check_while_full(daemon: Daemon) -> list[tuple[Call, Outcome]]:
    """While there is no room: refusals on every door, reads and keys as ever."""
    calls = [Call(10**9 + n, f"while-full-{n}") for n in range(3)]
    told = [(call, send(make, daemon, call)[0]) for call, make in zip(calls, DOORS, strict=True)]
    for path, body in (("/api/ingest", ENTRY), ("/v1/users/upsert", {"external_id": "eve", "source_app": "tests"})):
        answer = daemon.client.post(path, json=body)
        if answer.status_code != 200:  # something small may still fit
            assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True), answer.text
            assert answer.json()["retryAfter"] > 0
    assert daemon.client.get("/api/costs/all").status_code == 200
    assert daemon.client.get("/metrics").status_code == 200
    return told


def check_control_writes(daemon: Daemon) -> None:
    """Keys can be made and revoked on a full disk."""
    with stubs(daemon) as services:
        for number in range(20):
            made = services.admin.CreateKey(
                admin_pb2.CreateKeyRequest(name=f"while-full-{number}"), metadata=services.metadata
            )
            assert (
                daemon.client.get("/api/tokens", headers={"Authorization": f"Bearer {made.secret}"}).status_code == 200
            )
            services.admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=made.key.id), metadata=services.metadata)
            assert (
                daemon.client.get("/api/tokens", headers={"Authorization": f"Bearer {made.secret}"}).status_code == 401
            )


def check_books(daemon: Daemon, told: list[tuple[Call, Outcome]]) -> None:
    """The ledger holds what was acknowledged, all of it and nothing else; then what was refused goes in too."""
    kept = {call.number for call, outcome in told if outcome.word == "kept"}
    check_honest([outcome for _, outcome in told], queue=False)
    assert {row.number for row in rows(daemon)} == kept
    assert summed(daemon) == reported(daemon)
    refused = [call for call, outcome in told if outcome.word == "refused"]
    assert refused
    for call in refused[:50]:
        assert send(GrpcDoor, daemon, call)[0].duplicate is False
    assert summed(daemon)[0] == len(kept) + len(refused[:50])
    assert daemon.stop() == 0
    checked = harness.costd("check", "--data-dir", str(daemon.data_dir), "--json")
    assert json.loads(checked.stdout)["ok"], checked


def test_promise_5_a_full_disk_is_refused_honestly_with_nothing_half_written(launch: Launch, disk: SmallDisk) -> None:
    daemon = launch("--disk-reserve-bytes", "1MiB")
    told = fill_until_refused(daemon, disk.fill, 0)
    harness.until(lambda: not is_ready(daemon), "health to tell the truth")
    told += check_while_full(daemon)
    check_control_writes(daemon)
    disk.make_room()
    harness.until(lambda: is_ready(daemon), "records to be taken again")
    check_books(daemon, told)


def test_promise_5_a_key_can_be_revoked_on_a_full_disk_before_anybody_noticed_that_it_is_full(
    launch: Launch, disk: SmallDisk
) -> None:
    daemon = launch("--disk-reserve-bytes", "1MiB")
    disk.fill()
    check_control_writes(daemon)
    disk.make_room()
    harness.until(lambda: is_ready(daemon), "records to be taken again")
    assert send(GrpcDoor, daemon, Call(1))[0].word == "kept"


def test_promise_5_a_daemon_started_on_a_full_disk_lives_on_its_reserve_until_there_is_room(
    launch: Launch, disk: SmallDisk
) -> None:
    daemon = launch("--disk-reserve-bytes", "1MiB")
    told = [(Call(1), send(GrpcDoor, daemon, Call(1))[0])]
    disk.fill()
    daemon.kill()
    daemon = launch("--disk-reserve-bytes", "1MiB")
    told += fill_until_refused(daemon, lambda: None, 1)
    told += check_while_full(daemon)
    check_control_writes(daemon)
    disk.make_room()
    harness.until(lambda: is_ready(daemon), "records to be taken again")
    check_books(daemon, told)


def test_promise_5_without_any_room_at_all_the_start_says_so_and_the_next_one_has_everything(
    launch: Launch, disk: SmallDisk
) -> None:
    daemon = launch("--disk-reserve-bytes", "1MiB")
    told = fill_until_refused(daemon, disk.fill, 0)
    daemon.kill()
    for name in ("reserve", "costd.db-shm"):  # the second is what every start makes anew
        (disk.folder / name).unlink(missing_ok=True)
    disk.fill()
    ended = harness.costd("run", "--data-dir", str(daemon.data_dir), "--http-listen", "127.0.0.1:0", timeout_s=20)
    assert (ended.returncode, "disk" in ended.stderr, "Traceback" in ended.stderr) == (5, True, False), ended
    disk.make_room()
    check_books(launch("--disk-reserve-bytes", "1MiB"), told)


def test_promise_5_a_limit_on_files_is_refused_honestly_with_nothing_half_written(launch: Launch) -> None:
    daemon = launch("--disk-reserve-bytes", "64KiB")
    send(BatchDoor, daemon, *(Call(-n, f"first-{n}") for n in range(1, 10)))
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    told = [(Call(-n, f"first-{n}"), Outcome("kept", "")) for n in range(1, 10)]
    largest = max(path.stat().st_size for path in daemon.data_dir.iterdir() if path.name.startswith("costd.db"))
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (largest + 100_000, hard))
    told += fill_until_refused(daemon, lambda: None, 0)
    told += check_while_full(daemon)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    harness.until(lambda: is_ready(daemon), "records to be taken again")
    check_books(daemon, told)
