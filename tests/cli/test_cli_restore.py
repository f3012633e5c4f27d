"""Restores: refused unless everything holds, and at any moment either the ledger before or the one after."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import harness
from callers import BatchDoor, Call, GrpcDoor, send
from costd.store import migrate
from costd.store.lock import FolderLock
from costd.store.migrate import migrations
from harness import Daemon, clean_env, costd

Launch = Callable[..., Daemon]


def refused(code: int, *arguments: str) -> str:
    """The one line that a command says which fails with `code`."""
    done = costd(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("costd: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def restore(backup: Path, folder: Path, *options: str) -> dict[str, Any]:
    done = costd("restore", str(backup), "--data-dir", str(folder), "--json", *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def events(path: Path) -> int:
    """Events in the ledger, its log included."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A backup with 2,000 records, and the folder after 500 more, killed with those in its log."""
    place = tmp_path_factory.mktemp("made")
    daemon = harness.start(place / "data")
    send(BatchDoor, daemon, *(Call(n, user=f"user-{n % 50}") for n in range(2000)))
    assert costd("backup", str(place / "b.db"), "--data-dir", str(daemon.data_dir)).returncode == 0
    send(BatchDoor, daemon, *(Call(n) for n in range(500)))
    daemon.kill()
    return place / "b.db", daemon.data_dir


@pytest.fixture
def backup(made: tuple[Path, Path]) -> Path:
    return made[0]


@pytest.fixture
def folder(tmp_path: Path, made: tuple[Path, Path]) -> Path:
    """A copy of the folder."""
    return Path(shutil.copytree(made[1], tmp_path / "data", ignore=shutil.ignore_patterns("*.sock")))


def test_a_ledger_is_replaced_kept_aside_and_the_new_one_works(folder: Path, backup: Path, launch: Launch) -> None:
    done = restore(backup, folder, "--yes")
    assert (done["events"], done["note"]) == (2000, None)
    # The old one is whole under its new name, what was in its log included.
    replaced = Path(done["replaced"])
    assert replaced.parent == folder
    assert replaced.with_name(f"{replaced.name}-wal").stat().st_size > 0
    assert events(replaced) == 2500
    assert (folder / "costd.db").stat().st_mode & 0o777 == 0o600
    assert not (folder / "costd.db-wal").exists()
    daemon = launch()
    send(GrpcDoor, daemon, Call(1))
    assert daemon.query("SELECT count(*) FROM event") == [(2001,)]
    assert daemon.query("PRAGMA journal_mode") == [("wal",)]
    checked = costd("check", "--data-dir", str(folder))
    assert (checked.returncode, "2,001 events" in checked.stdout) == (0, True)


def test_a_backup_makes_a_ledger_where_there_was_none(tmp_path: Path, backup: Path) -> None:
    done = restore(backup, tmp_path / "new" / "data")
    assert done["replaced"] is None
    assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700
    # It says how to come by a key, and that is what works.
    assert "costd keys create" in done["note"]
    folder = ["--data-dir", str(tmp_path / "new" / "data")]
    assert costd("check", *folder).returncode == 0
    assert costd("keys", "create", "mine", "--role", "admin", *folder).returncode == 0


def test_a_key_file_that_is_not_of_the_backup_is_pointed_out(folder: Path, backup: Path) -> None:
    (folder / "admin.key").write_text("ct_live_another\n")
    assert "not among them" in restore(backup, folder, "--yes")["note"]


def test_a_held_folder_is_refused_and_nothing_is_touched(launch: Launch, backup: Path) -> None:
    daemon = launch()
    send(GrpcDoor, daemon, Call(1))
    names = {path.name for path in daemon.data_dir.iterdir()}
    said = refused(4, "restore", str(backup), "--yes", "--data-dir", str(daemon.data_dir))
    assert f"process {daemon.process.pid}" in said
    assert {path.name for path in daemon.data_dir.iterdir()} == names
    assert daemon.query("SELECT count(*) FROM event") == [(1,)]


def test_a_ledger_is_not_replaced_unasked(folder: Path, backup: Path) -> None:
    before = (folder / "costd.db").read_bytes()
    assert "--yes" in refused(2, "restore", str(backup), "--data-dir", str(folder))
    assert (folder / "costd.db").read_bytes() == before
    (folder / "costd.db").unlink()
    assert (folder / "costd.db-wal").exists(), "what is left of a ledger is one too"
    assert "--yes" in refused(2, "restore", str(backup), "--data-dir", str(folder))


