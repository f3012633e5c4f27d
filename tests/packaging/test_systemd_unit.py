"""The unit of systemd: its words are checked by systemd's own tool, and its command runs as systemd would run it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from dockerfile import ROOT
from installation import Installation, start

from costd.cli import main
from costd.config import SETTINGS, load
from costd.services.health import STALL_S
from service_manager import managing

UNIT = ROOT / "systemd" / "costd.service"
ACCOUNT = ROOT / "systemd" / "costd.sysusers.conf"
PROGRAM = "/opt/costd/bin/costd"
#: systemd's own measure runs from 0.0 (nothing left to take away) to 10.0.
MAX_EXPOSURE = 2.0


def lines(text: str) -> list[tuple[str, str]]:
    """Every assignment."""
    return [(line.partition("=")[0], line.partition("=")[2]) for line in text.splitlines() if "=" in line[:40]]


WORDS = [pair for pair in lines(UNIT.read_text()) if not pair[0].startswith("#")]
FIRST = dict(reversed(WORDS))
ENVIRONMENT = dict(word.split("=", 1) for name, value in WORDS if name == "Environment" for word in shlex.split(value))


def environment(folder: Path) -> dict[str, str]:
    """The unit's variables, its folders made below `folder`."""
    for name, word in (("state", "StateDirectory"), ("run", "RuntimeDirectory")):
        (folder / name / FIRST[word]).mkdir(parents=True, mode=0o700)
    found = {"%S": str(folder / "state"), "%t": str(folder / "run")}
    made = dict(ENVIRONMENT)
    for specifier, path in found.items():
        made = {name: value.replace(specifier, path) for name, value in made.items()}
    return made


def test_ready_watchdog_and_stop_fit_what_the_daemon_does() -> None:
    assert FIRST["Type"] == "notify"
    assert float(FIRST["WatchdogSec"]) / 2 <= STALL_S
    assert FIRST["Restart"] == "on-failure"
    config = load({}, {}).config
    assert float(FIRST["TimeoutStopSec"]) >= 2 * config.shutdown.grace_s
    assert int(FIRST["RestartPreventExitStatus"]) == main.USAGE
    assert int(FIRST["LimitNOFILE"]) >= 65_536


def test_its_variables_are_settings_and_lead_into_its_own_folders() -> None:
    known = {setting.variable for setting in SETTINGS}
    assert {name for name in ENVIRONMENT if name.startswith("COSTD_")} <= known
    assert ENVIRONMENT["COSTD_DATA_DIR"] == f"%S/{FIRST['StateDirectory']}"
    assert ENVIRONMENT["COSTD_GRPC_SOCKET"].startswith(f"%t/{FIRST['RuntimeDirectory']}/")


def test_its_command_is_ready_fed_and_stopped(installed: Installation, tmp_path: Path) -> None:
    program, *flags = shlex.split(FIRST["ExecStart"])
    assert program == PROGRAM
    with managing(tmp_path, float(FIRST["WatchdogSec"])) as manager:
        variables = environment(tmp_path) | manager.variables
        daemon = start([installed.costd, *flags], variables, tmp_path)
        manager.until("READY", "1")
        manager.until("WATCHDOG", "1")
        assert daemon.socket == variables["COSTD_GRPC_SOCKET"]
        assert daemon.data_dir == tmp_path / "state" / "costd"
        assert daemon.stop() == 0, daemon.log
        manager.until("STOPPING", "1")


def tool(name: str) -> str:
    """The path of a tool of systemd's."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


@pytest.fixture
def unit(tmp_path: Path, installed: Installation) -> Path:
    """The unit with a program that exists here."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(PROGRAM, str(installed.costd)))
    return path


def test_systemd_finds_no_fault_with_it(unit: Path) -> None:
    done = subprocess.run([tool("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_little_left_to_take_away(unit: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:.0f}", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_account_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = [tool("systemd-sysusers"), f"--root={tmp_path}", ACCOUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    account = (tmp_path / "etc" / "passwd").read_text()
    assert account.startswith(f"{FIRST['User']}:")
    assert (tmp_path / "etc" / "group").read_text().startswith(f"{FIRST['Group']}:")
