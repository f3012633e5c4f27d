"""A ledger's file read from outside, without the folder's lock: what it is, what is in it, whether it holds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from costd.domain.errors import ConfigError, CostdError, DamagedDatabase
from costd.store.connection import BUSY_TIMEOUT_MS, DATABASE_NAME, damaged, is_damage
from costd.store.integrity import MAX_FINDINGS, check_ledger
from costd.store.migrate import is_ours, migrations
from costd.store.restored import pending

#: A check of an index looks its rows up one by one: with the 8 MiB of other connections it takes four times as long.
_CHECK_CACHE_KIB = 65_536
_POLL_STEPS = 50_000


class Stopped(Exception):
    """Whoever wanted it has changed their mind."""


class Contents(NamedTuple):
    """What a ledger holds at one moment; `last_seq` is the newest number of its sequence, 0 where there is none."""

    schema: int
    events: int
    last_seq: int


def is_there(folder: Path) -> bool:
    """Whether `folder` has a ledger, if only one that a restore has yet to put in place.

    Raises ConfigError where that is not for us to see.
    """
    database = folder / DATABASE_NAME
    try:
        return database.exists() or pending(database) is not None
    except PermissionError:
        allowed = f"must be a folder that user {os.geteuid()} may read; run this as the daemon's user"
        raise ConfigError("data_dir", str(folder), allowed) from None


@contextmanager
def opened(path: Path, *, alone: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that can only read, closed in the end; `alone` says that nobody writes to the file meanwhile.

    Where it is `alone`, nothing beside the file is looked at or made. Raises DamagedDatabase for a file that is broken,
    another program's or a newer release's, and CostdError for one that cannot be read.
    """
    connection = _open(path, "immutable=1" if alone else "mode=ro")
    try:
        yield connection
    finally:
        connection.close()


def _open(path: Path, how: str) -> sqlite3.Connection:
    connection = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{how}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        if not is_ours(connection):
            raise DamagedDatabase("it is empty")
    except BaseException as error:
        if connection is not None:
            connection.close()
        raise _explained(path, error) from None
    return connection


def _explained(path: Path, error: BaseException) -> BaseException:
    if isinstance(error, DamagedDatabase):
        return DamagedDatabase(f"{path}: {error.message}")
    if is_damage(error):
        return damaged(path, str(error))
    if isinstance(error, sqlite3.Error):
        return CostdError(f"cannot read {path}: {error}; look at its permissions and at the disk")
    return error


def contents(connection: sqlite3.Connection) -> Contents:
    """What is in the ledger, from the connection's snapshot; reads every event's page."""
    schema = connection.execute("SELECT max(version) FROM schema_migration").fetchone()[0]
    newest = connection.execute(
        "SELECT first_seq + items - 1 FROM ledger_commit ORDER BY first_seq DESC LIMIT 1"
    ).fetchone()
    return Contents(schema, connection.execute("SELECT count(*) FROM event").fetchone()[0], newest[0] if newest else 0)


def faults(connection: sqlite3.Connection, stopped: Callable[[], bool]) -> list[str]:
    """What does not hold: the file, and that rollups equal events. Reads everything; raises Stopped.

    A ledger of an older schema is checked as a file alone: its sums are where the next start will put them.
    """
    connection.execute(f"PRAGMA cache_size = -{_CHECK_CACHE_KIB}")
    connection.set_progress_handler(stopped, _POLL_STEPS)
    try:
        if contents(connection).schema == migrations()[-1].version:
            found = check_ledger(connection).findings
        else:
            rows = connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})").fetchall()
            found = [f"database: {text}" for (text,) in rows if text != "ok"]
    except sqlite3.OperationalError:
        if stopped():
            raise Stopped from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if stopped():  # the check takes an interruption for a finding
        raise Stopped
    return found
