"""The size that a ledger may grow to: looked at beside its records, refused at like a full disk."""

from __future__ import annotations

import sqlite3

from costd.domain.errors import OutOfSpace


class SizeLimit:
    """`storage.max_bytes`: a limit on the pages in use, in bytes; 0 is none. Free pages do not count."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        #: What records are refused with while it is reached.
        self.refusal = OutOfSpace(
            f"the ledger has the size that storage.max_bytes allows ({max_bytes:,} bytes); nothing was recorded"
        )
        self._page_bytes = 0

    def is_reached(self, connection: sqlite3.Connection) -> bool:
        """Whether there is no room for records; microseconds, and nothing at all without a limit.

        Where the storage does not answer, it has its own way of saying so.
        """
        if not self._max_bytes:
            return False
        try:
            if not self._page_bytes:
                (self._page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        except sqlite3.Error:
            return False
        return bool((pages - free) * self._page_bytes >= self._max_bytes)
