"""The README of the client: its examples run as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fake_provider import FakeProvider
from harness import Daemon, clean_env
from wrapping import records_of

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def test_the_examples_run(daemon: Daemon) -> None:
    """With the SDKs pointed at a local provider, and costd where the environment says."""
    section = README.read_text().partition("\n## Wrapping the SDKs\n")[2].partition("\n## ")[0]
    program = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    with FakeProvider().serving() as provider:
        env = {
            "COSTD_ADDRESS": daemon.grpc,
            "COSTD_KEY": daemon.admin_key,
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": provider.openai_url,
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": provider.anthropic_url,
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=clean_env(env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert [record.endpoint for record in provider.sold] == [
        "chat/completions",
        "chat/completions",
        "messages",
        "chat/completions",
        "responses",
        "chat/completions",
    ]
    assert len(records_of(daemon, "u1")) == 5
    assert len(records_of(daemon, "u2")) == 1


def test_the_example_of_tracking_runs(daemon: Daemon, tmp_path: Path) -> None:
    section = README.read_text().partition("\n## Tracking calls\n")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for written, real in (
        ("127.0.0.1:7430", daemon.grpc),
        ("ct_live_…", daemon.admin_key),
        ("/var/tmp/my-app.spool", str(tmp_path / "app.spool")),
    ):
        assert written in program
        program = program.replace(written, real)
    held = len(records_of(daemon, "u1"))
    done = subprocess.run([sys.executable, "-c", program], env=clean_env(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records_of(daemon, "u1")) == held + 2
