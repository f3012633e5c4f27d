"""Promise 15: health tells the truth. A stalled writer is not ready, and the watchdog restarts it.

The stall is real: a disk whose fsync does not come back, made by a library that is loaded before the C library. The
tests are the service manager.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import harness
from callers import Call, GrpcDoor, HttpDoor, reported, rows, send
from costd.clock import Clock, ManualClock
from costd.metrics import Metrics
from costd.services.health import STALL_S, Health
from costd.store.commit import Change
from costd.store.reader import Readers
from harness import Daemon
from ledger import NOW_MS, writing
from service_manager import ServiceManager, managing

Launch = Callable[..., Daemon]
WATCHDOG_S = 1.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

#: fsync and fdatasync that wait while there is a file at $SYNC_HANGS_AT.
HANGING_DISK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void hang(void) {
    const char *path = getenv("SYNC_HANGS_AT");
    while (path && access(path, F_OK) == 0) usleep(20000);
}

int fsync(int file) { hang(); return syscall(SYS_fsync, file); }
int fdatasync(int file) { hang(); return syscall(SYS_fdatasync, file); }
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """A service manager that wants a ping every second."""
    with managing(tmp_path, WATCHDOG_S) as listening:
        yield listening


class HangingDisk:
    """A disk that hangs on demand, for the daemons that are started with its `variables`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler here to make a disk that hangs")
        self._switch = folder / "hang"
        source, library = folder / "disk.c", folder / "disk.so"
        source.write_text(HANGING_DISK)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        self.variables = {"LD_PRELOAD": str(library), "SYNC_HANGS_AT": str(self._switch)}

    def hang(self) -> None:
        """Let no sync return from here on."""
        self._switch.touch()

    def heal(self) -> None:
        """Let them return."""
        self._switch.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[HangingDisk]:
    """A disk of the test's own."""
    made = HangingDisk(tmp_path)
    yield made
    made.heal()


def problems(daemon: Daemon) -> list[str]:
    """What keeps the daemon from being ready."""
    answer = daemon.client.get("/api/health")
    found = answer.json()["data"]["problems"]
    assert (answer.status_code == 200) == (not found)
    return list(found)


@contextmanager
def watching(daemon: Daemon) -> Iterator[list[int]]:
    """What a gRPC client that watches the daemon's health is told."""
    told: list[int] = []
    with grpc.insecure_channel(daemon.grpc) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())

        def listen() -> None:
            with contextlib.suppress(grpc.RpcError):
                for answer in watch:
                    told.append(answer.status)  # noqa: PERF401 - one by one, as they come

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield told
        finally:
            watch.cancel()
            thread.join(10)


def test_promise_15_ready_is_told_when_the_doors_are_open_and_stopping_when_they_close(
    tmp_path: Path, launch: Launch, manager: ServiceManager
) -> None:
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(launch, env=manager.variables)
        assert manager.message() == {"STATUS": "opening the ledger"}
        assert manager.message() == {"READY": "1", "STATUS": "taking records"}
        addresses = json.loads((tmp_path / "data" / "daemon.json").read_text())
        assert harness.costd("health", "--address", addresses["grpc"]).returncode == 0
        daemon = starting.result()
    assert all(manager.is_pinged(WATCHDOG_S) for _ in range(3))
    assert daemon.stop() == 0
    manager.until("STOPPING")
    assert not manager.is_pinged(WATCHDOG_S)


def test_promise_15_a_daemon_that_cannot_start_never_says_that_it_is_ready(
    tmp_path: Path, manager: ServiceManager
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "costd.db").write_bytes(b"no database" * 1000)
    done = harness.costd("run", "--data-dir", str(tmp_path / "data"), env=manager.variables)
    assert done.returncode == 4
    assert manager.message() == {"STATUS": "opening the ledger"}
    with pytest.raises(TimeoutError):
        manager.message(0.1)


