"""Opens the database: pragmas, migrations, and the errors that SQLite's own become."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path

from costd.domain.errors import DamagedDatabase, OutOfSpace, Refused, Unavailable
from costd.store.migrate import is_ours, migrate
from costd.store.restored import finish

DATABASE_NAME = "costd.db"

#: Prepared statements kept per connection: the writer has one for each power of two of rows and table.
_CACHED_STATEMENTS = 256

#: How long a statement waits for another's lock.
BUSY_TIMEOUT_MS = 5_000

#: Pages of 4 KiB after which the log is folded into the database, and what is left of the file afterwards.
WAL_PAGES = 1_000
_WAL_KEPT_BYTES = 16 * 1024 * 1024

_log = logging.getLogger(__name__)

_WAY_OUT = (
    "costd does not start over by itself: restore a backup, or salvage what can be read with "
    "`sqlite3 {path} .recover`, then start again; to begin with an empty ledger move the file away yourself"
)
_SPACE_CODES = frozenset({sqlite3.SQLITE_FULL})
_STORAGE_CODES = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_PERM,
    }
)
_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def open_database(path: Path, now_ms: int) -> sqlite3.Connection:
    """The writer's connection to a migrated database, created if there is none.

    A restore that was cut short is finished first. Raises DamagedDatabase, with the way out, when the file cannot be
    trusted, OutOfSpace on a full disk, and Unavailable when it cannot be opened at all.
    """
    _finish_restore(path)
    lost = "missing" if not path.exists() else "empty" if not path.stat().st_size else ""
    if lost and (leftovers := _leftovers(path)):
        raise DamagedDatabase(
            f"{path} is {lost}, but {leftovers} beside it says that there was a ledger; "
            + _WAY_OUT.format(path=path).replace("move the file away", f"move {leftovers} away")
        )
    try:
        _make_private(path)
        connection = connect(path)
        if not is_ours(connection):
            # Before the first table, or it has no effect; on a ledger it would write to the file.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        for name in migrate(connection, now_ms):
            _log.info("applied migration", extra={"migration": name})
        connection.execute("SELECT count(*) FROM ledger_state").fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise damaged(path, str(error)) from None
        if _primary(error) in _SPACE_CODES:
            raise OutOfSpace(f"cannot open {path}: the disk is full; make room, then start again") from None
        if is_storage_failure(error):
            raise Unavailable(f"cannot open {path}: {error}; check the disk and the folder's permissions") from None
        raise DamagedDatabase(f"{path} cannot be used ({error}); " + _WAY_OUT.format(path=path)) from None
    except OSError as error:
        raise Unavailable(
            f"cannot make {path}: {error.strerror}; check the disk and the folder's permissions"
        ) from None
    except DamagedDatabase as error:
        raise DamagedDatabase(f"{path}: {error.message}") from None
    return connection


def _finish_restore(path: Path) -> None:
    try:
        finish(path)
    except OSError as error:
        raise Unavailable(f"cannot put the restored ledger at {path}: {error.strerror}; check the folder") from None


def damaged(path: Path, why: str) -> DamagedDatabase:
    """What an operator is told about a database that is broken."""
    return DamagedDatabase(f"{path} is damaged ({why}); " + _WAY_OUT.format(path=path))


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode with this ledger's settings; usable from any one thread at a time."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = OFF")  # checked by `costd check`, not on every insert
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
    connection.execute("PRAGMA cache_size = -8192")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, for its owner alone; the log beside it gets the same mode."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def is_storage_failure(error: BaseException) -> bool:
    """Whether the disk, not the statement, is the reason."""
    return isinstance(error, sqlite3.Error) and _primary(error) in _STORAGE_CODES


def is_damage(error: BaseException) -> bool:
    """Whether the database file itself is broken."""
    return isinstance(error, sqlite3.Error) and _primary(error) in _DAMAGE_CODES


def refusal(error: BaseException) -> Refused:
    """What a caller is told when its change met this error of the storage."""
    if isinstance(error, sqlite3.Error) and _primary(error) in _SPACE_CODES:
        return OutOfSpace()
    if is_damage(error):
        return Unavailable("the database is damaged; an operator must run `costd check`", retry_after_s=60)
    return Unavailable("the storage does not take writes now; nothing was recorded")


def _primary(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1


def _leftovers(path: Path) -> str:
    for name in (f"{path.name}-wal", "admin.key"):
        if (path.parent / name).exists():
            return name
    return ""
