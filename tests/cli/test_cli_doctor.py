"""The doctor: finds what is broken, says what to do, and never faints."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import harness
from callers import BatchDoor, Call, send
from costd.services.doctor.clock import check_clock
from costd.services.doctor.folder import mount_of
from costd.store.migrate import migrations
from costd.store.sqlite_release import is_too_old, loses_resets
from harness import Daemon, clean_env, costd

Launch = Callable[..., Daemon]
OFF = {"COSTD_GRPC_LISTEN": "127.0.0.1:0", "COSTD_HTTP_LISTEN": "127.0.0.1:0"}


def look(*arguments: str, code: int | None = 0, env: dict[str, str] | None = None) -> dict[str, list[dict[str, str]]]:
    """What the doctor finds, by the name of the check."""
    done = costd("doctor", "--json", *arguments, env=OFF | (env or {}))
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0)
    by_name: dict[str, list[dict[str, str]]] = {}
    for check in document["checks"]:
        assert check.keys() == {"name", "state", "found", "advice"}
        assert check["state"] in {"ok", "warn", "fail"}
        assert check["advice"] or check["state"] == "ok" or "defaults" in check["found"], check
        by_name.setdefault(check["name"], []).append(check)
    return by_name


def failed(found: dict[str, list[dict[str, str]]]) -> set[str]:
    """The checks that failed."""
    return {name for name, checks in found.items() if any(check["state"] == "fail" for check in checks)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    daemon = harness.start(tmp_path_factory.mktemp("whole") / "data")
    send(BatchDoor, daemon, *(Call(n, f"call-{n}", user=f"user-{n}") for n in range(2000)))
    assert daemon.stop() == 0
    return daemon.data_dir


@pytest.fixture
def folder(tmp_path: Path, whole: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


# -- well --------------------------------------------------------------------------------------------------------------


def test_a_running_daemon_is_found_well_by_its_folder_and_by_its_address(launch: Launch) -> None:
    daemon = launch()
    found = look("--data-dir", str(daemon.data_dir))
    names = {"configuration", "python", "sqlite", "data folder", "files", "file system", "free space", "disk sync"}
    names |= {"clock", "database", "schema", "write-ahead log", "backup", "price list", "daemon", "version"}
    assert found.keys() == names | {"open files", "tls"}
    assert "takes records" in found["daemon"][0]["found"]
    assert "in use" in found["open files"][0]["found"]
    assert "p99" in found["disk sync"][0]["found"]
    assert found["price list"][0]["found"].startswith("genai-prices ")
    far = look("--address", daemon.grpc, "--key", daemon.admin_key)
    assert far.keys() == {"daemon", "version", "python", "sqlite"}
    assert look("--address", daemon.grpc)["daemon"][0]["state"] == "warn", "it answers, but not us"


def test_a_stopped_daemon_is_no_fault_and_its_folder_is_left_as_it_was(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("costd.db-")}
    found = look("--data-dir", str(folder))
    assert not failed(found)
    assert "none is running" in found["daemon"][0]["found"]
    assert found["grpc.socket"][0]["state"] == "ok"
    after = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("costd.db-")}
    assert after == before
    assert all(not log.stat().st_size for log in folder.glob("costd.db-wal"))


def test_a_folder_before_the_first_start_is_a_warning(tmp_path: Path) -> None:
    found = look("--data-dir", str(tmp_path / "data"))
    assert found["data folder"][0]["state"] == found["database"][0]["state"] == "warn"
    assert not list(tmp_path.iterdir())
    look("--data-dir", str(tmp_path / "data"), "--strict", code=1)


def test_people_get_a_table(folder: Path) -> None:
    done = costd("doctor", "--data-dir", str(folder), env=OFF)
    assert done.returncode == 0
    assert "what to do" in done.stdout
    assert "0 failed" in done.stdout


# -- broken ------------------------------------------------------------------------------------------------------------


def flip(folder: Path) -> None:
    content = bytearray((folder / "costd.db").read_bytes())
    for start in range(8 * 4096, len(content), 4096):
        content[start : start + 100] = os.urandom(100)
    (folder / "costd.db").write_bytes(content)


def header(folder: Path) -> None:
    with (folder / "costd.db").open("r+b") as file:
        file.write(os.urandom(100))


def cut(folder: Path) -> None:
    os.truncate(folder / "costd.db", 4096 * 3)


def empty(folder: Path) -> None:
    os.truncate(folder / "costd.db", 0)


def missing(folder: Path) -> None:
    (folder / "costd.db").unlink()


def a_folder_in_its_place(folder: Path) -> None:
    (folder / "costd.db").unlink()
    (folder / "costd.db").mkdir()


def foreign(folder: Path) -> None:
    (folder / "costd.db").unlink()
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")


def newer(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("INSERT INTO schema_migration VALUES (?, 'x', 0)", (migrations()[-1].version + 1,))
        connection.commit()


def without_tables(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "costd.db")) as connection:
        connection.execute("DROP TABLE ledger_commit")
        connection.commit()


@pytest.mark.parametrize(
    "damage", [flip, header, cut, empty, missing, a_folder_in_its_place, foreign, newer, without_tables]
)
def test_whatever_the_database_has_come_to_it_is_said_and_left_alone(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    found = look("--data-dir", str(folder), code=1)
    assert "database" in failed(found)
    assert len(found) > 10, "everything else is looked at all the same"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpc.listn = 'x'", "did you mean grpc.listen"),
        ("[queue", "TOML"),
        ("queue.max_records = -1", "max_records"),
        ("tls.cert = 'c.pem'", "needs tls.key"),
    ],
)
def test_a_wrong_file_is_one_failure_and_the_rest_is_looked_at(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "costd.toml").write_text(text)
    found = look("--config", str(tmp_path / "costd.toml"), code=1, env={"COSTD_DATA_DIR": str(tmp_path / "data")})
    assert words in found["configuration"][0]["found"]
    assert str(tmp_path / "data") in found["data folder"][0]["found"]


def test_settings_that_are_none_are_warned_about(tmp_path: Path) -> None:
    found = look("--data-dir", str(tmp_path), env={"COSTD_PROT": "1"})
    assert found["configuration"][0]["state"] == "warn"
    assert "COSTD_PROT" in found["configuration"][0]["found"]


def test_modes_that_let_others_in_are_found(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "costd.db").chmod(0o644)
    (folder / "admin.key").chmod(0o644)
    found = look("--data-dir", str(folder), code=1)
    assert failed(found) == {"files"}
    assert found["data folder"][0]["state"] == "warn"
    advice = " ".join(check["advice"] for check in found["files"])
    assert f"chmod 600 {folder}/admin.key" in advice
    assert f"chmod 600 {folder}/costd.db" in advice
    folder.chmod(0o777)
    assert "data folder" in failed(look("--data-dir", str(folder), code=1))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give files away")
def test_root_looks_at_a_folder_of_another_and_leaves_no_file_of_its_own(folder: Path, tmp_path: Path) -> None:
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    assert not failed(look("--data-dir", str(folder)))
    made = costd("backup", str(tmp_path / "b.db"), "--data-dir", str(folder))
    assert made.returncode == 0, made.stderr
    assert costd("restore", str(tmp_path / "b.db"), "--yes", "--data-dir", str(folder)).returncode == 0
    assert {path.stat().st_uid for path in folder.iterdir()} == {65534}
    os.chown(folder / "costd.db", 0, 0)
    assert "files" in failed(look("--data-dir", str(folder), code=1))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become another")
def test_who_may_not_look_is_told_so_and_nothing_else_happens(folder: Path) -> None:
    code = "import os; from costd.cli import doctor, main; os.setuid(65534); main.main()"
    command = [sys.executable, "-c", code, "doctor", "--json", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(OFF), check=False)
    assert (done.returncode, done.stderr) == (1, "")
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert states["data folder"] == "fail"
    assert states["python"] == "ok"


def test_a_file_in_the_folders_place_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "data folder" in failed(look("--data-dir", str(tmp_path / "data"), code=1))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB without room."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount")
    (place / "data").mkdir(mode=0o700)
    with (place / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    yield place / "data"
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_and_one_in_memory_are_said_so(full_disk: Path) -> None:
    found = look("--data-dir", str(full_disk), code=1)
    assert failed(found) >= {"free space", "disk sync"}
    assert "memory" in found["file system"][0]["found"]


def test_ports_that_are_taken_are_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = look("--data-dir", str(tmp_path), code=1, env={"COSTD_HTTP_LISTEN": address})
    assert failed(found) == {"http.listen"}
    found = look(
        "--data-dir", str(tmp_path), code=1, env={"COSTD_GRPC_LISTEN": "192.0.2.1:7430", "COSTD_INSECURE": "1"}
    )
    assert "no address of this machine" in found["grpc.listen"][0]["found"]


def test_a_daemon_that_hangs_or_is_another_release_is_said_so(launch: Launch) -> None:
    import signal

    daemon = launch()
    folder = ["--data-dir", str(daemon.data_dir)]
    code = "from costd.cli import doctor_daemon, main; doctor_daemon.__version__ = '0.0.7'; main.main()"
    command = [sys.executable, "-c", code, "doctor", "--json", *folder]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), check=True)
    version = next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "version")
    assert (version["state"], "0.0.7" in version["found"]) == ("warn", True)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        assert failed(look(*folder, code=1)) == {"daemon"}
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    assert "daemon" in failed(look("--address", "127.0.0.1:1", code=1))


# -- certificates ------------------------------------------------------------------------------------------------------


def certificate(folder: Path, days: int, *, other_key: bool = False) -> list[str]:
    """Settings for a certificate that ends in `days` days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days, hours=1))
        .sign(key, hashes.SHA256())
    )
    if other_key:
        key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "k.pem").write_bytes(private)
    (folder / "k.pem").chmod(0o600)
    (folder / "tls.toml").write_text(f'data_dir = "{folder}/data"\n[tls]\ncert = "c.pem"\nkey = "k.pem"\n')
    return ["--config", str(folder / "tls.toml")]