@pytest.mark.parametrize(("typed", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_a_person_is_asked(folder: Path, backup: Path, typed: bytes, code: int) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "costd", "restore", str(backup), "--data-dir", str(folder)]
    with subprocess.Popen(command, stdin=follower, stderr=follower, stdout=subprocess.PIPE, env=clean_env()) as process:
        os.close(follower)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(leader, 1000)
        os.write(leader, typed)
        assert process.stdout is not None
        process.stdout.read()
        assert process.wait(20) == code
    os.close(leader)
    assert events(folder / "costd.db") == (2000 if code == 0 else 2500)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def inexact(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE rollup SET cost_nano = cost_nano + 1")
        connection.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO schema_migration VALUES (?, 'x', 0)", (migrations()[-1].version + 1,))
        connection.commit()


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")


def text(path: Path) -> None:
    path.write_text("Dear diary" * 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def without_its_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"x" * 100)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, "damaged"),
        (inexact, "rollup"),
        (newer, "newer costd"),
        (foreign, "another program"),
        (text, "damaged"),
        (empty, "empty"),
        (without_its_log, "no finished backup"),
    ],
)
def test_what_is_no_good_backup_is_refused_and_nothing_is_touched(
    folder: Path, backup: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    bad = Path(shutil.copy(backup, tmp_path / "bad.db"))
    spoil(bad)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    said = refused(4, "restore", str(bad), "--yes", "--data-dir", str(folder))
    assert words in said
    assert str(bad) in said
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before


def test_a_backup_that_is_not_there_or_the_ledger_itself_is_refused(folder: Path) -> None:
    assert "is there" in refused(2, "restore", str(folder / "none"), "--data-dir", str(folder))
    assert refused(2, "restore", "b.db", "--address", "far.example:1")
    for log in folder.glob("costd.db-*"):
        log.unlink()
    assert "itself" in refused(2, "restore", str(folder / "costd.db"), "--yes", "--data-dir", str(folder))


def test_a_backup_of_an_older_costd_is_migrated_at_the_next_start(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    with monkeypatch.context() as patch, closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as old:
        patch.setattr(migrate, "migrations", lambda: known[:1])
        migrate.migrate(old, 0)
    assert restore(tmp_path / "old.db", tmp_path / "data")["schema"] == 1
    daemon = launch()
    assert daemon.query("SELECT max(version) FROM schema_migration") == [(known[-1].version,)]
    assert costd("check", "--data-dir", str(daemon.data_dir)).returncode == 0


# -- cut short ---------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_a_restore_leaves_the_old_ledger_or_the_new_one(
    made: tuple[Path, Path], tmp_path: Path, launch: Launch
) -> None:
    """`kill -9` at random moments: what the next command finds is one of the two, whole, and sound."""
    backup, original = made
    rng, seen = random.Random(7), set()
    for number in range(8):
        folder = tmp_path / f"data-{number}"
        shutil.copytree(original, folder, ignore=shutil.ignore_patterns("*.sock"))
        process = fork_restore(backup, folder)
        if number % 2:
            time.sleep(rng.random() * 0.15)
        else:  # in the middle of the moment that matters, which is short
            harness.until(partial(decided, folder), "the restore to be decided")
        process.send_signal(signal.SIGKILL)
        process.wait()
        checked = costd("check", "--data-dir", str(folder), "--json")
        assert checked.returncode == 0, checked
        found = json.loads(checked.stdout)["events"]
        assert found in {2000, 2500}
        seen.add(found)
        assert not any(folder.glob("costd.db.restored-*"))
        if found == 2000:
            assert events(next(folder.glob("costd.db.replaced-*Z"))) == 2500
    assert seen, "both are likely, and which is chance"


def decided(folder: Path) -> bool:
    """Whether the new ledger is there under its first name, or the old one under its last."""
    return any(folder.glob("costd.db.re[sp]*"))


def fork_restore(backup: Path, folder: Path) -> subprocess.Popen[bytes]:
    code = "import sys; from costd.cli import main, restore; print(1, flush=True); main.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "restore", str(backup), "--yes", "--data-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_env())
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


STEPS = """
import os, sys
from pathlib import Path
from costd.store import restored
step = int(sys.argv.pop(1))
real = {name: getattr(Path, name) for name in ("rename",)}
count = 0
def rename(self, target):
    global count
    if count == step:
        os.kill(os.getpid(), 9)
    count += 1
    return real["rename"](self, target)
Path.rename = rename
from costd.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("step", range(6))
def test_killed_before_each_rename_a_restore_leaves_the_old_ledger_or_the_new_one(
    folder: Path, backup: Path, step: int
) -> None:
    """Every step of the change by itself: only the first decides."""
    command = [sys.executable, "-c", STEPS, str(step), "restore", str(backup), "--yes", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, env=clean_env(), check=False)
    has_shm = (folder / "costd.db-shm").exists() or any(folder.glob("*replaced*-shm"))
    if done.returncode == 0:
        assert step >= 4 + has_shm
        return
    assert done.returncode == -signal.SIGKILL
    # Commands that only read do not take what lies there for a ledger, and whoever opens it finishes the change.
    copied = costd("backup", str(folder.parent / "b.db"), "--data-dir", str(folder))
    assert copied.returncode == (0 if step == 0 else 5), copied
    checked = costd("check", "--data-dir", str(folder), "--json")
    assert json.loads(checked.stdout)["events"] == (2500 if step == 0 else 2000)
    assert checked.returncode == 0
    if step:
        assert events(next(folder.glob("costd.db.replaced-*Z"))) == 2500


def test_a_restore_on_a_disk_without_room_touches_nothing(folder: Path, backup: Path) -> None:
    import resource

    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    done = subprocess.run(
        [sys.executable, "-m", "costd", "restore", str(backup), "--yes", "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        env=clean_env(),
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 5, done
    assert "nothing was left behind" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before


def test_two_restores_at_once_are_refused(folder: Path, backup: Path) -> None:
    with FolderLock.acquire(folder):
        assert str(os.getpid()) in refused(4, "restore", str(backup), "--yes", "--data-dir", str(folder))
