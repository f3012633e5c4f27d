"""`make demo` does what the README promises, and says so by its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import clean_env

ROOT = Path(__file__).parents[2]


def test_hub_and_sidecars_agree_after_the_link_was_cut() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_env(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The totals agree, to the nano-dollar" in done.stdout
