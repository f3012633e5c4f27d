"""Which releases of SQLite will do."""

from __future__ import annotations

import sqlite3

SQLITE = sqlite3.sqlite_version_info

#: STRICT tables.
_OLDEST = (3, 37, 0)

#: Since 3.7.0 a checkpoint that begins while another connection resets the log can leave a part of the log out
#: (https://www.sqlite.org/wal.html#walresetbug). Fixed in 3.51.3, and in two older lines. 3.52.0 was withdrawn.
_RESETS_FIXED = (3, 51, 3)
_RESETS_FIXED_IN_LINES = {(3, 44): 6, (3, 50): 7}


def is_too_old(release: tuple[int, ...]) -> bool:
    """Whether the ledger's schema is beyond it."""
    return release < _OLDEST


def loses_resets(release: tuple[int, ...]) -> bool:
    """Whether it has the WAL-reset bug, which takes two connections that write or checkpoint to meet."""
    fixed_patch = _RESETS_FIXED_IN_LINES.get((release[0], release[1]))
    return release < _RESETS_FIXED and (fixed_patch is None or release[2] < fixed_patch)
