"""The moment at which one ledger takes another's place: decided by one rename, and finished by whoever comes next.

A ledger is up to three files (the database, its log, the log's index), and one ledger with another's log would be
neither. So the new ledger first lies beside the old one under a name that says that it is decided; from then on the old
files are moved aside and the new one into their place, by `finish`, which can be cut short and begun again. Every
opening for writing calls it first.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from costd.store.folder import sync_folder

_STAMP = re.compile(r"\d{8}T\d{9}Z")
#: The database is the last to go: a ledger without its log could be taken for a whole one.
_SUFFIXES = ("-wal", "-shm", "")


def pending(database: Path) -> Path | None:
    """The ledger that is decided on for the place of `database`, but not there yet."""
    prefix = _decided(database, "").name
    try:
        names = sorted(path.name for path in database.parent.iterdir() if path.name.startswith(prefix))
    except OSError:
        return None
    return next((database.with_name(name) for name in names if _STAMP.fullmatch(name, len(prefix))), None)


def decide(part: Path, database: Path, now_ms: int) -> None:
    """Make the ledger at `part`, which is whole and on disk, the one at `database`, whatever happens from now on."""
    while _aside(database, stamp := _stamp(now_ms)).exists():
        now_ms += 1
    part.rename(_decided(database, stamp))
    sync_folder(database.parent)


def finish(database: Path) -> Path | None:
    """Put a ledger in its place that was decided on; where the old one is now, or None where nothing was moved.

    The caller holds the folder's lock. Again is harmless.
    """
    decided = pending(database)
    if decided is None:
        return None
    aside = _aside(database, decided.name.rpartition("-")[2])
    for suffix in _SUFFIXES:
        old = _beside(database, suffix)
        if old.exists():
            old.rename(_beside(aside, suffix))
    sync_folder(database.parent)
    decided.rename(database)
    sync_folder(database.parent)
    return aside if any(_beside(aside, suffix).exists() for suffix in _SUFFIXES) else None


def _stamp(now_ms: int) -> str:
    return f"{datetime.fromtimestamp(now_ms // 1000, UTC):%Y%m%dT%H%M%S}{now_ms % 1000:03d}Z"


def _decided(database: Path, stamp: str) -> Path:
    return _beside(database, f".restored-{stamp}")


def _aside(database: Path, stamp: str) -> Path:
    return _beside(database, f".replaced-{stamp}")


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(f"{database.name}{suffix}")
