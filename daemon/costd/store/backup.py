"""A backup: a copy of a ledger in one file, made while records keep coming, and proved before it gets its name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from costd.domain.errors import CostdError, DamagedDatabase, OutOfSpace
from costd.store.connection import damaged, is_damage
from costd.store.folder import sync_folder
from costd.store.ledger_file import Contents, Stopped, contents, faults, opened
from costd.store.part_file import Part, part_file
from costd.store.restored import pending

#: Pages copied at a time (16 MiB), each time put on disk before the next: all of it at the end would make the daemon's
#: own syncs, on the same disk, wait for all of it.
_STEP_PAGES = 4096
_HASH_BYTES = 1 << 20

#: A file in this mode has no log beside it, whoever opens it; the daemon changes it back at its start. Bytes 18 and 19
#: of the header (https://www.sqlite.org/fileformat.html#file_format_version_numbers).
_PLAIN_VERSIONS = (18, b"\x01\x01")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Told(Protocol):
    """Is told how far a backup has come, and what it is at."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` bytes."""


class Backup(NamedTuple):
    """A finished backup."""

    path: Path
    size: int
    sha256: str
    contents: Contents


def back_up(database: Path, target: Path, *, spare_bytes: int, told: Told, stopped: Callable[[], bool]) -> Backup:
    """Copy the ledger at `database` to `target`, which is replaced if it is there.

    `spare_bytes` stay free on the disk of `target`. Raises CostdError (OutOfSpace for a full disk), DamagedDatabase
    where the ledger does not hold, Stopped; `target` is then as it was, and nothing is left beside it.
    """
    if pending(database) is not None:
        raise CostdError(f"a restore of {database} was cut short; `costd check`, or a start, finishes it")
    with reported(database, target), part_file(target) as part:
        held = _copy(database, part, spare_bytes, told, stopped)
        size = os.fstat(part.descriptor).st_size
        told(size, size, "verifying")
        _verify(database, part.path, held, stopped)
        told(size, size, "adding up")
        digest = sha256_of(part.path, stopped)
        part.path.replace(target)
        sync_folder(target.parent)
    return Backup(target, size, digest, held)


def _copy(database: Path, part: Part, spare_bytes: int, told: Told, stopped: Callable[[], bool]) -> Contents:
    """The ledger at one moment into `part`, on disk when it returns; what it then held."""

    def step(_status: int, remaining_pages: int, pages: int) -> None:
        if stopped():
            raise Stopped
        os.fdatasync(part.descriptor)
        told((pages - remaining_pages) * page_bytes, pages * page_bytes, "copying")

    with opened(database) as source:
        # One read transaction: without it a copy in steps starts over whenever the daemon commits.
        source.execute("BEGIN")
        pages, page_bytes = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        require_room(part.path.parent, pages * page_bytes, spare_bytes)
        with contextlib.closing(sqlite3.connect(part.path, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")  # of a copy that fails, nothing is kept anyway
            copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy, pages=_STEP_PAGES, progress=step)
        held = contents(source)
    os.pwrite(part.descriptor, _PLAIN_VERSIONS[1], _PLAIN_VERSIONS[0])
    part.sync()
    # What is verified is then what the disk has, not what the system remembers; nor does the copy push other data out.
    os.posix_fadvise(part.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return held


def _verify(database: Path, copy: Path, held: Contents, stopped: Callable[[], bool]) -> None:
    with opened(copy, alone=True) as connection:
        found = faults(connection, stopped)
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise DamagedDatabase(
                f"{database} does not hold ({found[0]}{more}): no backup was made; `costd check` says everything"
            )
        if contents(connection) != held:
            raise DamagedDatabase(f"the copy differs from {database}: is the disk of {copy.parent} sound?")


def sha256_of(path: Path, stopped: Callable[[], bool]) -> str:
    """The digest of the file at `path`; raises Stopped."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
            if stopped():
                raise Stopped
    return digest.hexdigest()


def require_room(folder: Path, size: int, spare_bytes: int = 0) -> None:
    """Raise OutOfSpace unless the disk of `folder` takes `size` bytes and has `spare_bytes` left."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size + spare_bytes:
        spare = f" and leave {spare_bytes:,} free" if spare_bytes else ""
        raise OutOfSpace(f"the disk of {folder} is too full: it has to take {size:,} bytes{spare}, and has {free:,}")


@contextlib.contextmanager
def reported(source: Path, target: Path) -> Iterator[None]:
    """Errors met while `source` is copied to `target`, as ours."""
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise damaged(source, str(error)) from None
        raise _failed(source, target, str(error), full=error.sqlite_errorname == "SQLITE_FULL") from None
    except OSError as error:
        raise _failed(source, target, error.strerror or str(error), full=error.errno in _FULL) from None


def _failed(source: Path, target: Path, why: str, *, full: bool) -> CostdError:
    if full:
        return OutOfSpace(f"cannot write {target}: the disk is full; nothing was left behind")
    return CostdError(f"cannot copy {source} to {target}: {why}; nothing was left behind")
