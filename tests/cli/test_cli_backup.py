"""Backups: made while records keep coming, proved, whole or not there; nothing is left behind by a failure."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import harness
from callers import BatchDoor, Call, GrpcDoor, send
from harness import Daemon, clean_env, costd

Launch = Callable[..., Daemon]


def backup(folder: Path, target: Path, *options: str) -> dict[str, Any]:
    """Make a backup; what it says of it."""
    made = costd("backup", str(target), "--data-dir", str(folder), "--json", *options)
    assert made.returncode == 0, made.stderr
    return dict(json.loads(made.stdout))


def refused(code: int, *arguments: str, **options: Any) -> str:
    """The one line that a command says which fails with `code`."""
    done = costd(*arguments, **options)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("costd: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a daemon that was killed with records in its log."""
    daemon = harness.start(tmp_path_factory.mktemp("filled") / "data")
    for _ in range(10):
        send(BatchDoor, daemon, *(Call(n, user=f"user-{n % 50}") for n in range(1000)))
    daemon.kill()
    assert (daemon.data_dir / "costd.db-wal").stat().st_size > 0
    return daemon.data_dir


@pytest.fixture
def folder(tmp_path: Path, filled: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(filled, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock")))


def test_a_backup_is_of_one_moment_while_records_keep_coming(launch: Launch, tmp_path: Path) -> None:
    daemon = launch()
    stop = threading.Event()
    sent = [0]

    def pour() -> None:
        while not stop.is_set():
            outcomes = send(BatchDoor, daemon, *(Call(n, tags=("t",)) for n in range(500)))
            assert {outcome.word for outcome in outcomes} == {"kept"}
            sent[0] += 500

    pouring = threading.Thread(target=pour)
    pouring.start()
    try:
        harness.until(lambda: sent[0] >= 5_000, "records")
        before = sent[0]
        made = backup(daemon.data_dir, tmp_path / "b.db")
        assert sent[0] > before, "records were taken meanwhile"
    finally:
        stop.set()
        pouring.join()
    assert before <= made["events"] < sent[0]
    path = Path(made["path"])
    assert path == tmp_path / "b.db"
    assert (made["bytes"], made["sha256"]) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert query(path, "SELECT count(*) FROM event") == [(made["events"],)]
    assert query(path, "SELECT max(first_seq + items) - 1 FROM ledger_commit") == [(made["last_seq"],)]
    assert query(path, "SELECT sum(requests) FROM rollup") == [(made["events"],)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in tmp_path.glob("b.db*")) == ["b.db"]
    # An ordinary database, in one file whoever opens it.
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_a_backup_holds_what_a_killed_daemon_left_in_its_log_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("costd.db*") if path.suffix != ".db-shm"}
    assert backup(folder, tmp_path / "b.db")["events"] == 10_000
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_the_output_for_people_says_what_is_not_in_it(folder: Path, tmp_path: Path) -> None:
    done = costd("backup", str(tmp_path / "b.db"), "--data-dir", str(folder))
    assert "10,000 records" in done.stdout
    assert hashlib.sha256((tmp_path / "b.db").read_bytes()).hexdigest() in done.stdout
    assert "admin.key" in done.stderr


def test_a_file_that_is_there_is_replaced_only_by_force(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("mine")
    assert "--force" in refused(2, "backup", str(tmp_path / "b.db"), "--data-dir", str(folder))
    assert (tmp_path / "b.db").read_text() == "mine"
    backup(folder, tmp_path / "b.db", "--force")
    assert query(tmp_path / "b.db", "SELECT count(*) FROM event") == [(10_000,)]


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("{data}/b.db", "must not be in the data folder"),
        ("{data}/costd.db", "must not be in the data folder"),
        ("{tmp}", "something else"),
        ("{tmp}/none/b.db", "a folder that is there"),
        ("/dev/null", "something else"),
    ],
)
def test_a_place_that_will_not_do_is_refused(folder: Path, tmp_path: Path, target: str, part: str) -> None:
    place = target.format(data=folder, tmp=tmp_path)
    assert part in refused(2, "backup", place, "--force", "--data-dir", str(folder))


