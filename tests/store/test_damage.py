"""A database that cannot be trusted: said clearly, with the way out, and never replaced by a fresh one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import harness
from callers import BatchDoor, Call, GrpcDoor, HttpDoor, send
from costd.store.migrate import migrations
from harness import Daemon

EXIT_LEDGER = 4


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a daemon that has records and was stopped."""
    daemon = harness.start(tmp_path_factory.mktemp("whole") / "data")
    send(BatchDoor, daemon, *(Call(n, f"call-{n}", user=f"user-{n}") for n in range(2000)))
    assert daemon.stop() == 0
    return daemon.data_dir


@pytest.fixture
def folder(tmp_path: Path, ledger: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(ledger, tmp_path / "data"))


def garbage_header(folder: Path) -> None:
    with (folder / "costd.db").open("r+b") as file:
        file.write(os.urandom(100))


def not_a_database(folder: Path) -> None:
    (folder / "costd.db").write_text("Dear diary, today somebody sorted their files into my data folder. " * 100)


def first_page_overwritten(folder: Path) -> None:
    with (folder / "costd.db").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3900)


def truncated(folder: Path) -> None:
    os.truncate(folder / "costd.db", 4096 * 3)


def cut_within_the_first_page(folder: Path) -> None:
    os.truncate(folder / "costd.db", 1000)


def empty(folder: Path) -> None:
    os.truncate(folder / "costd.db", 0)


def missing(folder: Path) -> None:
    (folder / "costd.db").unlink()


def missing_but_for_its_log(folder: Path) -> None:
    (folder / "costd.db").rename(folder / "costd.db-wal")
    (folder / "admin.key").unlink()


def another_programs(folder: Path) -> None:
    (folder / "costd.db").unlink()
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
        connection.commit()


def from_the_future(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("INSERT INTO schema_migration VALUES (?, 'x', 0)", (migrations()[-1].version + 7,))
        connection.commit()


def without_a_table(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("DROP TABLE ledger_state")
        connection.commit()


WAYS: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (garbage_header, ("damaged", "backup", ".recover")),
    (not_a_database, ("damaged", "backup", ".recover")),
    (first_page_overwritten, ("damaged", "backup", ".recover")),
    (truncated, ("damaged", "backup", ".recover")),
    (cut_within_the_first_page, ("damaged", "backup", ".recover")),
    (empty, ("empty", "admin.key", "backup")),
    (missing, ("missing", "admin.key", "backup")),
    (missing_but_for_its_log, ("missing", "costd.db-wal", "backup")),
    (another_programs, ("another program", "move it away")),
    (from_the_future, ("newer costd", "backup")),
    (without_a_table, ("cannot be used", "backup", ".recover")),
]


def contents(folder: Path) -> dict[str, bytes]:
    """What must not change: everything but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(("damage", "words"), WAYS, ids=[way.__name__ for way, _ in WAYS])
@pytest.mark.parametrize("command", ["run", "check"])
def test_damage_is_said_with_the_way_out_and_nothing_is_touched(
    folder: Path, damage: Callable[[Path], None], words: tuple[str, ...], command: str
) -> None:
    damage(folder)
    if command != "run" and not (folder / "costd.db").exists():
        pytest.skip("where there is no file, there is nothing to check: another message")
    before = contents(folder)
    listen = ("--http-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0") if command == "run" else ()
    ended = harness.costd(command, "--data-dir", str(folder), *listen)
    assert ended.returncode == EXIT_LEDGER, ended
    for word in (*words, str(folder / "costd.db")):
        assert word in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr
    after = contents(folder)
    assert after.keys() - {"costd.db-wal", "costd.db-shm", "reserve"} == before.keys() - {"costd.db-wal", "reserve"}
    for name, content in before.items():
        assert after.get(name, content) == content, f"{name} was changed"


def flip(database: Path, marker: bytes) -> None:
    """Flip every bit of the pages that hold `marker`."""
    content = database.read_bytes()
    pages = [start for start in range(0, len(content), 4096) if marker in content[start : start + 4096]]
    assert pages
    with database.open("r+b") as file:
        for start in pages:
            file.seek(start)
            file.write(bytes(byte ^ 0xFF for byte in content[start : start + 4096]))


def test_flipped_bytes_are_found_by_the_check(folder: Path) -> None:
    flip(folder / "costd.db", b"call-1")
    checked = harness.costd("check", "--data-dir", str(folder))
    assert checked.returncode == 1, checked
    assert "NOT sound" in checked.stdout
    assert "Traceback" not in checked.stderr


def test_damage_that_a_start_meets_is_said_with_the_way_out(folder: Path) -> None:
    flip(folder / "costd.db", b'"version":')  # the price list, which every start compares
    ended = harness.costd("run", "--data-dir", str(folder), "--http-listen", "127.0.0.1:0", timeout_s=20)
    assert ended.returncode == EXIT_LEDGER, ended
    for word in ("damaged", "backup", ".recover", str(folder / "costd.db")):
        assert word in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_daemon_that_meets_damage_says_unavailable_and_unhealthy_and_never_internal(
    launch: Callable[..., Daemon], folder: Path
) -> None:
    flip(folder / "costd.db", b"call-1")
    daemon = launch()
    told = [
        send(make, daemon, Call(n, f"call-{n}", user=f"user-{n}"))[0].status
        for n in (1, 1500, 5000)
        for make in (GrpcDoor, HttpDoor, BatchDoor)
    ]
    assert set(told) == {"UNAVAILABLE", "503"}, told
    harness.until(lambda: daemon.client.get("/v1/health").status_code == 503, "health to tell the truth")
    assert "damaged" in daemon.client.get("/api/health").text
    for path in ("/api/costs/all", "/api/tokens", "/api/tracking-health"):
        assert daemon.client.get(path).status_code in {200, 503}
    assert "Traceback" not in daemon.log


# -- what else may lie in the folder -----------------------------------------------------------------------------------


def test_foreign_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "lost+found").mkdir(parents=True)
    foreign = ["notes.txt", "costd.db.bak", "costd.db.2026-01-01", "admin.key.old", ".hidden", "lost+found/#1"]
    for name in foreign:
        (data_dir / name).write_text(f"foreign {name}")
    before = {name: ((data_dir / name).read_bytes(), (data_dir / name).stat().st_mtime_ns) for name in foreign}
    daemon = harness.start(data_dir)
    send(GrpcDoor, daemon, Call(1))
    assert daemon.stop() == 0
    assert {name: ((data_dir / name).read_bytes(), (data_dir / name).stat().st_mtime_ns) for name in foreign} == before


def test_a_second_daemon_on_the_folder_is_refused_and_told_the_first_ones_pid(daemon: Daemon) -> None:
    addresses = ("--http-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0")
    ended = harness.costd("run", "--data-dir", str(daemon.data_dir), *addresses)
    assert ended.returncode == EXIT_LEDGER
    assert f"process {daemon.process.pid}" in ended.stderr
    assert "--data-dir" in ended.stderr
    assert send(HttpDoor, daemon, Call(1))[0].word == "kept"
    assert daemon.socket is not None
    assert Path(daemon.socket).exists()
