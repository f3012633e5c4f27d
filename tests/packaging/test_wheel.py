"""The wheel: made without a checkout's .git, it carries everything a daemon needs."""

from __future__ import annotations

import zipfile
from pathlib import Path

from dockerfile import ROOT
from installation import Installation, start

PACKAGE = ROOT / "daemon" / "costd"
CARRIED = ("*.py", "*.pyi", "*.sql", "py.typed", "data/*", "*.proto")


def test_the_wheel_carries_every_file_of_the_package(installed: Installation) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    wanted = {
        path.relative_to(PACKAGE.parent).as_posix()
        for pattern in CARRIED
        for path in PACKAGE.rglob(pattern)
        if path.is_file()
    }
    assert wanted <= names
    for part in ("store/migrations/0001_ledger.sql", "data/prices.txt", "py.typed", "v1/proto/costd/v1/usage.proto"):
        assert f"costd/{part}" in wanted
    assert {name for name in names if not name.startswith("costd")} == set()
    assert not [name for name in names if "__pycache__" in name or "tests" in name]


def test_what_is_installed_is_what_runs(installed: Installation) -> None:
    where = installed.run("-c", "import costd; print(costd.__file__)").stdout.strip()
    assert Path(where).is_relative_to(installed.folder)


def test_the_installed_daemon_starts_records_and_stops(installed: Installation, tmp_path: Path) -> None:
    daemon = start([installed.costd, "run"], {"COSTD_DATA_DIR": str(tmp_path / "data")}, tmp_path)
    try:
        record = {"user_external_id": "ada", "source_app": "tests", "model": "gpt-4o", "units": {"input_tokens": 1000}}
        answer = daemon.client.post("/v1/usage/record", json=record)
        assert (answer.status_code, answer.json()["cost_usd"]) == (200, 0.0025)
    finally:
        assert daemon.stop() == 0, daemon.log
