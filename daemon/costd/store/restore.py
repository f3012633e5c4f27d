"""Restoring: a backup proved where it will be used, and then put in the place of the ledger that is there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from costd.domain.errors import CostdError, DamagedDatabase
from costd.store import restored
from costd.store.backup import Told, reported, require_room
from costd.store.hub_state import EPOCH_BYTES
from costd.store.ledger_file import Contents, Stopped, contents, faults, opened
from costd.store.lock import LOCK_NAME
from costd.store.part_file import Part, part_file

_PIECE_BYTES = 8 << 20


class Restored(NamedTuple):
    """A ledger that was put in its place; `replaced` is where the one before now is, None where there was none."""

    contents: Contents
    size: int
    replaced: Path | None


def look(backup: Path) -> Contents:
    """What a backup holds, from its own word; raises DamagedDatabase or CostdError where it is none."""
    _require_whole(backup)
    try:
        with opened(backup, alone=True) as connection:
            return contents(connection)
    except sqlite3.Error as error:
        raise DamagedDatabase(f"{backup} is no whole ledger ({error}); try an earlier backup") from None


def restore(backup: Path, database: Path, now_ms: int, *, told: Told, stopped: Callable[[], bool]) -> Restored:
    """Put a copy of `backup` in the place of `database`, whose folder's lock the caller holds.

    What is there is moved aside, log and all. Raises what `look` does, OutOfSpace, Stopped; until the copy is proved
    and on disk the ledger that is there is not touched, and afterwards the new one is in force, even if we are killed
    before everything has its name.
    """
    _require_whole(backup)
    with reported(backup, database), part_file(database) as part:
        require_room(database.parent, backup.stat().st_size)
        _give_to_owner(database.parent, part)
        size = _copy(backup, part, told, stopped)
        told(size, size, "verifying")
        held = _proved(backup, part.path, stopped)
        if stopped():
            raise Stopped
        _renew_lineage(part.path)
        part.sync()
        restored.decide(part.path, database, now_ms)
        return Restored(held, size, restored.finish(database))


def knows_key(database: Path, secret: str) -> bool:
    """Whether the ledger that was just restored takes this key as an admin's."""
    digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
    with opened(database, alone=True) as connection:
        rows = connection.execute("SELECT roles FROM api_key WHERE digest = ? AND revoked_ms IS NULL", (digest,))
        return any("admin" in roles.split(",") for (roles,) in rows)


def _require_whole(backup: Path) -> None:
    log = backup.with_name(f"{backup.name}-wal")
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size:
            raise DamagedDatabase(
                f"{backup} is no finished backup: {log.name} beside it holds a part of it; "
                "`costd backup` makes one file, and so does `sqlite3 LEDGER \"VACUUM INTO 'FILE'\"`"
            )


def _give_to_owner(folder: Path, part: Part) -> None:
    """Root restores for whoever the folder belongs to, and runs the daemon."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(part.descriptor, owner.st_uid, owner.st_gid)
        os.chown(folder / LOCK_NAME, owner.st_uid, owner.st_gid)


def _copy(backup: Path, part: Part, told: Told, stopped: Callable[[], bool]) -> int:
    done = 0
    with backup.open("rb", buffering=0) as source, os.fdopen(os.dup(part.descriptor), "wb", buffering=0) as target:
        size = os.fstat(source.fileno()).st_size
        while piece := source.read(_PIECE_BYTES):
            rest = memoryview(piece)
            while rest:
                rest = rest[target.write(rest) or 0 :]
            done += len(piece)
            told(done, max(done, size), "copying")
            if stopped():
                raise Stopped
    part.sync()
    os.posix_fadvise(part.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return done


def _proved(backup: Path, copy: Path, stopped: Callable[[], bool]) -> Contents:
    try:
        with opened(copy, alone=True) as connection:
            found = faults(connection, stopped)
            held = contents(connection)
    except CostdError as error:  # speak of what the user knows, not of our part
        raise type(error)(error.message.replace(str(copy), str(backup))) from None
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise DamagedDatabase(f"{backup} does not hold ({found[0]}{more}); nothing was changed, try an earlier backup")
    return held


def _renew_lineage(copy: Path) -> None:
    """A hub's ledger that goes back in time is another one: its sources tell it what it lacks, and are told all."""
    with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'hub_state'").fetchone():
            connection.execute("UPDATE hub_state SET epoch = randomblob(?)", (EPOCH_BYTES,))
