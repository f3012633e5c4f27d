"""The Dockerfile: no engine is needed to see that what it copies is there, and that what it runs does run."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dockerfile
import pytest
from dockerfile import ROOT
from installation import Installation, start

import harness
from costd.config import SETTINGS, load

BUILD, FINAL = dockerfile.stages()
ENVIRONMENT = dockerfile.environment(FINAL)
USER, GROUP = dockerfile.only(FINAL, "USER").rest.split(":")
#: Another user without any privilege but one: to look into folders, as the interpreter here may lie in root's.
AS_USER = [
    *("setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
    *("--bounding-set=-all,+dac_read_search",),
]


def test_both_stages_are_the_same_pinned_slim_python() -> None:
    image = BUILD[0].rest.removesuffix(" AS build")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", image)
    assert FINAL[0].rest == image


def test_what_is_copied_is_in_the_checkout_and_sent_to_the_builder() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [name for one in BUILD if one.word == "COPY" for name in one.arguments()[:-1]]
    assert sorted(sources) == sorted(kept)
    assert all((ROOT / name).exists() for name in sources)


def test_nothing_else_is_sent_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#!"]
    assert lines[0] == "*"
    assert any(fnmatch.fnmatch("daemon/costd/__pycache__", line) for line in lines[1:])


def test_the_final_stage_takes_the_environment_and_builds_nothing() -> None:
    (copied,) = (one for one in FINAL if one.word == "COPY")
    assert copied.rest == "--from=build /opt/costd /opt/costd"
    runs = " ".join(one.rest for one in FINAL if one.word == "RUN")
    assert "pip uninstall --yes --no-cache-dir pip setuptools wheel" in runs
    assert not re.search(r"pip install|apt|gcc|make ", runs)
    assert ENVIRONMENT["PATH"].split(":")[0] == "/opt/costd/bin"


def test_it_runs_as_a_user_of_its_own_on_a_volume() -> None:
    assert int(USER) > 0
    assert int(GROUP) > 0
    folder = ENVIRONMENT["COSTD_DATA_DIR"]
    assert dockerfile.only(FINAL, "VOLUME").command() == [folder]
    runs = " ".join(one.rest for one in FINAL if one.word == "RUN")
    assert f"--owner {USER} --group {GROUP} --mode 0700 {folder}" in runs
    assert FINAL.index(dockerfile.only(FINAL, "USER")) > max(n for n, one in enumerate(FINAL) if one.word == "RUN")


def test_signals_reach_it_and_its_settings_exist() -> None:
    assert dockerfile.only(FINAL, "STOPSIGNAL").rest == "SIGTERM"
    assert dockerfile.only(FINAL, "ENTRYPOINT").command() == ["costd"]
    variables = {setting.variable for setting in SETTINGS}
    assert {name for name in ENVIRONMENT if name.startswith("COSTD_")} <= variables
    loaded = load({}, ENVIRONMENT)
    assert loaded.warnings == []
    assert str(loaded.config.data_dir) == ENVIRONMENT["COSTD_DATA_DIR"]


@pytest.fixture
def container() -> Iterator[Path]:
    """A folder that belongs to the container's user: all that it may write to."""
    with tempfile.TemporaryDirectory(prefix="costd-container-") as made:
        folder = Path(made)
        if os.geteuid() == 0:
            os.chown(folder, int(USER), int(GROUP))
        yield folder


def prefix() -> list[str]:
    """What makes a command the container's user's."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here to become the container's user")
    if subprocess.run([*AS_USER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this root may not become the container's user")
    return AS_USER


def test_what_it_runs_does_run_as_its_user(installed: Installation, container: Path) -> None:
    become = prefix()
    environ = ENVIRONMENT | {"COSTD_DATA_DIR": str(container / "data")}
    environ["PATH"] = environ["PATH"].replace("/opt/costd/bin", str(installed.costd.parent))

    def docker(*words: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec` does it."""
        return subprocess.run([*become, *words], env=environ, cwd="/", capture_output=True, text=True, check=False)

    entrypoint, command = dockerfile.only(FINAL, "ENTRYPOINT").command(), dockerfile.only(FINAL, "CMD").command()
    check = dockerfile.only(FINAL, "HEALTHCHECK").command()
    daemon = start([*become, *entrypoint, *command], environ, container)
    try:
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert os.geteuid() != 0 or f"Uid:\t{USER}\t{USER}" in status
        assert docker(*check).returncode == 0
        made = docker("costd", "keys", "create", "service", "--json")
        assert made.returncode == 0, made.stderr
        assert "WARNING" not in daemon.log
    finally:
        assert daemon.stop() == 0, daemon.log
    assert docker(*check).returncode == 1


def test_the_health_check_gives_up_before_docker_does() -> None:
    options = dict(re.findall(r"--([a-z-]+)=(\d+)s", dockerfile.only(FINAL, "HEALTHCHECK").rest))
    shown = harness.costd("health", "--help").stdout
    assert float(options["timeout"]) > float(re.findall(r"default: ([\d.]+)", shown)[0])
    assert int(options["start-period"]) >= harness.START_S