def test_a_certificate_is_looked_at_as_callers_would(tmp_path: Path) -> None:
    found = look(*certificate(tmp_path, 90))
    assert "good for 90 more days" in found["tls.cert"][0]["found"]
    assert found["tls.key"][0]["state"] == "ok"
    assert look(*certificate(tmp_path, 5))["tls.cert"][0]["state"] == "warn"
    expired = look(*certificate(tmp_path, -2), code=1)
    assert "has expired" in expired["tls.cert"][0]["found"]
    assert "do not belong together" in look(*certificate(tmp_path, 9, other_key=True), code=1)["tls"][0]["found"]
    options = certificate(tmp_path, 90)
    (tmp_path / "k.pem").chmod(0o644)
    assert look(*options)["tls.key"][0]["state"] == "warn"
    (tmp_path / "c.pem").unlink()
    assert "tls" in failed(look(*options, code=1))


# -- what this machine cannot show -------------------------------------------------------------------------------------

NOW_MS = 1_795_000_000_000


@pytest.mark.parametrize(
    ("now_ms", "last_commit_ms", "states"),
    [
        (0, None, {"fail"}),
        (NOW_MS, None, {"ok", "warn"}),
        (NOW_MS, NOW_MS - 5, {"ok", "warn"}),
        (NOW_MS, NOW_MS + 1_000, {"ok", "warn"}),
        (NOW_MS, NOW_MS + 60_000, {"fail"}),
        (4_200_000_000_000, None, {"fail"}),
    ],
)
def test_a_clock_that_cannot_be_right_is_found(now_ms: int, last_commit_ms: int | None, states: set[str]) -> None:
    assert check_clock(now_ms, last_commit_ms)[0].state in states


