"""Processes under measurement: the daemon and the yardsticks on one core, the load on another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.load import Job
from bench.tally import Load

SERVER_CORE, LOAD_CORE = 0, 1
START_S = 20.0


def pinned(core: int) -> list[str]:
    """What to put before a command to keep it on one core; nothing where there is no second core or no taskset."""
    if (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        return []
    return ["taskset", "-c", str(core)]


def python(core: int, *arguments: str) -> list[str]:
    """This interpreter on that core."""
    return [*pinned(core), sys.executable, *arguments]


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    http_port: int
    grpc_port: int
    key: str

    def resident_bytes(self) -> int:
        """The memory it holds now."""
        return resident_bytes(self.process.pid)

    def stop(self) -> None:
        """SIGTERM, and wait until everything is on disk and the log folded into the database."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            raise RuntimeError(f"costd ended with {self.process.returncode}; see {_log_path(self.data_dir)}")


def resident_bytes(pid: int) -> int:
    """A process's resident memory, shared libraries included."""
    return _memory(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most that it ever was."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no {name}")


def spawn_daemon(data_dir: Path, *flags: str, core: int = SERVER_CORE, command: str = "run") -> subprocess.Popen[bytes]:
    """Start a daemon, or a hub where the `command` is "hub"; `ready_path(data_dir)` appears when it is ready."""
    ready_path(data_dir).unlink(missing_ok=True)
    line = python(core, "-m", "costd", command, "--data-dir", str(data_dir), "--log-level", "warning")
    line += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    line += ["--ready-file", str(ready_path(data_dir)), *flags]
    # Settings of the machine's own must not bend the figures.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COSTD_")}
    with _log_path(data_dir).open("ab") as log:
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def wait_for_daemon(process: subprocess.Popen[bytes], data_dir: Path) -> Daemon:
    """Wait until it is ready; RuntimeError where it ends instead."""
    path = ready_path(data_dir)
    deadline_s = time.monotonic() + START_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"costd did not get ready:\n{_log_path(data_dir).read_text()}")
        time.sleep(0.002)
    ready = json.loads(path.read_text())
    http_port, grpc_port = (int(ready[door].rpartition(":")[2]) for door in ("http", "grpc"))
    return Daemon(process, data_dir, http_port, grpc_port, Path(ready["admin_key_file"]).read_text().strip())


def ready_path(data_dir: Path) -> Path:
    """Where a daemon says that it is ready."""
    return data_dir.with_name(f"{data_dir.name}.ready.json")


def _log_path(data_dir: Path) -> Path:
    return data_dir.with_name(f"{data_dir.name}.log")


@contextmanager
def daemon(data_dir: Path, *flags: str, core: int = SERVER_CORE, command: str = "run") -> Iterator[Daemon]:
    """A daemon, or a hub where the `command` is "hub", for the time of a `with`."""
    process = spawn_daemon(data_dir, *flags, core=core, command=command)
    try:
        running = wait_for_daemon(process, data_dir)
        yield running
        if process.poll() is None:
            running.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def yardstick(name: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """A server of bench.yardsticks for the time of a `with`: its port and its process id."""
    command = python(SERVER_CORE, "-m", "bench.yardsticks", name, *arguments)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def drive(job: Job, server_pid: int) -> Load:
    """Run a job on the other core; RuntimeError where anything but good answers came."""
    used_s = cpu_s(server_pid)
    done = subprocess.run(
        python(LOAD_CORE, "-m", "bench.load"),
        input=json.dumps(asdict(job)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=job.seconds + 60,
    )
    load = Load(**json.loads(done.stdout))
    if load.failures:
        raise RuntimeError(f"{job.kind}: {load.failures}")
    load.cpu_us = (cpu_s(server_pid) - used_s) * 1e6 / max(1, load.answers)
    return load


def cpu_s(pid: int) -> float:
    """The processor time a process has used, in all its threads, in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post(port: int, request: bytes) -> bytes:
    """Send one HTTP request on a connection of its own; the head of the answer. OSError when nobody is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65_536)
