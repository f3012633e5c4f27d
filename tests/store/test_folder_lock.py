"""The data folder: one process at a time, and whatever else lies in it is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from costd.domain.errors import ConfigError, DataFolderHeld
from costd.store import lock, runtime_file
from costd.store.folder import make_private, refuse_trap
from costd.store.lock import FolderLock

HOLD = """
import pathlib, sys
from costd.store.lock import FolderLock
folder = FolderLock.acquire(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that has the lock, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_and_what_to_do(tmp_path: Path) -> None:
    with hold(tmp_path) as other:
        assert lock.holder(tmp_path) == other.pid
        with pytest.raises(DataFolderHeld) as caught:
            FolderLock.acquire(tmp_path)
        for part in (str(tmp_path), str(other.pid), "--data-dir"):
            assert part in caught.value.message
        other.kill()
    # However a process ends, its lock ends with it.
    assert lock.holder(tmp_path) is None
    FolderLock.acquire(tmp_path).release()


def test_a_lock_given_back_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock.acquire(tmp_path) as held:
            assert lock.holder(tmp_path) == os.getpid()
        held.release()
        assert lock.holder(tmp_path) is None
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_asking_who_holds_a_folder_makes_nothing_in_it(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) is None
    assert lock.holder(tmp_path / "missing") is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_files_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ConfigError, match=r"data_dir = .* must be a folder"):
        FolderLock.acquire(tmp_path)


def test_a_new_data_folder_is_its_owners_alone_and_an_old_one_is_left_as_it_is(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    mounted = tmp_path / "mounted"
    mounted.mkdir(mode=0o755)
    (mounted / "lost+found").mkdir()
    make_private(mounted)
    assert mounted.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in mounted.iterdir()] == ["lost+found"]


def test_a_data_folder_that_is_a_file_is_refused_by_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError) as caught:
            make_private(path, "--data-dir")
        assert caught.value.setting == "--data-dir"


def test_a_folder_that_anybody_could_have_made_is_no_place_for_a_socket(tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o1777)
    make_private(public / "ours")
    refuse_trap(public / "ours")
    (public / "open").mkdir()
    (public / "open").chmod(0o777)
    (public / "link").symlink_to(public / "ours")
    for name in ("open", "link"):
        with pytest.raises(ConfigError, match="writable for nobody else"):
            refuse_trap(public / name)


RUNNING = runtime_file.Running(
    grpc="127.0.0.1:1", http="127.0.0.1:2", socket=None, pid=3, admin_key_file="/data/admin.key"
)


def test_the_runtime_file_comes_back_as_it_was_written_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    runtime_file.write(path, RUNNING)
    runtime_file.write(path, RUNNING)
    assert runtime_file.read(path) == RUNNING
    assert path.stat().st_mode & 0o777 == 0o600
    runtime_file.remove(path)
    runtime_file.remove(path)
    assert runtime_file.read(path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"grpc": 1}'])
def test_what_is_no_runtime_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "daemon.json").write_bytes(content)
    assert runtime_file.read(tmp_path / "daemon.json") is None


def test_a_ready_file_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--ready-file"):
        runtime_file.write(tmp_path / "missing" / "ready", RUNNING, "--ready-file")
