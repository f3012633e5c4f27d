"""costd installed as its Dockerfile does it, from what the image is built from and nothing else, and started there."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import dockerfile
from dockerfile import ROOT, Instruction

import harness
from harness import Daemon

#: What a test adds to the settings of a package: it must not depend on which ports are free.
FREE_PORTS = {"COSTD_GRPC_LISTEN": "127.0.0.1:0", "COSTD_HTTP_LISTEN": "127.0.0.1:0"}


class Installation:
    """An environment of its own with costd in it, made from a wheel; `folder` can be read by every user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "opt" / "bin" / "python"
        self.costd = folder / "opt" / "bin" / "costd"
        self.wheel = self._build()
        self._install()

    def _build(self) -> Path:
        source = self.folder / "source"
        for instruction in dockerfile.stages()[0]:
            if instruction.word == "COPY":
                copy_in(instruction, source)
        assert not (source / ".git").exists()
        # Without a network of its own: the build backend is the one of the development environment.
        pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", self.folder / "wheels", source)
        shutil.rmtree(source)
        (wheel,) = (self.folder / "wheels").iterdir()
        return wheel

    def _install(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.folder / "opt"], check=True)
        pip("--python", self.python, "install", "--no-deps", "--no-index", self.wheel)
        purelib = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        # The libraries are the development environment's: a path file is not followed twice, so its costd is not seen.
        Path(purelib, "libraries.pth").write_text("\n".join(site.getsitepackages()))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What its Python makes of `arguments`, far from the checkout."""
        return subprocess.run(
            [self.python, *arguments], cwd=self.folder, env=without_path(), capture_output=True, text=True, check=True
        )


def without_path() -> dict[str, str]:
    """The environment without anything that would lead Python to the checkout."""
    return {name: value for name, value in harness.clean_env().items() if name != "PYTHONPATH"}


def pip(*arguments: str | Path) -> None:
    """Run pip of the development environment."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, *quiet],
        env=without_path(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def copy_in(instruction: Instruction, folder: Path) -> None:
    """Do what a COPY of the first stage does."""
    *sources, target = instruction.arguments()
    for name in sources:
        source, goal = ROOT / name, folder / target
        if source.is_dir():
            shutil.copytree(source, goal, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            goal.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, goal)


def start(command: Sequence[str | Path], environ: Mapping[str, str], folder: Path) -> Daemon:
    """Start `command`, which has COSTD_DATA_DIR in `environ` and nothing but it, and wait until it is ready.

    `folder` takes the log, and the file that tells where the daemon is reached.
    """
    ready, log_path = folder / "ready.json", folder / "log"
    told = {"COSTD_READY_FILE": str(ready)}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=FREE_PORTS | told | dict(environ)
        )
    harness.until(lambda: ready.exists() or process.poll() is not None, "the daemon to be ready", harness.START_S)
    assert process.poll() is None, log_path.read_text()
    return Daemon(Path(environ["COSTD_DATA_DIR"]), process, json.loads(ready.read_text()), log_path)
