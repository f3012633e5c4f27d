"""The reading half: a small pool of connections that can only read, each statement bounded in time."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from costd.clock import Clock
from costd.domain.errors import Unavailable
from costd.store import connection as database

#: Reports at once; more wait their turn. Each reader costs a page cache, and two cores serve no more anyway.
READERS = 4
#: A reader in the middle keeps the write-ahead log from starting over, so none may take longer than this.
MAX_READ_S = 30.0
_WAIT_S = 30.0
_CHECK_EVERY_STEPS = 10_000


class Readers:
    """Reading connections, opened when first needed."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._idle: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(READERS):
            self._idle.put(None)

    @contextmanager
    def snapshot(self, *, unbounded: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction: everything read through it is of one moment.

        Raises Unavailable when it takes too long (unless `unbounded`) or the storage does not answer.
        """
        try:
            connection = self._idle.get(timeout=_WAIT_S)
        except queue.Empty:
            raise Unavailable("too many reports are running; try again later") from None
        try:
            if connection is None:
                connection = self._open()
            deadline_s = float("inf") if unbounded else self._clock.monotonic_s() + MAX_READ_S
            connection.set_progress_handler(lambda: self._clock.monotonic_s() > deadline_s, _CHECK_EVERY_STEPS)
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if connection is not None:
                connection.close()
            connection = None
            if error.sqlite_errorname == "SQLITE_INTERRUPT":
                raise Unavailable(f"the report took longer than {MAX_READ_S:.0f} s; ask for a shorter period") from None
            if database.is_storage_failure(error) or database.is_damage(error):
                raise Unavailable(f"the database cannot be read: {error}") from None
            raise
        except sqlite3.DatabaseError as error:
            if database.is_damage(error):
                raise Unavailable(f"the database is damaged: {error}; run `costd check`", retry_after_s=60) from None
            raise
        finally:
            self._idle.put(connection)

    def _open(self) -> sqlite3.Connection:
        connection = database.connect(self._path)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -2048")
        return connection

    def close(self) -> None:
        """Close what is idle; readers in the middle close when they are done."""
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return
            if connection is not None:
                connection.close()
