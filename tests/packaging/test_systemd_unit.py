"""The units of systemd: their words are checked by systemd's own tool, their commands run as systemd would run them."""

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

UNITS = {name: ROOT / "systemd" / f"{name}.service" for name in ("costd", "costd-hub")}
ACCOUNT = ROOT / "systemd" / "costd.sysusers.conf"
PROGRAM = "/opt/costd/bin/costd"
#: systemd's own measure runs from 0.0 (nothing left to take away) to 10.0.
MAX_EXPOSURE = 2.0


def lines(text: str) -> list[tuple[str, str]]:
    """Every assignment."""
    return [(line.partition("=")[0], line.partition("=")[2]) for line in text.splitlines() if "=" in line[:40]]


class Unit:
    """What a unit says: the first word for each name, and the variables it sets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = UNITS[name]
        words = [pair for pair in lines(self.path.read_text()) if not pair[0].startswith("#")]
        self.first = dict(reversed(words))
        self.environment = dict(
            word.split("=", 1) for name, value in words if name == "Environment" for word in shlex.split(value)
        )


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Unit:
    """Each unit."""
    return Unit(request.param)


def environment(unit: Unit, folder: Path) -> dict[str, str]:
    """The unit's variables, its folders made below `folder`."""
    for name, word in (("state", "StateDirectory"), ("run", "RuntimeDirectory")):
        (folder / name / unit.first[word]).mkdir(parents=True, mode=0o700)
    found = {"%S": str(folder / "state"), "%t": str(folder / "run")}
    made = dict(unit.environment)
    for specifier, path in found.items():
        made = {name: value.replace(specifier, path) for name, value in made.items()}
    return made


def test_ready_watchdog_and_stop_fit_what_the_daemon_does(unit: Unit) -> None:
    assert unit.first["Type"] == "notify"
    assert float(unit.first["WatchdogSec"]) / 2 <= STALL_S
    assert unit.first["Restart"] == "on-failure"
    config = load({}, {}).config
    assert float(unit.first["TimeoutStopSec"]) >= 2 * config.shutdown.grace_s
    assert int(unit.first["RestartPreventExitStatus"]) == main.USAGE
    assert int(unit.first["LimitNOFILE"]) >= 65_536


def test_its_variables_are_settings_and_lead_into_its_own_folders(unit: Unit) -> None:
    known = {setting.variable for setting in SETTINGS}
    assert {name for name in unit.environment if name.startswith("COSTD_")} <= known
    assert unit.environment["COSTD_DATA_DIR"] == f"%S/{unit.first['StateDirectory']}"
    assert unit.environment["COSTD_GRPC_SOCKET"].startswith(f"%t/{unit.first['RuntimeDirectory']}/")


def test_its_command_is_ready_fed_and_stopped(unit: Unit, installed: Installation, tmp_path: Path) -> None:
    program, command = shlex.split(unit.first["ExecStart"])
    assert (program, command) == (PROGRAM, "hub" if unit.name == "costd-hub" else "run")
    with managing(tmp_path, float(unit.first["WatchdogSec"])) as manager:
        variables = environment(unit, tmp_path) | manager.variables
        daemon = start([installed.costd, command], variables, tmp_path)
        manager.until("READY", "1")
        manager.until("WATCHDOG", "1")
        assert daemon.socket == variables["COSTD_GRPC_SOCKET"]
        assert daemon.data_dir == tmp_path / "state" / unit.name
        assert daemon.stop() == 0, daemon.log
        manager.until("STOPPING", "1")


def test_both_can_live_on_one_machine() -> None:
    sidecar, hub = (Unit(name) for name in UNITS)
    for name in ("StateDirectory", "RuntimeDirectory", "EnvironmentFile"):
        assert sidecar.first[name] != hub.first[name]
    same = {"User", "Group", "Type", "WatchdogSec", "TimeoutStopSec", "ProtectSystem"}
    assert {name: sidecar.first[name] for name in same} == {name: hub.first[name] for name in same}


def tool(name: str) -> str:
    """The path of a tool of systemd's."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


@pytest.fixture
def runnable(unit: Unit, tmp_path: Path, installed: Installation) -> Path:
    """The unit with a program that exists here."""
    path = tmp_path / unit.path.name
    path.write_text(unit.path.read_text().replace(PROGRAM, str(installed.costd)))
    return path


def test_systemd_finds_no_fault_with_it(runnable: Path) -> None:
    done = subprocess.run([tool("systemd-analyze"), "verify", runnable], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_little_left_to_take_away(runnable: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:.0f}", runnable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_account_can_be_made(unit: Unit, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = [tool("systemd-sysusers"), f"--root={tmp_path}", ACCOUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    account = (tmp_path / "etc" / "passwd").read_text()
    assert account.startswith(f"{unit.first['User']}:")
    assert (tmp_path / "etc" / "group").read_text().startswith(f"{unit.first['Group']}:")
