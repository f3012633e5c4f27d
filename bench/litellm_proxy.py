"""LiteLLM's proxy as a yardstick: installed on demand into an environment of its own, and run on the server's core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, socket

from bench.fake_upstream import MODEL
from bench.processes import SERVER_CORE, pinned

#: Where the environment is; another place by $COSTD_BENCH_LITELLM.
FOLDER = Path(__file__).resolve().parent / "results" / "litellm"
KEY = "sk-bench"
_START_S = 120.0
#: No database, no telemetry, no price list from the network: nothing but the call.
_SETTINGS = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_PROXY": "*",
}
_CONFIG = """model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{port}/v1", api_key: sk-provider}}
litellm_settings: {{telemetry: false, num_retries: 0}}
general_settings: {{master_key: {key}}}
"""


def environment() -> Path:
    """The folder of the environment, made where there is none (some minutes, some hundred megabytes)."""
    folder = Path(os.environ.get("COSTD_BENCH_LITELLM", FOLDER))
    if not (folder / "bin" / "litellm").exists():
        print(f"installing LiteLLM into {folder} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"], check=True)
    return folder


def version(folder: Path) -> str:
    """Which release it is."""
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([str(folder / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def litellm(folder: Path, work: Path, upstream_port: int) -> Iterator[tuple[int, int]]:
    """The proxy for the time of a `with`: its port and its process id."""
    work.mkdir(parents=True, exist_ok=True)
    config, port = work / "litellm.yaml", _free_port()
    config.write_text(_CONFIG.format(model=MODEL, port=upstream_port, key=KEY))
    command = [*pinned(SERVER_CORE), str(folder / "bin" / "litellm"), "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with (work / "litellm.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **_SETTINGS}, cwd=work)
    try:
        _wait(process, port, work / "litellm.log")
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def headers() -> dict[str, str]:
    """What a call needs."""
    return {"Authorization": f"Bearer {KEY}"}


def _free_port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    probe = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %b\r\n" % (
        KEY.encode()
    )
    request += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(probe) + probe
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(request)
                if b" 200 " in connection.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"LiteLLM did not get ready:\n{log.read_text()[-2000:]}")