@pytest.mark.parametrize(
    ("release", "bad"),
    [("3.40.1", True), ("3.44.5", True), ("3.44.6", False), ("3.45.0", True), ("3.50.6", True), ("3.50.7", False),
     ("3.51.2", True), ("3.51.3", False), ("3.52.0", False), ("3.53.1", False), ("4.0.0", False)],
)  # fmt: skip
def test_releases_of_sqlite_that_lose_log_resets_are_known(release: str, bad: bool) -> None:
    numbers = tuple(map(int, release.split(".")))
    assert loses_resets(numbers) is bad
    assert not is_too_old(numbers)
    assert is_too_old((3, 36, 9))


@pytest.mark.parametrize(
    ("mounts", "state", "word"),
    [
        ("36 35 98:0 / / rw - ext4 /dev/root rw", "ok", "ext4"),
        ("36 35 98:0 / / rw - ext4 /d rw\n37 36 0:5 / /data rw - nfs4 h:/x rw", "fail", "network"),
        ("36 35 98:0 / / rw - overlay overlay rw", "warn", "container"),
        ("36 35 98:0 / / ro - ext4 /dev/root rw", "fail", "read-only"),
        ("36 35 98:0 / / rw - virtiofs share rw", "warn", "shared"),
        ("nonsense", "ok", "unknown"),
    ],
)
def test_kinds_of_file_systems_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, state: str, word: str
) -> None:
    from costd.services.doctor import folder as checked

    (tmp_path / "mountinfo").write_text(mounts)
    monkeypatch.setattr(checked, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    found = checked.check_filesystem(Path("/data/costd"))[0]
    assert (found.state, word in found.found) == (state, True)


def test_a_mount_with_a_space_in_its_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from costd.services.doctor import folder as checked

    (tmp_path / "mountinfo").write_text("1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /my\\040disk rw shared:1 - xfs y rw")
    monkeypatch.setattr(checked, "_MOUNTS", tmp_path / "mountinfo")
    mount = mount_of(Path("/my disk/costd"))
    assert mount is not None
    assert (mount.point, mount.kind) == ("/my disk", "xfs")


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(folder: Path) -> None:
    code = "from costd.cli import doctor, main; doctor.check_room = lambda *_: 1 / 0; main.main()"
    command = [sys.executable, "-c", code, "doctor", "--json", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(OFF), check=False)
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    assert (done.returncode, done.stderr) == (1, "")
    assert [check["name"] for check in checks if check["state"] == "fail"] == ["free space"]
    assert "ZeroDivisionError" in next(check["found"] for check in checks if check["name"] == "free space")
