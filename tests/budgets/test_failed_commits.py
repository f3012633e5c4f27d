"""A commit that fails leaves budgets as they were: nothing charged, nothing let go, and nothing learned from it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import harness
from budget_desk import NOON_MS, Desk, Standing, opened
from costd.clock import ManualClock
from costd.domain.errors import Unavailable


class Failing:
    """A connection that reports an I/O error at COMMIT, instead of doing it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *values: Any) -> Any:
        """Run it, but for COMMIT."""
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def fail(desk: Desk, cents: int, request_id: str = "", **fields: Any) -> None:
    """Record a call in a commit that fails."""
    writer = desk.core.writer
    writer._connection = Failing(writer._connection)  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        desk.record(cents, request_id, **fields)
    harness.until(lambda: writer.records_refused is None, "records to be taken again")


def test_what_was_reserved_for_its_records_stays_so(tmp_path: Path) -> None:
    with opened(tmp_path / "data", ManualClock(NOON_MS)) as desk:
        desk.set("all", 100, scope={"org": "default"})
        assert desk.ask(40, "a").allow
        fail(desk, 30, "a")
        assert desk.stands("all") == Standing(0, 40, 60)
        desk.record(30, "a")
        assert desk.stands("all") == Standing(30, 0, 70)


def test_the_next_user_is_not_taken_for_the_one_whose_record_failed(tmp_path: Path) -> None:
    with opened(tmp_path / "data", ManualClock(NOON_MS)) as desk:
        desk.set("users", 100, scope={"org": "default"}, each="user")
        desk.record(1, user="first")
        fail(desk, 30, user="ada")  # her series had a number, which the next new one gets
        desk.record(5, user="grace")
        desk.record(7, user="ada")
        for user, settled in (("ada", 7), ("grace", 5)):
            assert desk.stands("users", user) == Standing(settled, 0, 100 - settled)