def test_promise_15_a_stalled_writer_is_not_ready_and_the_watchdog_restarts_it(
    launch: Launch, manager: ServiceManager, disk: HangingDisk
) -> None:
    variables = manager.variables | disk.variables | {"PYTHONFAULTHANDLER": "1"}
    daemon = launch(env=variables)
    calls = [Call(number, f"call-{number}") for number in range(6)]
    assert [send(GrpcDoor, daemon, call)[0].word for call in calls[:3]] == ["kept"] * 3
    with ThreadPoolExecutor(1) as pool, watching(daemon) as told:
        harness.until(lambda: told == [SERVING], "the watch to begin")
        disk.hang()
        unanswered = pool.submit(send, GrpcDoor, daemon, calls[3])
        assert manager.is_pinged(WATCHDOG_S), "slow is not stalled"
        harness.until(lambda: problems(daemon) != [], "the stall to be noticed", STALL_S + 10)
        assert "the writer has been stuck" in problems(daemon)[0]
        harness.until(lambda: told == [SERVING, NOT_SERVING], "the watch to be told")
        manager.until("STATUS", "the writer has been stuck")
        assert harness.costd("health", "--data-dir", str(daemon.data_dir)).returncode == 1
        assert not manager.is_pinged(2 * WATCHDOG_S)
        daemon.process.send_signal(signal.SIGABRT)  # as WatchdogSignal= has it
        assert daemon.process.wait(10) == -signal.SIGABRT
        daemon.client.close()
        assert unanswered.result()[0].word == "lost"
    assert "in _finish" in daemon.log, "where it was stuck is in the log"
    disk.heal()
    manager.forget()
    again = launch(env=variables)
    manager.until("READY")
    outcomes = [send(HttpDoor, again, call)[0] for call in calls]
    assert [outcome.word for outcome in outcomes] == ["kept"] * 6
    assert [outcome.duplicate for outcome in outcomes[:3]] == [True] * 3
    assert sorted(row.number for row in rows(again)) == list(range(6))
    assert reported(again)[0] == 6
    assert manager.is_pinged(WATCHDOG_S)


def limit_files(daemon: Daemon, size: int) -> None:
    """Let the daemon make no file longer than `size` bytes: a full disk, to it."""
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_promise_15_a_full_disk_is_not_ready_and_no_reason_for_a_restart(
    launch: Launch, manager: ServiceManager
) -> None:
    daemon = launch("--disk-reserve-bytes", "0", env=manager.variables)
    limit_files(daemon, 4096)
    assert send(GrpcDoor, daemon, Call(1))[0].word == "refused"
    assert problems(daemon)
    manager.until("STATUS", "not ready")
    assert all(manager.is_pinged(WATCHDOG_S) for _ in range(4))
    limit_files(daemon, resource.RLIM_INFINITY)
    harness.until(lambda: problems(daemon) == [], "records to be taken again")
    assert send(GrpcDoor, daemon, Call(1))[0].word == "kept"


def test_promise_15_a_full_queue_and_a_locked_database_are_no_reason_for_a_restart(
    launch: Launch, manager: ServiceManager
) -> None:
    daemon = launch("--queue-max-records", "3", env=manager.variables)
    other = sqlite3.connect(daemon.database, isolation_level=None)
    with ThreadPoolExecutor(5) as pool:
        other.execute("BEGIN IMMEDIATE")
        sending = [pool.submit(send, HttpDoor, daemon, Call(number)) for number in range(5)]
        harness.until(lambda: "the write queue is full" in problems(daemon), "the queue to be full")
        assert manager.is_pinged(WATCHDOG_S)
        harness.until(lambda: any("last error" in one for one in problems(daemon)), "the lock to be given up")
        assert all(manager.is_pinged(WATCHDOG_S) for _ in range(4))
        other.close()
        assert "refused" in {one.result()[0].word for one in sending}
    harness.until(lambda: problems(daemon) == [], "records to be taken again")


@contextmanager
def looked_after(folder: Path, clock: ManualClock) -> Iterator[tuple[Health, Callable[[Change], object]]]:
    """The health of a real writer, and a way to give it work."""
    with writing(folder, clock) as writer:
        readers = Readers(writer.path, Clock())
        try:
            yield Health(writer, readers, clock, Metrics((), 10)), writer.submit
        finally:
            readers.close()


def test_promise_15_a_step_is_stalled_when_it_takes_longer_than_any_lock_can(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        begun.set()
        assert go_on.wait(20)

    with looked_after(tmp_path, clock) as (health, submit):
        submit(Change(slow))
        assert begun.wait(20)
        clock.advance(STALL_S)
        assert (health.stalled(), health.problems()) == (None, [])
        clock.advance(1)
        assert health.stalled() == "the writer has been stuck for 16 s"
        assert health.problems() == [health.stalled()]
        go_on.set()
        harness.until(lambda: health.stalled() is None, "the writer to go on")
        clock.advance(100)
        harness.until(lambda: health.problems() == [], "an idle writer to be well, however long it idles")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_promise_15_a_dead_writer_is_stalled_at_once_unless_the_daemon_is_stopping(tmp_path: Path) -> None:
    def die(_: object) -> None:
        raise SystemExit

    with looked_after(tmp_path, ManualClock(NOW_MS)) as (health, submit):
        submit(Change(die))
        harness.until(lambda: health.stalled() is not None, "the thread to end")
        assert health.problems() == ["the writer is not running"]
        health.stopping()
        assert health.stalled() is None
        assert health.problems() == ["the daemon is stopping"]
