"""Real daemons for tests: started as a user would, on free ports, in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from costd.v1 import admin_pb2, admin_pb2_grpc

START_S = 20.0

#: costd is started without the authorities that the system trusts: it is to ask nobody beyond this machine, and aiohttp
#: reads them twice when it is imported, which takes 40 ms of every start.
_UNTRUSTING = {"SSL_CERT_FILE": os.devnull}


@dataclass
class Daemon:
    """A running `costd run` or `costd hub`; `log` grows with its stderr."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    log_path: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        scheme = "https" if self.ready.get("tls") else "http"
        self.http_url = f"{scheme}://{self.ready['http']}"
        self.grpc: str = self.ready["grpc"]
        self.socket: str | None = self.ready["socket"]
        self.admin_key = Path(self.ready["admin_key_file"]).read_text().strip()
        self.client = httpx.Client(
            base_url=self.http_url,
            headers={"Authorization": f"Bearer {self.admin_key}"},
            timeout=30,
            trust_env=False,
            verify=scheme == "https",  # without TLS, the authorities that a system trusts need not be read
        )

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return self.log_path.read_text(errors="replace")

    @property
    def database(self) -> Path:
        """Its database file."""
        return self.data_dir / "costd.db"

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows read straight from its database."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def key(self, name: str = "test", **fields: str) -> str:
        """The secret of a new key; `fields` are role, org and what CreateKey takes by these names."""
        named = {"role": "roles", "org": "organization"}
        values = {named.get(field, field): [value] if field == "role" else value for field, value in fields.items()}
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(self.grpc, options=options) as channel:
            made = admin_pb2_grpc.AdminServiceStub(channel).CreateKey(
                admin_pb2.CreateKeyRequest(name=name, **values),
                metadata=[("authorization", f"Bearer {self.admin_key}")],
                timeout=30,
            )
        return str(made.secret)

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, and its exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        self.client.close()
        self.process.kill()
        self.process.wait(10)


def start(
    data_dir: Path,
    *flags: str,
    env: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    command: str = "run",
) -> Daemon:
    """Start a daemon on `data_dir` and wait until it is ready; AssertionError with its log when it ends instead.

    `command` is "run" or "hub".
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    ready_path = data_dir.parent / f"{data_dir.name}.ready.json"
    ready_path.unlink(missing_ok=True)
    log_path = data_dir.parent / f"{data_dir.name}.log"
    line = [*prefix, sys.executable, "-m", "costd", command, "--data-dir", str(data_dir)]
    line += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ready-file", str(ready_path), *flags]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_UNTRUSTING | clean_env(env)
        )
    deadline = time.monotonic() + START_S
    while not ready_path.exists():
        assert process.poll() is None, f"costd ended with {process.returncode}:\n{log_path.read_text()}"
        assert time.monotonic() < deadline, f"costd was not ready in {START_S} s:\n{log_path.read_text()}"
        time.sleep(0.01)
    ready = json.loads(ready_path.read_text())
    ready["tls"] = "--tls-cert" in " ".join(flags)
    return Daemon(data_dir, process, ready, log_path)


def costd(
    *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a costd command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "costd", *arguments],
        capture_output=True,
        text=True,
        env=_UNTRUSTING | clean_env(env),
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def until(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    """Wait for `condition` to become true; AssertionError saying `what` was waited for when it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.01)


def clean_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without settings of costd's that happen to be set here."""
    held = {name: value for name, value in os.environ.items() if not name.startswith("COSTD_")}
    return held | (extra or {})
