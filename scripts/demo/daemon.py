"""Daemons of the demo's own: a hub or a sidecar in a temporary folder, on free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc

from costd.v1 import admin_pb2_grpc, query_pb2_grpc, usage_pb2_grpc

START_S = 30.0


class Daemon:
    """A running daemon; `mode` is the command that starts it ("hub" or "run"), `settings` are its environment's."""

    def __init__(self, folder: Path, name: str, mode: str, settings: Mapping[str, str]) -> None:
        self.name = name
        self.data_dir = folder / name
        self._log = folder / f"{name}.log"
        ready_path = folder / f"{name}.ready.json"
        command = [sys.executable, "-m", "costd", mode, "--data-dir", str(self.data_dir)]
        command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ready-file", str(ready_path)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stderr=log,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=_environment(settings),
            )
        try:
            wait_for(lambda: ready_path.exists() or self.process.poll() is not None, f"{name} to get ready", START_S)
            self.ready: dict[str, Any] = json.loads(ready_path.read_text())
        except (OSError, TimeoutError):
            self.process.kill()
            sys.exit(f"{name} did not start:\n{self._log.read_text()}")
        self.key = Path(self.ready["admin_key_file"]).read_text().strip()
        self.metadata = (("authorization", f"Bearer {self.key}"),)
        self._channel = grpc.insecure_channel(f"unix:{self.ready['socket']}")
        self.usage = usage_pb2_grpc.UsageServiceStub(self._channel)
        self.query = query_pb2_grpc.QueryServiceStub(self._channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self._channel)

    def http(self, method: str, path: str, body: object = None) -> Any:
        """One HTTP call; the decoded answer."""
        request = urllib.request.Request(f"http://{self.ready['http']}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def costd(self, *arguments: str) -> str:
        """What a command prints that is typed at this daemon's machine."""
        command = [sys.executable, "-m", "costd", *arguments, "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment({}))
        if done.returncode:
            sys.exit(f"costd {' '.join(arguments)} failed:\n{done.stderr}")
        return done.stdout

    def stop(self) -> bool:
        """SIGTERM; whether it ended as it should."""
        self._channel.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of costd's that happen to be set here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COSTD_")} | dict(settings)


def wait_for(condition: Callable[[], object], what: str, timeout_s: float) -> None:
    """Wait until `condition` is true; TimeoutError saying `what` was waited for when it does not become so."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.02)