def test_a_daemon_elsewhere_and_a_folder_without_a_ledger_are_refused_with_what_to_do(tmp_path: Path) -> None:
    said = refused(2, "backup", str(tmp_path / "b"), "--address", "far.example:7430")
    assert "on that machine" in said
    assert "there is none" in refused(2, "backup", str(tmp_path / "b"), "--data-dir", str(tmp_path / "none"))
    assert not list(tmp_path.iterdir())


def test_a_ledger_that_does_not_hold_is_not_backed_up(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("UPDATE rollup SET requests = requests + 1")
        connection.commit()
    said = refused(4, "backup", str(tmp_path / "b.db"), "--data-dir", str(folder))
    assert "rollup" in said
    assert "costd check" in said
    assert not list(tmp_path.glob("b.db*"))
    (folder / "costd.db").write_bytes(b"no database " * 1000)
    for log in folder.glob("costd.db-*"):
        log.unlink()
    assert "damaged" in refused(4, "backup", str(tmp_path / "b.db"), "--data-dir", str(folder))
    assert not list(tmp_path.glob("b.db*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_without_room_is_said_before_anything_is_written(folder: Path, small_disk: Path) -> None:
    (small_disk / "b.db").write_text("yesterday's")
    said = refused(5, "backup", str(small_disk / "b.db"), "--force", "--data-dir", str(folder))
    assert "too full" in said
    assert [path.name for path in small_disk.iterdir()] == ["b.db"]
    assert (small_disk / "b.db").read_text() == "yesterday's"


def test_a_disk_that_fills_up_on_the_way_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails the same write that a full disk does."""
    done = subprocess.run(
        [sys.executable, "-m", "costd", "backup", str(tmp_path / "b.db"), "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        env=clean_env(),
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert done.returncode == 5, done
    assert "nothing was left behind" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("b.db*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing_behind_and_says_so(
    folder: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    place = tmp_path / "b.db"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "backup", str(place), "--data-dir", str(folder)],
        stderr=subprocess.PIPE,
        env=clean_env(),
    ) as process:
        harness.until((tmp_path / "b.db.part").exists, "the backup to have begun")
        process.send_signal(number)
        assert process.stderr is not None
        assert (process.wait(20), process.stderr.read()) == (code, b"costd: interrupted; nothing was left behind\n")
    assert not list(tmp_path.glob("b.db*"))


#: The command with a check that never ends and looks at nothing, as one long step of SQLite's does not.
SLOW = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from costd.store import backup
backup.faults = lambda *_: threading.Event().wait()
from costd.cli.main import main
main(sys.argv[1:])
"""


def test_what_a_killed_backup_left_is_replaced_and_one_under_way_is_left_alone(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "b.db"
    command = [sys.executable, "-c", SLOW, "backup", str(place), "--data-dir", str(folder)]
    with subprocess.Popen(command, env=clean_env()) as process:
        harness.until((tmp_path / "b.db.part").exists, "the backup to have begun")
        assert "another process" in refused(5, "backup", str(place), "--data-dir", str(folder))
        assert (tmp_path / "b.db.part").exists()
        process.kill()
    assert (tmp_path / "b.db.part").exists()
    assert backup(folder, place)["events"] == 10_000
    assert not (tmp_path / "b.db.part").exists()


def test_a_copy_that_is_not_the_ledger_is_found(folder: Path, tmp_path: Path) -> None:
    """As a disk would that does not keep what is written to it."""
    code = """
import sys
from costd.store import backup
held = backup.contents
counts = iter([0, 1])
backup.contents = lambda connection: held(connection)._replace(events=next(counts))
from costd.cli.main import main
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", code, "backup", str(tmp_path / "b.db"), "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), check=False)
    assert done.returncode == 4
    assert "the copy differs" in done.stderr
    assert not list(tmp_path.glob("b.db*"))


def test_who_may_not_read_the_ledger_is_told_so(launch: Launch, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs the right to become somebody else")
    daemon = launch()
    send(GrpcDoor, daemon, Call(1))
    code = "import os, sys; from costd.cli import backup; from costd.cli.main import main; os.setuid(65534); main()"
    for mode, place in ((0o700, tmp_path / "b.db"), (0o755, tmp_path / "b.db"), (0o755, tmp_path / "data" / "x" / "b")):
        daemon.data_dir.chmod(mode)
        command = [sys.executable, "-c", code, "backup", str(place), "--data-dir", str(daemon.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), check=False)
        assert done.returncode in {2, 5}, done
        assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("b.db*"))
