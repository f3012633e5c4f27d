"""The providers' Node packages through costd: they return the same as without it, and what was sold is recorded.

The packages are installed once into a folder outside the checkout, by name and version, from npm's registry.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fake_provider import FakeProvider
from harness import Daemon
from proxied_calls import KEY, base, made, newest, units_of

STATUSES = [400, 401, 404, 429, 500, 529]
HERE = Path(__file__).parent / "node"
INSTALLED = Path(tempfile.gettempdir()) / f"costd-node-sdks-{os.getuid()}"

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm")


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the packages and the script."""
    INSTALLED.mkdir(mode=0o700, exist_ok=True)
    for name in ("package.json", "calls.mjs"):
        shutil.copy(HERE / name, INSTALLED / name)
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    held = {name: INSTALLED / "node_modules" / name / "package.json" for name in wanted}
    if any(not path.exists() or json.loads(path.read_text())["version"] != wanted[name] for name, path in held.items()):
        patience = ["--fetch-retries=1", "--fetch-timeout=15000"]
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *patience]
        done = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm's registry is out of reach: {done.stderr[-200:]}")
    return INSTALLED


def run(packages: Path, openai_url: str, anthropic_url: str, key: str, headers: dict[str, str]) -> dict[str, Any]:
    environment = {
        **os.environ,
        "OPENAI_URL": openai_url,
        "ANTHROPIC_URL": anthropic_url,
        "OPENAI_KEY": key,
        "HEADERS": json.dumps(headers),
    }
    command = ["node", "calls.mjs"]
    done = subprocess.run(
        command, cwd=packages, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_node_sdks_get_the_same_and_what_was_sold_is_recorded(
    packages: Path, provider: FakeProvider, proxied: Daemon
) -> None:
    provider.start_again()
    expected = run(packages, provider.openai_url, provider.anthropic_url, KEY, {})
    before, sold_before = made(proxied), len(provider.sold)
    provider.start_again()
    headers = {"Authorization": f"Bearer {proxied.admin_key}", "X-Provider-Key": KEY}
    results = run(packages, base(proxied, "openai"), base(proxied, "anthropic"), proxied.admin_key, headers)
    assert results == expected
    sold = provider.sold[sold_before:]
    assert len(sold) == len(results["results"]) == 11
    failures = results["others"]["failures"]
    assert [status for _, status, *_ in failures] == [status for status in STATUSES for _ in range(2)]
    found = newest(proxied, before, len(sold) + len(failures))
    assert sorted(int(one.status) for one in found if one.status != "success") == sorted([*STATUSES, *STATUSES])
    recorded = [(one.dimensions["endpoint"], units_of(one)) for one in found if one.status == "success"]
    wanted = [(sale.endpoint, sale.units) for sale in sold]
    assert sorted(recorded, key=str) == sorted(wanted, key=str)
    assert provider.requests[-1][2]["x-api-key"] == KEY
